"""Parity panels: what each recipe lost against the reference, category by category, and the verdict."""

from __future__ import annotations

import itertools

import duckdb

from fleetbench.report.columns import columns, tabulated
from fleetbench.report.query import query
from fleetbench.report.result import Panel, Row, grouped, titled

_SQL = """
SELECT
    p.run_id, p.cell_id, p.model, p.suite, p.engine, p.engine_version, p.hardware, p.recipe, p.kv, p.category,
    p.verdict, p.why, p.warnings, p.n, p.lost, p.gained, 100 * p.drop AS drop_pct, 100 * p.low AS drop_low_pct,
    100 * p.high AS drop_high_pct, 100 * p.margin AS margin_pct, 100 * p.churn AS churn_pct, p.wanted_n, p.p_regressed,
    p.p_exact, p.contract_id, r.reference AS reference_name
FROM parity AS p
INNER JOIN runs AS r USING (run_id)
WHERE p.run_id = $run AND p.verdict <> 'REFERENCE'
ORDER BY
    p.model, p.suite, p.engine, p.engine_version, p.hardware, p.tp, p.pp, p.dp,
    p.recipe, p.kv, p.cell_id, p.category <> 'all', p.drop DESC, p.category
"""
_GROUP = ("model", "suite", "engine", "engine_version", "hardware")
_KEYS = ("recipe", "kv")
_FIGURES = ("n", "lost", "gained", "drop_pct", "drop_low_pct", "drop_high_pct", "margin_pct")
_PROGRAMS = ("churn_pct", "wanted_n", "p_regressed", "p_exact", "contract_id", "why")
_WARNED = 3
"""Warnings of one candidate that are said; they are alike for all categories."""


def parity_panels(connection: duckdb.DuckDBPyConnection, run_id: str) -> list[Panel]:
    """For each model and place the verdicts, then the categories that they follow from."""
    found = query(connection, _SQL, {"run": run_id})
    return [panel for group in grouped(found, _GROUP) for panel in _panels(group)]


def _panels(rows: list[Row]) -> list[Panel]:
    head = rows[0]
    same = ("kv",) if len({row["kv"] for row in rows}) == 1 else ()
    cells = [list(cell) for _, cell in itertools.groupby(rows, key=lambda row: row["cell_id"])]
    title, version = titled(f"Parity with {head['reference_name']}", str(head["model"]), str(head["suite"]), row=head)
    verdicts = Panel(
        name="parity",
        title=title,
        result=tabulated([_worst(cell) for cell in cells], columns(*_KEYS, "verdict", "category", *_FIGURES, "why")),
        keys=2 - len(same),
        hidden=(*same, "lost", "gained", "why"),
        notes=(
            *version,
            "Of its worst category: drop of the share that is right; low, high: one-sided",
            "95 % bounds; margin: what may be lost; in points. PASS: each high is below it.",
            *(f"{_named(cell[0], same)}: {cell[0]['why']}" for cell in cells if cell[0]["why"]),
            *_warnings(cells),
        ),
    )
    judged = [row for row in rows if row["category"] != "all"]
    if not judged:
        return [verdicts]
    margins = {row["margin_pct"] for row in judged}
    dull = ("margin_pct",) if len(margins) == 1 else ()
    by_category = Panel(
        name="parity_categories",
        title="By category",
        result=tabulated(judged, columns(*_KEYS, "category", "verdict", *_FIGURES, *_PROGRAMS)),
        keys=3 - len(same),
        hidden=(*same, *dull, *_PROGRAMS),
        notes=(
            "lost, gained: items that only the reference, only the recipe has right.",
            *(f"Margin: {margin:g} points." for margin in margins if dull),
        ),
    )
    return [verdicts, by_category]


def _worst(cell: list[Row]) -> Row:
    """The verdict on a candidate, with the figures of the category whose bound is furthest above its margin."""
    whole, *categories = cell
    if not categories:
        return whole
    worst = max(categories, key=lambda row: float(str(row["drop_high_pct"])) - float(str(row["margin_pct"])))
    return {**worst, "verdict": whole["verdict"], "why": whole["why"], "recipe": whole["recipe"], "kv": whole["kv"]}


def _named(row: Row, same: tuple[str, ...]) -> str:
    return str(row["recipe"]) if same else f"{row['recipe']} (KV {row['kv']})"


def _warnings(cells: list[list[Row]]) -> list[str]:
    """What every candidate is warned of, once."""
    said = [warning for cell in cells for warning in _texts(cell[0]["warnings"])]
    distinct = list(dict.fromkeys(said))
    more = len(distinct) - _WARNED
    return [*distinct[:_WARNED], *([f"and {more} warnings more: the view parity has them"] if more > 0 else [])]


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []
