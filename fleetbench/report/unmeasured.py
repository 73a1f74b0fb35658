"""Cells that would be tables without a number: counted by reason in their place."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import duckdb

from fleetbench.report.query import query
from fleetbench.report.result import PAGE, Panel, Row

# A group is what has tables of its own; one with a single good trial is not among them.
_UNMEASURED = """
WITH groups AS (
    SELECT
        *,
        max(trials) OVER (
            PARTITION BY kind, model, random_weights, engine, engine_version, hardware, tp, pp, dp, suite
        ) AS most_trials
    FROM chosen
)

SELECT
    r.matrix || '/' || r.run AS run, g.hardware, g.outcome, g.reason, count(*) AS cells,
    list_sort(list_distinct(list(g.model || ' ' || g.recipe))) AS recipes
FROM groups AS g
INNER JOIN runs AS r USING (run_id)
WHERE g.most_trials = 0
GROUP BY ALL
ORDER BY cells DESC, run, hardware, outcome, reason
"""
_REASONS_SHOWN = 10


def unmeasured_panel(connection: duckdb.DuckDBPyConnection) -> Panel | None:
    """Cells in the table `chosen` of whose model, engine and place nothing was measured; None where there are none."""
    found = query(connection, _UNMEASURED)
    if not found.rows:
        return None
    rows: list[Row] = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    ((chosen,),) = query(connection, "SELECT count(*) AS cells FROM chosen").rows
    return Panel(name="unmeasured", title="Not measured", result=found, keys=2, line=_line(rows, chosen))


def _line(rows: Sequence[Row], chosen: object) -> str:
    cells = sum(row["cells"] for row in rows if isinstance(row["cells"], int))
    head = f"Nothing was measured of {cells} cells:"
    if cells != chosen:
        head = f"Nothing was measured of {cells} of the {chosen} cells, which are in no table:"
    several = len({row["run"] for row in rows}) > 1
    lines = [_counted(row, several=several) for row in rows[:_REASONS_SHOWN]]
    if (more := len(rows) - _REASONS_SHOWN) > 0:
        lines.append(f"- and {more} more reasons (--format json has them all)")
    return "\n".join(
        textwrap.fill(line, PAGE, subsequent_indent="  ", break_on_hyphens=False) for line in (head, *lines)
    )


def _counted(row: Row, *, several: bool) -> str:
    """The reason by its first line; several: of runs, so that a row is of one."""
    reason = str(row["reason"] or "no reason is known").strip().partition("\n")[0]
    run = f" in {row['run']}" if several else ""
    return f"- {row['cells']} {row['outcome']} on {row['hardware']}{run}: {reason}"
