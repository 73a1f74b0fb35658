"""Verdicts of the parity gate by recipe and category, as a report has them: in points of the share that is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from fleetbench.report.query import query
from fleetbench.report.result import Row

_SQL = """
SELECT
    r.matrix || '/' || r.run AS run, p.model, p.engine, p.engine_version, p.hardware, p.suite, p.recipe, k.reference,
    k.place, p.category, p.verdict, p.why, p.n, p.lost, p.gained, 100 * p.drop AS loss, 100 * p.low AS loss_low,
    100 * p.high AS loss_high, 100 * p.margin AS margin, p.wanted_n
FROM parity AS p
INNER JOIN chosen AS k USING (run_id, cell_id)
INNER JOIN runs AS r USING (run_id)
WHERE p.verdict <> 'REFERENCE'
ORDER BY
    list_position($runs, p.run_id), p.model, p.engine, p.hardware, k.place, p.recipe, p.category <> 'all', p.category
"""


def parity(connection: duckdb.DuckDBPyConnection, runs: Mapping[str, Sequence[str]]) -> list[Row]:
    """A row for each candidate as a whole (category all) and one for each category that was judged."""
    found = query(connection, _SQL, runs)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]
