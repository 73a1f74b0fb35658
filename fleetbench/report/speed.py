"""Speed panels: one set for each model, engine and place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb

from fleetbench.origin import NO_REFERENCE
from fleetbench.report.columns import SHORT_VERDICT, columns, tabulated
from fleetbench.report.query import query
from fleetbench.report.result import Panel, Row, grouped, titled

_GROUP = ("model", "random_weights", "engine", "engine_version", "hardware", "tp", "pp", "dp", "reference_name")
_KEYS = ("run", "recipe", "kv", "batch", "rate_per_s", "context_tok", "output_tok")
_OPTIONAL = ("run", "kv", "rate_per_s", "output_tok")
"""Keys that a table leaves out where every row has the same, and says in a note."""
_RATE = (
    "trials",
    "output_tok_s",
    "spread_pct",
    "speedup_ratio",
    "speedup_low_ratio",
    "speedup_high_ratio",
    "verdict",
    "energy_j_per_tok",
    "energy_spread_pct",
    "energy_n",
    "outcome",
    "reason",
    "quality_verdict",
    "quality_model",
)
_TTFT = (
    "ttft_n",
    "ttft_mean_ms",
    "ttft_spread_pct",
    "ttft_p50_ms",
    "ttft_p90_ms",
    "ttft_p99_ms",
    "ttft_roofline_pct",
    "prefill_tok_s",
)
_ITL = (
    "itl_n",
    "itl_mean_ms",
    "itl_spread_pct",
    "itl_p50_ms",
    "itl_p90_ms",
    "itl_p99_ms",
    "itl_roofline_pct",
    "decode_tok_s",
)
_OF_REFERENCE = {"speedup_ratio", "speedup_low_ratio", "speedup_high_ratio"}
_PROGRAMS = ("engine_version",)
"""Not shown: a title may lack it."""
_MEANS = "spread %: the highest of the trials' means less the lowest, over their median."
_QUANTILES = "p50, p90, p99: the median of what each trial has; mean: over all of their n."
_FLOOR = (
    "roof %: the least time that bandwidth and matrix units allow, over the mean; at 100 the hardware is the limit."
)
_LATENCIES = (
    (
        "ttft",
        "TTFT, ms",
        _TTFT,
        ("TTFT: time to first token; n: requests; tok/s: prefill of one stream, median.", _QUANTILES, _MEANS, _FLOOR),
    ),
    (
        "itl",
        "ITL, ms",
        _ITL,
        ("ITL: time between tokens; n: gaps; tok/s: decoding of one stream, median.", _QUANTILES, _MEANS, _FLOOR),
    ),
)
_SQL = f"""
SELECT
    c.*,
    {SHORT_VERDICT} AS verdict,
    100 * c.output_tok_s_spread_ratio AS spread_pct,
    100 * c.ttft_mean_ms_spread_ratio AS ttft_spread_pct,
    100 * c.itl_mean_ms_spread_ratio AS itl_spread_pct,
    100 * c.energy_spread_ratio AS energy_spread_pct,
    100 * c.ttft_roofline_ratio AS ttft_roofline_pct,
    100 * c.itl_roofline_ratio AS itl_roofline_pct,
    r.matrix || '/' || r.run AS run,
    r.reference AS reference_name
FROM cmp_recipe AS c
INNER JOIN runs AS r USING (run_id)
INNER JOIN chosen AS k USING (run_id, cell_id)
ORDER BY
    c.model, c.engine, c.engine_version, c.hardware, c.tp, c.pp, c.dp, r.reference,
    NOT c.reference, k.place, c.recipe, c.batch, c.rate_per_s, c.context_tok, c.output_tok,
    list_position($runs, c.run_id)
"""  # noqa: S608 - our own text


def speed_panels(connection: duckdb.DuckDBPyConnection, runs: dict[str, list[str]]) -> list[Panel]:
    """Throughput, time to first token and time between tokens of the cells in the table `chosen`."""
    return [panel for group in grouped(query(connection, _SQL, runs), _GROUP) for panel in _panels(group)]


def _panels(rows: list[Row]) -> list[Panel]:
    head = rows[0]
    same = {name for name in _OPTIONAL if len({row[name] for row in rows}) == 1}
    keys = len(_KEYS) - len(same)
    dull = {"reason", "quality_verdict", "quality_model"} | (
        {"outcome"} if all(row["outcome"] == "ok" for row in rows) else set()
    )
    bare = head["reference_name"] == NO_REFERENCE
    if not any(row["verdict"] for row in rows):
        dull.add("verdict")
    if not any(row["energy_n"] for row in rows):
        dull |= {"energy_spread_pct", "energy_n"} | ({"energy_j_per_tok"} if bare else set())
    if bare:
        dull |= _OF_REFERENCE
    measured = [row for row in rows if row["trials"]]
    title, version = titled("Speed", model_name(head), row=head)
    panels = [
        Panel(
            name="speed",
            title=title,
            result=tabulated(rows, columns(*_KEYS, *_RATE, *_PROGRAMS)),
            keys=keys,
            hidden=(*same, *dull, *_PROGRAMS),
            notes=(*version, *_notes(rows, same)),
            programs=not measured or (bare and all(row["output_tok_s"] is None for row in measured)),
        )
    ]
    for name, what, latencies, notes in _LATENCIES if measured else ():
        title, version = titled(what, model_name(head), row=head)
        roof = f"{name}_roofline_pct"
        unknown = all(row[roof] is None for row in measured)
        empty = {column for column in latencies if all(row[column] is None for row in measured)} if bare else set()
        if len(empty) == len(latencies):
            continue
        panels.append(
            Panel(
                name=name,
                title=title,
                result=tabulated(measured, columns(*_KEYS, *latencies, *_PROGRAMS)),
                keys=keys,
                hidden=(*same, *_PROGRAMS, *sorted(empty | ({roof} if unknown else set()))),
                notes=(*version, *(note for note in notes if not (unknown and note == _FLOOR))),
            )
        )
    return panels


def model_name(row: Mapping[str, object]) -> str:
    """The model with what changes its meaning: random weights, and over how many devices it is spread."""
    parallel = ", ".join(f"{name} {row[name]}" for name in ("tp", "pp", "dp") if row[name] not in (1, None))
    return f"{row['model']}{' (random weights)' if row['random_weights'] else ''}" + (
        f", {parallel}" if parallel else ""
    )


def _notes(rows: list[Row], same: set[str]) -> tuple[str, ...]:
    head = rows[0]
    fixed = [
        f"{word} {head[name]}{unit}"
        for name, word, unit in (("kv", "KV", ""), ("output_tok", "output", " tokens"))
        if name in same and head[name] is not None
    ]
    bare = head["reference_name"] == NO_REFERENCE
    notes = ["n: trials; spread %: the fastest trial less the slowest, over their median."]
    if not bare:
        x_ref = f"x ref: tok/s over {head['reference_name']}'s at the same load; low, high: over all pairs of trials."
        notes.insert(0, x_ref)
    if fixed:
        notes.append(f"All cells: {', '.join(fixed)}.")
    if not bare and (why := missing_reference(rows, "speedup_ratio")):
        notes.append(why)
    if judged := sorted({str(row["quality_model"]) for row in rows if row["quality_model"]}):
        notes.append(f"verdict: of the parity gate, by {' and '.join(judged)}; open: not decided.")
    if head["random_weights"]:
        notes.append("Random weights: its speed means something, its quality does not.")
    if not bare and (why := _power(rows)):
        notes.append(f"J/tok is missing: power {why}.")
    return (*notes, *_not_ok(rows))


def missing_reference(rows: Sequence[Mapping[str, object]], ratio: str) -> str | None:
    """Why there is no speed-up, where what was measured has none; rows name their `reference_name`."""
    measured = [row for row in rows if row["trials"]]
    lacking = [row for row in measured if row[ratio] is None]
    if not lacking:
        return None
    reference = lacking[0]["reference_name"]
    if len(lacking) == len(measured):
        return f"x ref is missing: {reference} was not measured."
    return f"x ref is missing where {reference} was not measured at the same load."


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
