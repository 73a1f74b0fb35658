"""What a run, or several side by side, came to: speed, latency, quality, both at a glance, drift and coverage."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from fleetbench.origin import NO_REFERENCE
from fleetbench.report.chosen import choose
from fleetbench.report.drift import drift_panel
from fleetbench.report.filters import ALL, Filters
from fleetbench.report.glance import glance_panels
from fleetbench.report.parity import parity_panels
from fleetbench.report.quality import quality_panels
from fleetbench.report.query import query
from fleetbench.report.result import Panel
from fleetbench.report.speed import speed_panels
from fleetbench.report.unmeasured import unmeasured_panel

_COVERAGE = """
SELECT
    run_id, matrix, run, cells_planned, cells_ok, cells_failed, cells_invalid, cells_refused, cells_cancelled,
    cells_lost, cells_missing, trials_planned, trials_ok, trials_committed,
    source, licence, (SELECT count(*) FROM quarantined) AS files_quarantined
FROM coverage INNER JOIN (SELECT run_id, source, licence FROM runs) USING (run_id)
WHERE run_id IN (SELECT unnest($runs))
ORDER BY list_position($runs, run_id)
"""

_CONTROLLED = f"SELECT run_id FROM runs WHERE run_id IN (SELECT unnest($runs)) AND reference <> '{NO_REFERENCE}'"  # noqa: S608


def compare(
    connection: duckdb.DuckDBPyConnection,
    run_ids: Sequence[str],
    where: str | None = None,
    filters: Filters = ALL,
) -> list[Panel]:
    """Panels over the cells of these runs for which the filters and `where` (SQL over a row of `cells`) hold.

    Raises:
        InputError: `where` is no condition over `cells`, or no cell is left.
    """
    runs = {"runs": list(run_ids)}
    choose(connection, runs, where, filters)
    speed, quality = speed_panels(connection, runs), quality_panels(connection, runs)
    parity = [panel for run_id in run_ids for panel in parity_panels(connection, run_id) if panel.name == "parity"]
    glance = glance_panels(connection, runs)
    controlled = query(connection, _CONTROLLED, runs).rows
    drift = [drift_panel(connection, runs)] if controlled and any(not panel.programs for panel in speed) else []
    unmeasured = [panel] if (panel := unmeasured_panel(connection)) else []
    return [*speed, *quality, *parity, *glance, *drift, *unmeasured, _coverage_panel(connection, runs)]


def _coverage_panel(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> Panel:
    result = query(connection, _COVERAGE, runs)
    said = []
    for row in result.rows:
        value = dict(zip(result.columns, row, strict=True))
        parts = [f"{value['cells_ok']} of {value['cells_planned']} cells ok"]
        parts += [
            f"{value[f'cells_{word}']} {word}"
            for word in ("failed", "invalid", "refused", "cancelled", "lost", "missing")
            if value[f"cells_{word}"]
        ]
        parts.append(f"{value['trials_ok']} of {value['trials_planned']} trials ok")
        if value["source"]:
            parts.append(f"imported from {value['source']}, licence {value['licence'] or 'not said'}")
        said.append(f"{value['matrix']}/{value['run']} ({value['run_id']}): {', '.join(parts)}")
    line = "Coverage: " + "; ".join(said)
    if result.rows and (lost := result.rows[0][-1]):
        line += f". Unreadable files left out: {lost}, see the view quarantined"
    return Panel(name="coverage", title="Coverage", result=result, keys=3, line=line)
