"""What the clients that descend from vLLM's benchmark_serving.py have in common: keys, totals, load, lengths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from fleetbench.store.foreign.document import Node
from fleetbench.store.foreign.record import Figure, Said

_NAMES: Mapping[str, tuple[str, ...]] = {"ttft": ("ttft",), "tpot": ("tpot",), "e2el": ("e2e",), "itl": ("gap", "itl")}
"""Its ITL counts a gap once, however many tokens came: our `gap`, and our `itl` where a chunk is a token."""
_STATS = {"mean": "mean", "median": "p50", "p50": "p50", "p90": "p90", "p99": "p99"}
_KEY = re.compile(r"(?P<stat>mean|median|std|p\d+(?:\.\d+)?)_(?P<name>ttft|tpot|itl|e2el)(?P<unit>_ms)?")
_ONE_TOKEN = 1.2
"""A gap of so many times the time per token and more holds several: TensorRT-LLM sends dozens at once."""
_SURE = 20
"""That n requests of many lengths come to a mean without a fraction has a chance of 1 in n."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What was asked: requests in flight, or arrivals; conditions: what neither says."""

    batch: int | None = None
    rate_per_s: float | None = None
    conditions: Mapping[str, Said] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Columns of `trials`, and in ms under their own names the statistics that have none; what is left out, and why."""

    columns: Mapping[str, Figure]
    reported: Mapping[str, Figure]
    left_out: tuple[str, ...] = ()


def statistics(node: Node, *, unit: str, factor: float, speculative: bool) -> Statistics:
    """The statistics of an object.

    Args:
        node: the object that holds the keys.
        unit: how keys of times end: `_ms`, or nothing.
        factor: of that unit to ms.
        speculative: a step may bring several tokens.
    """
    columns: dict[str, Figure] = {}
    reported: dict[str, Figure] = {}
    for key in node.mapping():
        match = _KEY.fullmatch(key)
        if match is None or (match["unit"] or "") != unit:
            continue
        value = node.get(key).positive(factor)
        stat = _STATS.get(match["stat"])
        if stat is None:
            reported[key if unit else f"{key}_ms"] = value
        else:
            columns |= {f"{name}_{stat}_ms": value for name in _NAMES[match["name"]]}
    why = "with speculative decoding a gap brings several tokens" if speculative else _several(columns)
    if not why or not any(name.startswith("itl_") for name in columns):
        return Statistics(columns=columns, reported=reported)
    kept = {name: value for name, value in columns.items() if not name.startswith("itl_")}
    return Statistics(columns=kept, reported=reported, left_out=(f"its ITL as ours: {why}",))


def _several(columns: Mapping[str, Figure]) -> str | None:
    """Why its ITL is not between tokens: gaps that are longer than a token's time hold several."""
    for stat in ("mean", "p50"):
        gap, token = columns.get(f"gap_{stat}_ms"), columns.get(f"tpot_{stat}_ms")
        if isinstance(gap, float) and isinstance(token, float):
            return "its gaps bring several tokens, by its TPOT" if gap > _ONE_TOKEN * token else None
    return None


def key_of_other_unit(node: Node, unit: str) -> str | None:
    """A key by which the file's times are in another unit than one whose keys end in `unit`."""
    return next(
        (key for key in node.mapping() if (match := _KEY.fullmatch(key)) and (match["unit"] or "") != unit), None
    )


def is_statistic(key: str) -> bool:
    return _KEY.fullmatch(key) is not None


def totals(node: Node, columns: Mapping[str, Figure]) -> dict[str, Figure]:
    """Counts and rates; the samples of `columns` that every answered request gave one of."""
    completed = node.get("completed").required().count()
    asked, failed = node.get("num_prompts").count(), node.get("failed").count()
    window_s = node.get("duration").positive()
    total_tok_s = node.get("total_token_throughput").positive()
    tokens = [node.get(key).count(most=2**62) for key in ("total_input_tokens", "total_output_tokens")]
    if total_tok_s is None and window_s is not None and None not in tokens:
        total_tok_s = sum(count or 0 for count in tokens) / window_s or None
    if failed is None and asked is not None and completed is not None:
        failed = max(asked - completed, 0)
    samples = {f"{name}_n": completed for name in ("ttft", "e2e") if any(column.startswith(name) for column in columns)}
    return {
        "asked_requests": asked,
        "completed_requests": completed,
        "failed_requests": failed,
        "window_s": window_s,
        "output_tok_s": node.get("output_throughput").positive(),
        "total_tok_s": total_tok_s,
        "requests_per_s": node.get("request_throughput").positive(),
        "goodput_per_s": node.get("request_goodput" if node.has("request_goodput") else "request_goodput:").number(),
        **samples,
    }


def load(node: Node) -> Load:
    """`inf` starts every request at once, as far as max_concurrency lets it; a ramp is neither load nor rate."""
    rate, cap = node.get("request_rate"), node.get("max_concurrency").count() or None
    unlimited = rate.value is None or rate.value in ("inf", float("inf"))
    rate_per_s = None if unlimited else rate.positive()
    conditions = {key: node.get(key).value for key in ("ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps")}
    if node.has("burstiness") and (burstiness := node.get("burstiness").number()) != 1:
        conditions["burstiness"] = burstiness
    if rate_per_s is not None:
        conditions["max_concurrency"] = cap
    return Load(batch=cap if rate_per_s is None else None, rate_per_s=rate_per_s, conditions=conditions)


def lengths(node: Node) -> tuple[int | None, int | None]:
    """Prompt and output tokens of every request, where the sums leave hardly a doubt that all had the same."""
    n = node.get("completed").count() or 0
    sums = [node.get(key).count(most=2**62) for key in ("total_input_tokens", "total_output_tokens")]
    whole = [count // n if n and count and count % n == 0 else None for count in sums]
    doubt = n ** sum(length is not None for length in whole)
    return (whole[0], whole[1]) if n == 1 or doubt >= _SURE else (None, None)


def failure(figures: Mapping[str, Figure]) -> str | None:
    """Why the figures are not to be compared: requests failed."""
    completed, failed, asked = (figures.get(f"{name}_requests") for name in ("completed", "failed", "asked"))
    if completed == 0:
        return "no request was answered"
    return f"{failed} of {asked or 'all'} requests failed" if failed else None
