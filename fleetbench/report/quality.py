"""Quality panels: divergence from the reference and accuracy, of models whose weights were trained."""

from __future__ import annotations

import itertools

import duckdb

from fleetbench.report.columns import columns, of_category, tabulated
from fleetbench.report.query import query
from fleetbench.report.result import Panel, Result, Row, grouped, titled

_SQL = """
SELECT
    k.run_id, r.matrix || '/' || r.run AS run, k.model, k.engine, k.engine_version, k.hardware, k.suite,
    k.recipe, k.kv, k.trials, k.outcome, k.reason, q.category, q.n, q.correct, q.accuracy, q.low, q.high,
    kl.kl_mean_nat, kl.kl_se_nat, kl.positions, kl.top1_agree_ratio, r.reference AS reference_name, k.cell_id
FROM chosen AS k
INNER JOIN runs AS r USING (run_id)
LEFT JOIN quality AS q USING (run_id, cell_id)
LEFT JOIN kl USING (run_id, cell_id)
WHERE k.kind = 'quality' AND NOT k.random_weights
ORDER BY
    k.model, k.engine, k.engine_version, k.hardware, k.suite,
    NOT k.reference, k.place, k.recipe, k.kv, list_position($runs, k.run_id), k.cell_id, q.category
"""
_GROUP = ("model", "engine", "engine_version", "hardware", "suite")
_KEYS = ("run", "recipe", "kv")
_OVERALL = (
    "kl_mean_nat",
    "kl_se_nat",
    "positions",
    "accuracy_pct",
    "low_pct",
    "high_pct",
    "n",
    "outcome",
    "reason",
    "engine_version",
)
_Z2 = 1.959963984540054**2


def quality_panels(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> list[Panel]:
    """Divergence, and accuracy by category, of the quality cells in the table `chosen`."""
    return [panel for group in grouped(query(connection, _SQL, runs), _GROUP) for panel in _panels(group)]


def _panels(rows: list[Row]) -> list[Panel]:
    head = rows[0]
    cells = [list(cell) for _, cell in itertools.groupby(rows, key=lambda row: (row["run_id"], row["cell_id"]))]
    same = tuple(name for name in ("run", "kv") if len({row[name] for row in rows}) == 1)
    keys = len(_KEYS) - len(same)
    dull = ("reason",) if any(row["outcome"] != "ok" for row in rows) else ("outcome", "reason")
    title, version = _titled("Quality", head)
    overall = Panel(
        name="quality",
        title=title,
        result=_overall(cells),
        keys=keys,
        hidden=(*same, *dull, "engine_version"),
        notes=(
            *version,
            f"KL: mean divergence from {head['reference_name']} over the positions, nats; +-: its standard error.",
            "Right: of the items of all categories; low, high: Wilson 95 % interval.",
            *sorted({f"{row['recipe']}: {row['reason']}" for row in rows if row["outcome"] != "ok"}),
        ),
        programs=not any(row["trials"] for row in rows),
    )
    categories = sorted({str(row["category"]) for row in rows if row["category"] is not None})
    if not categories:
        return [overall]
    counts = ", ".join(f"{name} {_count(rows, name)}" for name in categories)
    title, version = _titled("Accuracy by category, %", head)
    by_category = Panel(
        name="accuracy",
        title=title,
        result=_by_category(cells, categories),
        keys=keys,
        hidden=(*same, *(f"{name}_n" for name in categories), "engine_version"),
        notes=(
            *version,
            f"+-: half of the Wilson 95 % interval. Items: {counts}.",
        ),
    )
    return [overall, by_category]


def _titled(what: str, row: Row) -> tuple[str, tuple[str, ...]]:
    return titled(what, str(row["model"]), str(row["suite"]), row=row)


def _overall(cells: list[list[Row]]) -> Result:
    rows: list[Row] = []
    for cell in cells:
        n = sum(_int(row["n"]) for row in cell)
        correct = sum(_int(row["correct"]) for row in cell)
        low, high = wilson_pct(correct, n) or (None, None)
        right = 100 * correct / n if n else None
        rows.append({**cell[0], "accuracy_pct": right, "low_pct": low, "high_pct": high, "n": n or None})
    return tabulated(rows, columns(*_KEYS, *_OVERALL))


def _by_category(cells: list[list[Row]], categories: list[str]) -> Result:
    triples = {name: of_category(name) for name in categories}
    rows: list[Row] = []
    for cell in cells:
        by = {str(row["category"]): row for row in cell}
        values: Row = dict(cell[0])
        for name, (right, half, n) in triples.items():
            row = by.get(name, {})
            interval = wilson_pct(_int(row.get("correct")), _int(row.get("n")))
            accuracy = row.get("accuracy")
            values[right.name] = 100 * accuracy if isinstance(accuracy, float) else None
            values[half.name] = (interval[1] - interval[0]) / 2 if interval else None
            values[n.name] = row.get("n")
        rows.append(values)
    wanted = [column for triple in triples.values() for column in triple]
    return tabulated(rows, (*columns(*_KEYS), *wanted, *columns("engine_version")))


def wilson_pct(correct: int, n: int) -> tuple[float, float] | None:
    """Wilson's 95 % interval in percent; None without an answer. The view `quality` has the same in SQL."""
    if not n:
        return None
    centre = correct + _Z2 / 2
    reach = (_Z2 * (correct * (n - correct) / n + _Z2 / 4)) ** 0.5
    return 100 * (centre - reach) / (n + _Z2), 100 * (centre + reach) / (n + _Z2)


def _count(rows: list[Row], category: str) -> str:
    counts = [_int(row["n"]) for row in rows if row["category"] == category]
    return str(min(counts)) if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
