"""Quality by recipe, and beside it what each recipe gives in speed; models of random weights are in neither."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import duckdb

from fleetbench.report.quality import wilson_pct
from fleetbench.report.query import query
from fleetbench.report.result import Row

ALL = "all categories"
_CATEGORIES = """
SELECT
    r.matrix || '/' || r.run AS run, k.model, k.engine, k.engine_version, k.hardware, k.suite, k.recipe, k.reference,
    k.place, k.cell_id, q.category, q.n, q.correct, q.unanswered
FROM chosen AS k
INNER JOIN runs AS r USING (run_id)
INNER JOIN quality AS q USING (run_id, cell_id)
WHERE k.kind = 'quality' AND NOT k.random_weights
ORDER BY list_position($runs, k.run_id), k.model, k.engine, k.hardware, NOT k.reference, k.place, k.recipe, q.category
"""
_DIVERGENCE = """
SELECT
    r.matrix || '/' || r.run AS run, k.model, k.engine, k.engine_version, k.hardware, k.suite, k.recipe, k.reference,
    k.place, kl.positions, kl.kl_mean_nat AS kl, kl.kl_se_nat AS kl_se, kl.top1_agree_ratio AS top1,
    r.reference AS reference_name
FROM chosen AS k
INNER JOIN runs AS r USING (run_id)
INNER JOIN kl USING (run_id, cell_id)
WHERE k.kind = 'quality' AND NOT k.random_weights
ORDER BY list_position($runs, k.run_id), k.model, k.engine, k.hardware, NOT k.reference, k.place, k.recipe
"""

_SPEED_OF = (
    "run",
    "engine",
    "engine_version",
    "hardware",
    "model",
    "random_weights",
    "tp",
    "recipe",
    "reference",
    "place",
)
_SHARED = ("run", "engine", "engine_version", "recipe")

Runs = Mapping[str, Sequence[str]]


def accuracy(connection: duckdb.DuckDBPyConnection, runs: Runs) -> list[Row]:
    """Right answers by recipe and category, those of all categories first, with their Wilson interval in percent."""
    rows = _rows(connection, _CATEGORIES, runs)
    whole: dict[tuple[object, ...], Row] = {}
    for row in rows:
        total = whole.setdefault((row["run"], row["cell_id"]), {**row, "category": ALL, "n": 0, "correct": 0})
        for count in ("n", "correct"):
            total[count] = _int(total[count]) + _int(row[count])
    return [_with_interval(row) for row in (*whole.values(), *rows)]


def divergence(connection: duckdb.DuckDBPyConnection, runs: Runs) -> list[Row]:
    """KL from the reference by recipe, with its standard error as bounds, in nats."""
    rows = _rows(connection, _DIVERGENCE, runs)
    for row in rows:
        mean, error = row["kl"], row["kl_se"]
        if isinstance(mean, float):
            reach = error if isinstance(error, float) else 0.0
            row["kl_low"], row["kl_high"] = max(mean - reach, 0.0), mean + reach
    return rows


def trade(cells: Sequence[Row], answers: Sequence[Row]) -> list[Row]:
    """Each recipe's speed-up, the geometric mean over its loads, beside its accuracy on that engine in that run.

    The model that gives speed and the one that gives quality may differ, and so may their hardware: both are named.
    """
    ratios: dict[tuple[object, ...], list[Row]] = {}
    for cell in cells:
        if isinstance(cell["ratio"], float) and cell["ratio"] > 0:
            ratios.setdefault(tuple(cell[name] for name in _SPEED_OF), []).append(cell)
    whole = [row for row in answers if row["category"] == ALL and row["right"] is not None]
    return [
        dict(zip(_SPEED_OF, key, strict=True)) | _of_ratios(group) | _beside(answer)
        for key, group in ratios.items()
        for answer in whole
        if tuple(answer[name] for name in _SHARED) == tuple(group[0][name] for name in _SHARED)
    ]


def geometric(values: Sequence[float]) -> float:
    """The geometric mean of ratios, which must all be positive."""
    return math.exp(sum(map(math.log, values)) / len(values))


def _of_ratios(cells: Sequence[Row]) -> Row:
    values = [cell["ratio"] for cell in cells if isinstance(cell["ratio"], float)]
    return {"ratio": geometric(values), "ratio_low": min(values), "ratio_high": max(values), "cells": len(values)}


def _beside(answer: Row) -> Row:
    names = ("right", "right_low", "right_high", "n", "suite")
    other = {"quality_model": answer["model"], "quality_hardware": answer["hardware"]}
    return {name: answer[name] for name in names} | other


def _with_interval(row: Row) -> Row:
    n, correct = _int(row["n"]), _int(row["correct"])
    interval = wilson_pct(correct, n) or (None, None)
    right = 100 * correct / n if n else None
    return {**row, "right": right, "right_low": interval[0], "right_high": interval[1]}


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0


def _rows(connection: duckdb.DuckDBPyConnection, sql: str, runs: Runs) -> list[Row]:
    found = query(connection, sql, runs)
    return [dict(zip(found.columns, row, strict=True)) for row in found.rows]
