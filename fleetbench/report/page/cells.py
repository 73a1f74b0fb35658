"""The speed cells of a report, with the distributions of their latencies from the stored sketches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from fleetbench.report.query import query
from fleetbench.report.result import Row

LEVELS = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
"""Quantiles of a distribution as a figure draws it, each where a sample can be expected beyond it: p99 from 100 on."""
MOST_CELLS = 3_000
"""Cells that a page carries, so that it stays below 3 MB and a browser draws it in seconds."""

_ENDS = 2
"""Values of an axis that are never left out: the least and the greatest."""

_CELLS = """
WITH several AS (
    SELECT
        run_id, cell_id, min(user_tok_s_p50) AS user_low, max(user_tok_s_p50) AS user_high,
        min(energy_j_per_tok) AS energy_low, max(energy_j_per_tok) AS energy_high
    FROM good_trials
    GROUP BY ALL
)

SELECT
    c.run_id, r.matrix || '/' || r.run AS run, c.cell_id, c.model, c.random_weights, c.recipe, c.reference, k.place,
    c.engine, c.engine_version, c.hardware, c.gpus, c.tp, c.pp, c.dp, c.kv,
    c.batch, c.rate_per_s AS rate, c.context_tok, c.output_tok, c.trials, c.outcome, c.reason, c.power_status,
    c.quality_verdict, unproven(c.quality_verdict) IS NULL AS ships,
    c.output_tok_s, c.output_tok_s_min, c.output_tok_s_max,
    p.tok_s_per_gpu AS per_gpu,
    p.tok_s_per_gpu * c.output_tok_s_min / nullif(c.output_tok_s, 0) AS per_gpu_low,
    p.tok_s_per_gpu * c.output_tok_s_max / nullif(c.output_tok_s, 0) AS per_gpu_high,
    p.tok_s_per_user AS user_tok_s,
    coalesce(s.user_low, p.tok_s_per_user) AS user_low, coalesce(s.user_high, p.tok_s_per_user) AS user_high,
    c.speedup_ratio AS ratio, c.speedup_low_ratio AS ratio_low, c.speedup_high_ratio AS ratio_high, c.no_ratio,
    c.ttft_n, c.ttft_p50_ms, c.ttft_p90_ms, c.ttft_p99_ms, c.itl_n, c.itl_p50_ms, c.itl_p90_ms, c.itl_p99_ms,
    c.energy_j_per_tok AS energy, s.energy_low, s.energy_high, c.energy_n, c.net_j_per_tok AS energy_net,
    m.usd_per_mtok AS cost, coalesce(m.usd_per_mtok_low, m.usd_per_mtok) AS cost_low,
    coalesce(m.usd_per_mtok_high, m.usd_per_mtok) AS cost_high, m.no_cost
FROM cmp_recipe AS c
INNER JOIN chosen AS k USING (run_id, cell_id)
INNER JOIN runs AS r USING (run_id)
LEFT JOIN several AS s USING (run_id, cell_id)
LEFT JOIN (SELECT * FROM pareto WHERE gpus IS NOT NULL) AS p USING (run_id, cell_id)
LEFT JOIN cost_per_mtok AS m USING (run_id, cell_id)
ORDER BY list_position($runs, c.run_id), c.model, c.engine, c.hardware, NOT c.reference, k.place, c.recipe,
    c.batch, c.rate_per_s, c.context_tok, c.output_tok, c.cell_id
"""
_SKETCHES = """
WITH mine AS (
    SELECT run_id, cell_id, {sketch} AS sketch
    FROM sketches SEMI JOIN chosen USING (run_id, cell_id)
    WHERE {sketch} IS NOT NULL
),

ranked AS (
    SELECT
        run_id, cell_id, value, sum(n) OVER (PARTITION BY run_id, cell_id ORDER BY bin NULLS FIRST) AS upto,
        sum(n) OVER (PARTITION BY run_id, cell_id) AS total
    FROM merged_bins(mine)
)

SELECT run_id, cell_id, CAST(any_value(total) AS BIGINT) AS total, {levels}
FROM ranked
GROUP BY ALL
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thinned:
    """The cells that a page carries; said: what was left out, None where nothing was."""

    rows: tuple[Row, ...]
    said: str | None = None


def speed_cells(connection: duckdb.DuckDBPyConnection, runs: Mapping[str, Sequence[str]]) -> list[Row]:
    """A row for each speed cell in the table `chosen`, as `cmp_recipe` has it and with its distributions."""
    found = query(connection, _CELLS, runs)
    rows: list[Row] = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    for name in ("ttft", "itl"):
        of = _distributions(connection, name)
        nothing = dict.fromkeys((*(f"{name}_{level}" for level in LEVELS), f"{name}_samples"))
        for row in rows:
            row.update(of.get((row["run_id"], row["cell_id"]), nothing))
    return rows


def _distributions(connection: duckdb.DuckDBPyConnection, name: str) -> dict[tuple[object, object], Row]:
    """By cell, quantiles of the sketches of all its good trials together, in ms."""
    levels = ", ".join(
        f"min(value) FILTER (upto > floor({q} * (total - 1)) AND total >= {_samples(q)}) AS {name}_{level}"
        for level, q in LEVELS.items()
    )
    found = query(connection, _SKETCHES.format(sketch=f"{name}_sketch", levels=levels))
    return {
        (row[0], row[1]): dict(zip(found.columns[3:], row[3:], strict=True)) | {f"{name}_samples": row[2]}
        for row in found.rows
    }


def _samples(q: float) -> int:
    """From how many samples on a quantile is drawn; the median from the first."""
    return 1 if q == 0.5 else round(1 / min(q, 1 - q))  # noqa: PLR2004 - the median


def thin(rows: Sequence[Row], most: int = MOST_CELLS) -> Thinned:
    """At most so many cells: every hardware, recipe and model stays, at fewer loads; then the first of what is left.

    Loads go by whole batches and contexts, evenly, the least and the greatest kept: what is left is a grid still.
    """
    if len(rows) <= most:
        return Thinned(rows=tuple(rows))
    axes = {name: _distinct(rows, name) for name in ("batch", "context_tok")}
    kept: Sequence[Row] = rows
    while len(kept) > most and any(len(values) > _ENDS for values in axes.values()):
        longest = max(axes, key=lambda name: len(axes[name]))
        axes[longest] = _every_other(axes[longest])
        kept = [row for row in kept if row[longest] in axes[longest]]
    loads = ", ".join(
        f"{label} {', '.join(map(str, axes[name]))}" for name, label in (("batch", "batch"), ("context_tok", "context"))
    )
    said = f"Of {len(rows):,} speed cells the figures and tables have {min(len(kept), most):,}: those at {loads}"
    if len(kept) > most:
        said += ", and of those the first in the order of runs and models"
    return Thinned(rows=tuple(kept[:most]), said=f"{said}. Narrow the report with RUN, --hardware or --recipe.")


def _distinct(rows: Iterable[Row], name: str) -> list[object]:
    """Ascending, what is missing at the end."""
    return sorted({row[name] for row in rows}, key=lambda value: (value is None, value))


def _every_other(values: list[object]) -> list[object]:
    return [*values[:-1:2], values[-1]]
