"""What a run, or several side by side, came to: speed, latency, quality, both at a glance, drift and coverage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import duckdb

from fleetbench.judge.drift import drifted
from fleetbench.report.chosen import choose
from fleetbench.report.glance import glance_panels
from fleetbench.report.quality import quality_panels
from fleetbench.report.query import query
from fleetbench.report.result import Panel, Result
from fleetbench.report.speed import speed_panels

_COVERAGE = """
SELECT
    run_id, matrix, run, cells_planned, cells_ok, cells_failed, cells_invalid, cells_refused, cells_missing,
    trials_planned, trials_committed, (SELECT count(*) FROM quarantined) AS files_quarantined
FROM coverage WHERE run_id IN (SELECT unnest($runs))
ORDER BY list_position($runs, run_id)
"""
# Of every control on a machine that gave a chosen cell: what a machine did holds for all of its cells.
_DRIFT = """
SELECT * FROM (
    SELECT
        d.run_id, r.matrix || '/' || r.run AS run, d.model, d.recipe,
        count(*) AS cells, min(d.ratio) AS lowest_ratio, max(d.ratio) AS highest_ratio
    FROM drift AS d
    INNER JOIN runs AS r USING (run_id)
    SEMI JOIN (SELECT * FROM chosen WHERE kind = 'speed') AS k ON d.run_id = k.run_id AND d.hardware = k.hardware
    GROUP BY ALL
)
ORDER BY list_position($runs, run_id), model
"""


def compare(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str], where: str | None = None) -> list[Panel]:
    """Panels over the cells of these runs for which `where` (SQL over a row of `cells`) holds.

    Raises:
        InputError: `where` is no condition over `cells`, or holds for none of them.
    """
    runs = {"runs": list(run_ids)}
    choose(connection, runs, where)
    speed, quality = speed_panels(connection, runs), quality_panels(connection, runs)
    glance = glance_panels(connection, runs)
    drift = [_drift_panel(connection, runs)] if speed else []
    return [*speed, *quality, *glance, *drift, _coverage_panel(connection, runs)]


def _drift_panel(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> Panel:
    found = query(connection, _DRIFT, runs)
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    said, warnings = [], []
    for row in rows:
        row["drifted"] = drifted(_ratios([row])).drifted
        said.append(
            f"{row['recipe']} on {row['model']} once more at the end: {row['lowest_ratio']:.2f} to "
            f"{row['highest_ratio']:.2f} of its first tok/s (cells: {row['cells']})"
        )
    for run, group in itertools.groupby(rows, key=lambda row: row["run"]):
        verdict = drifted(_ratios(list(group)))
        if verdict.drifted and verdict.change_pct is not None:
            which = f"run {run}" if len(runs["runs"]) > 1 else "run"
            warnings.append(
                f"WARNING: the machine's own speed changed by {abs(verdict.change_pct):.0f} % during the {which}: "
                "its speeds should not be compared."
            )
    line = " ".join((*warnings, "Drift: " + ("; ".join(said) or "not known, the control was not measured")))
    columns = (*found.columns, "drifted")
    result = Result(columns=columns, rows=tuple(tuple(row[name] for name in columns) for row in rows))
    return Panel(name="drift", title="Drift", result=result, keys=3, line=line, alarm=bool(warnings))


def _ratios(rows: list[dict[str, object]]) -> list[float]:
    values = [row[name] for row in rows for name in ("lowest_ratio", "highest_ratio")]
    return [value for value in values if isinstance(value, float)]


def _coverage_panel(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> Panel:
    result = query(connection, _COVERAGE, runs)
    said = []
    for row in result.rows:
        value = dict(zip(result.columns, row, strict=True))
        parts = [f"{value['cells_ok']} of {value['cells_planned']} cells ok"]
        parts += [
            f"{value[f'cells_{word}']} {word}"
            for word in ("failed", "invalid", "refused", "missing")
            if value[f"cells_{word}"]
        ]
        parts.append(f"{value['trials_committed']} of {value['trials_planned']} trials")
        said.append(f"{value['matrix']}/{value['run']} ({value['run_id']}): {', '.join(parts)}")
    line = "Coverage: " + "; ".join(said)
    if result.rows and (lost := result.rows[0][-1]):
        line += f". Unreadable files left out: {lost}, see the view quarantined"
    return Panel(name="coverage", title="Coverage", result=result, keys=3, line=line)
