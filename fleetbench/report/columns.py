"""Every column of the comparison: its short name, its unit, and by its unit how its numbers are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fleetbench.report.cell import Form
from fleetbench.report.result import Result

FORMS: Mapping[str, Form] = {
    "count": Form(),
    "%": Form(decimals=1),
    "x": Form(decimals=2),
    "ms": Form(decimals=1, whole_from=1000),
    "tok/s": Form(decimals=1, whole_from=1000),
    "MB": Form(decimals=1, whole_from=1000),
    "1/s": Form(decimals=2),
    "J/tok": Form(digits=3),
    "nat": Form(digits=2),
    "+- %": Form(decimals=1, tied=True),
    "+- nat": Form(digits=2, tied=True),
}
"""Decimals by unit: all numbers of a column have the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`unit` is None for what is no number; those that programs alone see have a label too."""

    name: str
    label: str
    unit: str | None

    @property
    def form(self) -> Form | None:
        return None if self.unit is None else FORMS[self.unit]


COLUMNS: Mapping[str, Column] = {
    name: Column(name=name, label=label, unit=unit)
    for name, label, unit in (
        ("run", "run", None),
        ("recipe", "recipe", None),
        ("kv", "KV", None),
        ("batch", "batch", "count"),
        ("rate_per_s", "rate/s", "1/s"),
        ("context_tok", "context", "count"),
        ("output_tok", "output", "count"),
        ("trials", "n", "count"),
        ("output_tok_s", "tok/s", "tok/s"),
        ("spread_pct", "spread %", "%"),
        ("speedup_ratio", "x ref", "x"),
        ("speedup_low_ratio", "low", "x"),
        ("speedup_high_ratio", "high", "x"),
        ("energy_j_per_tok", "J/tok", "J/tok"),
        ("energy_spread_pct", "J spr. %", "%"),
        ("energy_n", "J n", "count"),
        ("outcome", "outcome", None),
        ("reason", "reason", None),
        ("ttft_n", "n", "count"),
        ("ttft_mean_ms", "mean", "ms"),
        ("ttft_spread_pct", "spread %", "%"),
        ("ttft_p50_ms", "p50", "ms"),
        ("ttft_p90_ms", "p90", "ms"),
        ("ttft_p99_ms", "p99", "ms"),
        ("ttft_roofline_pct", "roof %", "%"),
        ("prefill_tok_s", "tok/s", "tok/s"),
        ("itl_n", "n", "count"),
        ("itl_mean_ms", "mean", "ms"),
        ("itl_spread_pct", "spread %", "%"),
        ("itl_p50_ms", "p50", "ms"),
        ("itl_p90_ms", "p90", "ms"),
        ("itl_p99_ms", "p99", "ms"),
        ("itl_roofline_pct", "roof %", "%"),
        ("decode_tok_s", "tok/s", "tok/s"),
        ("kl_mean_nat", "KL", "nat"),
        ("kl_se_nat", "+-", "+- nat"),
        ("positions", "positions", "count"),
        ("accuracy_pct", "right %", "%"),
        ("low_pct", "low", "%"),
        ("high_pct", "high", "%"),
        ("half_width_pct", "+-", "+- %"),
        ("n", "items", "count"),
        ("items", "items", "count"),
        ("artifact_mb", "MB", "MB"),
        ("speedup_geomean_ratio", "x ref", "x"),
        ("speedup_lowest_ratio", "low", "x"),
        ("speedup_highest_ratio", "high", "x"),
        ("speedup_cells", "cells", "count"),
        ("category", "category", None),
        ("verdict", "verdict", None),
        ("why", "why", None),
        ("lost", "lost", "%"),
        ("gained", "gained", "%"),
        ("drop_pct", "drop", "%"),
        ("drop_low_pct", "low", "%"),
        ("drop_high_pct", "high", "%"),
        ("margin_pct", "margin", "%"),
        ("churn_pct", "churn", "%"),
        ("wanted_n", "wanted", "count"),
        ("p_regressed", "p", None),
        ("p_exact", "p exact", None),
        ("contract_id", "contract", None),
        ("speed_model", "speed of", None),
        ("random_weights", "random weights", None),
        ("quality_model", "quality of", None),
        ("quality_verdict", "quality", None),
        ("suite", "suite", None),
        ("engine_version", "version", None),
    )
}


def columns(*names: str, **labels: str) -> tuple[Column, ...]:
    """These columns of the registry; `labels` are other short names for some of them, by column."""
    return tuple(replace(COLUMNS[name], label=labels.get(name, COLUMNS[name].label)) for name in names)


SHORT_VERDICT = """
CASE k.quality_verdict
    WHEN 'REFERENCE' THEN 'ref' WHEN 'INCONCLUSIVE' THEN 'open' WHEN 'UNJUDGED' THEN 'not judged' ELSE k.quality_verdict
END"""
"""As a table of cells `k` has it beside a number."""


def of_category(category: str) -> tuple[Column, Column, Column]:
    """Accuracy in one category, half of its interval, and the number of its items."""
    right, half, n = COLUMNS["accuracy_pct"], COLUMNS["half_width_pct"], COLUMNS["n"]
    return (
        replace(right, name=f"{category}_pct", label=category),
        replace(half, name=f"{category}_half_width_pct"),
        replace(n, name=f"{category}_n", label="n"),
    )


def tabulated(rows: Sequence[Mapping[str, object]], wanted: Sequence[Column]) -> Result:
    """These columns of the rows, each with its label and form."""
    return Result(
        columns=tuple(column.name for column in wanted),
        labels=tuple(column.label for column in wanted),
        forms=tuple(column.form for column in wanted),
        rows=tuple(tuple(row[column.name] for column in wanted) for row in rows),
    )
