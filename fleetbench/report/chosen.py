"""The cells that a comparison is over: the table `chosen`, and all of them as one table for programs."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from fleetbench.errors import InputError
from fleetbench.report.filters import ALL, Filters
from fleetbench.report.query import query, sentence
from fleetbench.report.result import Result

_ONE = 'give one condition, as in "batch = 1"'
_ALONE = "SELECT * FROM cells WHERE\n"
_CHOSEN = """\
CREATE OR REPLACE TEMP TABLE chosen AS
SELECT c.*, list_position(json_extract_string(r.matrix_json, '$.recipes[*].name'), c.recipe) AS place
FROM (
SELECT * FROM cells WHERE {condition}
) AS c
INNER JOIN runs AS r USING (run_id)
WHERE c.run_id IN (SELECT unnest($runs))
"""
_CELLS = """
WITH every_cell AS (
    SELECT * FROM cmp_recipe
    UNION ALL BY NAME
    SELECT * FROM cells WHERE kind <> 'speed'
),

answers AS (
    SELECT run_id, cell_id, CAST(sum(n) AS BIGINT) AS items, sum(correct) / nullif(sum(n), 0) AS accuracy
    FROM quality
    GROUP BY ALL
)

SELECT r.matrix || '/' || r.run AS run, b.*, kl.kl_mean_nat, kl.kl_se_nat, kl.positions, a.accuracy, a.items
FROM every_cell AS b
INNER JOIN chosen AS k USING (run_id, cell_id)
INNER JOIN runs AS r USING (run_id)
LEFT JOIN kl USING (run_id, cell_id)
LEFT JOIN answers AS a USING (run_id, cell_id)
ORDER BY
    list_position($runs, b.run_id), b.kind <> 'speed', b.model, b.engine, b.engine_version, b.hardware,
    NOT b.reference, k.place, b.recipe, b.batch, b.rate_per_s, b.context_tok, b.output_tok, b.suite, b.cell_id
"""
_THERE = """
SELECT
    array_to_string(list_sort(list(DISTINCT hardware)), ', ') AS hardware,
    array_to_string(list_sort(list(DISTINCT recipe)), ', ') AS recipes
FROM cells
WHERE run_id IN (SELECT unnest($runs))
"""
_COUNTED = """
SELECT
    r.matrix || '/' || r.run AS run,
    (SELECT count(*) FROM cells AS c WHERE c.run_id = r.run_id) AS cells,
    (SELECT count(*) FROM chosen AS k WHERE k.run_id = r.run_id) AS cells_chosen
FROM runs AS r
WHERE r.run_id IN (SELECT unnest($runs))
ORDER BY list_position($runs, r.run_id)
"""


def compared_cells(
    connection: duckdb.DuckDBPyConnection,
    run_ids: Sequence[str],
    where: str | None = None,
    filters: Filters = ALL,
) -> Result:
    """One row for each cell that `compare` is over, speed and quality alike; what a kind lacks is NULL.

    The columns are those of the view cmp_recipe, with the run's name, KL in nats and accuracy as a ratio.

    Raises:
        InputError: `where` is no condition over `cells`, or no cell is left.
    """
    runs = {"runs": list(run_ids)}
    choose(connection, runs, where, filters)
    return query(connection, _CELLS, runs)


def choose(
    connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]], where: str | None, filters: Filters = ALL
) -> None:
    """Make the table `chosen`: the cells of these runs for which `where` and filters hold, with their recipe's place.

    Raises:
        InputError: `where` is no condition over `cells`, or no cell is left.
    """
    condition = where if where and where.strip() else "true"
    _check(connection, condition)
    try:
        whole = f"{filters.condition} AND (\n{condition}\n)"  # a line of its own: it may end in a comment
        connection.execute(_CHOSEN.replace("{condition}", whole), runs)
    except duckdb.ParserException as error:  # alone it was none: it goes on after the condition
        raise InputError((f"--where {where}: {_ONE}",)) from error
    except duckdb.Error as error:
        raise InputError((f"--where {where}: {_reason(error)[0]}",)) from error
    asked = [filters.said] * bool(filters) + [f"--where {where}"] * (condition != "true")
    if asked:
        _refuse_none(connection, runs, " ".join(asked), hint=bool(filters))


def _check(connection: duckdb.DuckDBPyConnection, condition: str) -> None:
    """Parse the condition as the end of a statement, so that a mistake is found in it and not in what follows."""
    try:
        statements = connection.extract_statements(_ALONE + condition)
    except duckdb.Error as error:
        reason, place = _reason(error)
        raise InputError((f"--where {condition}: {_ONE if place.startswith('1:') else reason}",)) from error
    if len(statements) != 1:
        raise InputError((f"--where {condition}: {_ONE}",))


def _reason(error: duckdb.Error) -> tuple[str, str]:
    """DuckDB's reason, and apart from it the line that it points at: the number is one of our statement's."""
    reason, _, place = sentence(error).partition("\nLINE ")
    return reason, place


def _refuse_none(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]], asked: str, *, hint: bool) -> None:
    counted = query(connection, _COUNTED, runs).rows
    cells = sum(row[1] for row in counted if isinstance(row[1], int))
    if cells and not any(row[2] for row in counted):
        names = ", ".join(str(row[0]) for row in counted)
        ((hardware, recipes),) = query(connection, _THERE, runs).rows
        there = f": there is hardware {hardware}; recipes {recipes}" if hint else ""
        raise InputError((f"{asked}: none of the {cells} cells of {names} matches{there}",))
