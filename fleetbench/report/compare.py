"""What a run, or several side by side, came to: speed, latency, quality, both at a glance, drift and coverage."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from fleetbench.errors import InputError
from fleetbench.report.glance import glance_panels
from fleetbench.report.quality import quality_panels
from fleetbench.report.query import query, sentence
from fleetbench.report.result import Panel
from fleetbench.report.speed import speed_panels

_CHOSEN = """\
CREATE OR REPLACE TEMP TABLE chosen AS
SELECT c.*, list_position(json_extract_string(r.matrix_json, '$.recipes[*].name'), c.recipe) AS place
FROM (
SELECT * FROM cells WHERE (
{where}
)
) AS c
INNER JOIN runs AS r USING (run_id)
WHERE c.run_id IN (SELECT unnest($runs))
"""
_COVERAGE = """
SELECT
    run_id, matrix, run, cells_planned, cells_ok, cells_failed, cells_invalid, cells_refused, cells_missing,
    trials_planned, trials_committed, (SELECT count(*) FROM quarantined) AS files_quarantined
FROM coverage WHERE run_id IN (SELECT unnest($runs))
ORDER BY list_position($runs, run_id)
"""
_DRIFT = """
SELECT * FROM (
    SELECT run_id, model, recipe, count(*) AS cells, min(ratio) AS lowest_ratio, max(ratio) AS highest_ratio
    FROM drift SEMI JOIN chosen USING (run_id, cell_id)
    GROUP BY ALL
)
ORDER BY list_position($runs, run_id), model
"""


def compare(connection: duckdb.DuckDBPyConnection, run_ids: Sequence[str], where: str | None = None) -> list[Panel]:
    """Panels over the cells of these runs for which `where` (SQL over a row of `cells`) holds.

    Raises:
        InputError: `where` is no condition over `cells`, or nothing is left to compare.
    """
    runs = {"runs": list(run_ids)}
    _choose(connection, runs, where)
    speed, quality = speed_panels(connection, runs), quality_panels(connection, runs)
    glance = glance_panels(connection, runs)
    drift = [_drift_panel(connection, runs)] if speed else []
    return [*speed, *quality, *glance, *drift, _coverage_panel(connection, runs)]


def _choose(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]], where: str | None) -> None:
    sql = _CHOSEN.replace("{where}", where or "true")
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise InputError((f"--where {where}: give one condition",))
        connection.execute(statements[0], runs)
    except duckdb.Error as error:
        why, _, _ = sentence(error).partition("\nLINE ")  # of our statement, not of the user's text
        raise InputError((f"--where {where}: {why}",)) from error


def _drift_panel(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> Panel:
    result = query(connection, _DRIFT, runs)
    said = [
        f"{recipe} on {model} once more at the end: {low:.2f} to {high:.2f} of its first tok/s (cells: {cells})"
        for _, model, recipe, cells, low, high in result.rows
    ]
    line = "Drift: " + ("; ".join(said) or "not known, the control was not measured")
    return Panel(title="Drift", result=result, keys=3, line=line)


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
    return Panel(title="Coverage", result=result, keys=3, line=line)
