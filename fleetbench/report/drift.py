"""Drift: the reference recipe once more at the end of a run, over what it gave at first, by kind of hardware."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import duckdb

from fleetbench.judge.drift import drifted
from fleetbench.report.query import query
from fleetbench.report.result import Panel, Result, Row

# Of every control on a kind that gave a chosen cell: what its machines did holds for all of its cells.
_DRIFT = """
SELECT * FROM (
    SELECT
        d.run_id, r.matrix || '/' || r.run AS run, d.model, d.recipe, d.hardware, d.same_node,
        count(*) AS cells, min(d.ratio) AS lowest_ratio, max(d.ratio) AS highest_ratio
    FROM drift AS d
    INNER JOIN runs AS r USING (run_id)
    SEMI JOIN (SELECT * FROM chosen WHERE kind = 'speed') AS k ON d.run_id = k.run_id AND d.hardware = k.hardware
    GROUP BY ALL
)
ORDER BY list_position($runs, run_id), hardware, NOT same_node, model
"""
_ONE_MACHINE = "local"


def drift_panel(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> Panel:
    """How far the controls of the cells in the table `chosen` are from the first figures, and whether that is too far.

    Controls on another node than the reference was on say how nodes differ, too: they are told of apart.
    """
    found = query(connection, _DRIFT, runs)
    rows: list[Row] = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    for row in rows:
        row["drifted"] = drifted(_ratios([row])).drifted
    warnings = list(_warnings(rows, several=len(runs["runs"]) > 1))
    said = "; ".join(map(_sentence, rows)) or "not known, the control was not measured"
    columns = (*found.columns, "drifted")
    result = Result(columns=columns, rows=tuple(tuple(row[name] for name in columns) for row in rows))
    line = " ".join((*warnings, f"Drift: {said}"))
    return Panel(name="drift", title="Drift", result=result, keys=4, line=line, alarm=bool(warnings))


def _sentence(row: Row) -> str:
    apart = "" if row["same_node"] else " on another node, so with the difference between the two"
    return (
        f"{row['recipe']} on {row['model']}, {row['hardware']}, once more at the end{apart}: "
        f"{row['lowest_ratio']:.2f} to {row['highest_ratio']:.2f} of its first tok/s (cells: {row['cells']})"
    )


def _warnings(rows: Sequence[Row], *, several: bool) -> Iterator[str]:
    for (run, hardware, same_node), group in itertools.groupby(
        rows, key=lambda row: (row["run"], row["hardware"], row["same_node"])
    ):
        verdict = drifted(_ratios(list(group)))
        if not verdict.drifted or verdict.change_pct is None:
            continue
        far = f"{abs(verdict.change_pct):.0f} %"
        which = f"run {run}" if several else "run"
        if same_node:
            whose = "the machine's own speed" if hardware == _ONE_MACHINE else f"the own speed of {hardware}"
            yield f"WARNING: {whose} changed by {far} during the {which}: its speeds should not be compared."
        else:
            yield (
                f"WARNING: two nodes of {hardware} differ by {far}, or one changed during the {which}: its speeds "
                "should be compared within one node alone."
            )


def _ratios(rows: Sequence[Row]) -> list[float]:
    values = [row[name] for row in rows for name in ("lowest_ratio", "highest_ratio")]
    return [value for value in values if isinstance(value, float)]
