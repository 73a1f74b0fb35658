"""Speed panels: one set for each model, engine and place."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import duckdb

from fleetbench.report.query import query
from fleetbench.report.result import Panel, Result, titled

_GROUP = ("model", "random_weights", "engine", "engine_version", "hardware", "tp", "pp", "dp", "reference_name")
_KEYS = (
    ("run", "run"),
    ("recipe", "recipe"),
    ("kv", "KV"),
    ("batch", "batch"),
    ("rate_per_s", "rate/s"),
    ("context_tok", "context"),
    ("output_tok", "output"),
)
_OPTIONAL = ("run", "kv", "rate_per_s", "output_tok")
"""Keys that a table leaves out where every row has the same, and says in a note."""
_RATE = (
    ("trials", "n"),
    ("output_tok_s", "tok/s"),
    ("spread_pct", "spread %"),
    ("speedup_ratio", "x ref"),
    ("speedup_low_ratio", "low"),
    ("speedup_high_ratio", "high"),
    ("energy_j_per_tok", "J/tok"),
    ("energy_spread_pct", "J spr. %"),
    ("energy_n", "J n"),
    ("outcome", "outcome"),
    ("reason", "reason"),
)
_TTFT = (
    ("ttft_n", "n"),
    ("ttft_mean_ms", "mean"),
    ("ttft_spread_pct", "spread %"),
    ("ttft_p50_ms", "p50"),
    ("ttft_p90_ms", "p90"),
    ("ttft_p99_ms", "p99"),
    ("prefill_tok_s", "tok/s"),
)
_ITL = (
    ("itl_n", "n"),
    ("itl_mean_ms", "mean"),
    ("itl_spread_pct", "spread %"),
    ("itl_p50_ms", "p50"),
    ("itl_p90_ms", "p90"),
    ("itl_p99_ms", "p99"),
    ("decode_tok_s", "tok/s"),
)
_PROGRAMS = (("engine_version", "version"),)
"""Not shown: a title may lack it."""
_LATENCIES = (
    ("TTFT, ms", _TTFT, "TTFT: time to first token; n: requests; tok/s: prefill of one stream, median."),
    ("ITL, ms", _ITL, "ITL: time between tokens; n: gaps; tok/s: decoding of one stream, median."),
)
_SQL = """
SELECT
    c.*,
    100 * c.output_tok_s_spread_ratio AS spread_pct,
    100 * c.ttft_mean_ms_spread_ratio AS ttft_spread_pct,
    100 * c.itl_mean_ms_spread_ratio AS itl_spread_pct,
    100 * c.energy_spread_ratio AS energy_spread_pct,
    r.matrix || '/' || r.run AS run,
    r.reference AS reference_name
FROM cmp_recipe AS c
INNER JOIN runs AS r USING (run_id)
INNER JOIN chosen AS k USING (run_id, cell_id)
ORDER BY
    c.model, c.engine, c.engine_version, c.hardware, c.tp, c.pp, c.dp, r.reference,
    NOT c.reference, k.place, c.recipe, c.batch, c.rate_per_s, c.context_tok, c.output_tok,
    list_position($runs, c.run_id)
"""

Row = dict[str, object]


def speed_panels(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> list[Panel]:
    """Throughput, time to first token and time between tokens of the cells in the table `chosen`."""
    result = query(connection, _SQL, runs)
    rows: list[Row] = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    return [
        panel
        for _, group in itertools.groupby(rows, key=lambda row: [row[name] for name in _GROUP])
        for panel in _panels(list(group))
    ]


def _panels(rows: list[Row]) -> list[Panel]:
    head = rows[0]
    same = {name for name in _OPTIONAL if len({row[name] for row in rows}) == 1}
    keys = tuple(key for key in _KEYS if key[0] not in same)
    dull = {"reason"} | ({"outcome"} if all(row["outcome"] == "ok" for row in rows) else set())
    if not any(row["energy_n"] for row in rows):
        dull |= {"energy_spread_pct", "energy_n"}
    measured = [row for row in rows if row["trials"]]
    title, version = _titled("Speed", head)
    panels = [
        Panel(
            title=title,
            result=_result(rows, (*_KEYS, *_RATE, *_PROGRAMS)),
            keys=len(keys),
            hidden=tuple(same | dull | dict(_PROGRAMS).keys()),
            notes=(*version, *_notes(rows, same)),
        )
    ]
    for what, columns, note in _LATENCIES if measured else ():
        title, version = _titled(what, head)
        panels.append(
            Panel(
                title=title,
                result=_result(measured, (*_KEYS, *columns, *_PROGRAMS)),
                keys=len(keys),
                hidden=tuple(same | dict(_PROGRAMS).keys()),
                notes=(*version, note),
            )
        )
    return panels


def _titled(what: str, row: Row) -> tuple[str, tuple[str, ...]]:
    engine, version, hardware = (str(row[name]) for name in ("engine", "engine_version", "hardware"))
    return titled(what, model_name(row), engine=engine, version=version, hardware=hardware)


def _result(rows: list[Row], columns: tuple[tuple[str, str], ...]) -> Result:
    return Result(
        columns=tuple(name for name, _ in columns),
        labels=tuple(label for _, label in columns),
        rows=tuple(tuple(row[name] for name, _ in columns) for row in rows),
    )


def model_name(row: Mapping[str, object]) -> str:
    """The model with what changes its meaning: random weights, and over how many devices it is spread."""
    parallel = ", ".join(f"{name} {row[name]}" for name in ("tp", "pp", "dp") if row[name] != 1)
    return f"{row['model']}{' (random weights)' if row['random_weights'] else ''}" + (
        f", {parallel}" if parallel else ""
    )


def _notes(rows: list[Row], same: set[str]) -> tuple[str, ...]:
    head = rows[0]
    fixed = [f"KV {head['kv']}"] * ("kv" in same) + [f"output {head['output_tok']} tokens"] * ("output_tok" in same)
    notes = [
        f"x ref: tok/s over {head['reference_name']}'s at the same load; low, high: over all pairs of trials.",
        "n: trials; spread: (max - min) / median, below of the trials' means.",
    ]
    if fixed:
        notes.append(f"{', '.join(fixed)}.")
    if head["random_weights"]:
        notes.append("Random weights: its speed means something, its quality does not.")
    if why := _power(rows):
        notes.append(f"J/tok is missing: power {why}.")
    return (*notes, *_not_ok(rows))


def _power(rows: list[Row]) -> str:
    words = {str(row["power_status"]) for row in rows if row["trials"] and row["energy_j_per_tok"] is None}
    return ", ".join(sorted(word.replace("_", " ") for word in words))


def _not_ok(rows: list[Row]) -> list[str]:
    """Each reason once, with its cells counted."""
    reasons: dict[tuple[str, str], int] = {}
    for row in rows:
        if row["outcome"] != "ok":
            key = (str(row["outcome"]), str(row["reason"] or "no reason is known"))
            reasons[key] = reasons.get(key, 0) + 1
    return [f"{count} {outcome}: {reason}" for (outcome, reason), count in reasons.items()]
