"""Reports of GuideLLM (`benchmarks.json`, or as YAML), from 0.2 on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign.document import Node, json_file, text, yaml_file
from fleetbench.store.foreign.names import UNKNOWN
from fleetbench.store.foreign.record import Figure, Record, Said, Words
from fleetbench.store.foreign.spread import check_measured, columns, failure, kept_beside

_S = 1000.0
_STATS = {"mean": "mean", "p50": "median"}
_PERCENTILES = {"p90": "p90", "p99": "p99"}
_TIMES = {
    "time_to_first_token_ms": ("ttft", 1.0),
    "request_latency": ("e2e", _S),
}
"""Its latency of a request is in seconds."""
_ITL = "inter_token_latency_ms"
"""(last - first) / (n - 1) a request, counted n - 1 times: its mean is that of our ITL, its quantiles are of TPOT only
where all answers have one length."""
_APART = ("time_per_output_token_ms", "time_to_first_output_token_ms")
"""Its time per output token counts from the start of the request, (last - start) / n."""
_RATES = {
    "output_tokens_per_second": "output_tok_s",
    "tokens_per_second": "total_tok_s",
    "requests_per_second": "requests_per_s",
}

_WORDS: Words = {}


class GuideLlm:
    """A report holds a benchmark for each rate or concurrency; its statistics are of the requests that succeeded."""

    name = "guidellm"
    about = "GuideLLM: benchmarks.json or .yaml"
    licence = None
    words = _WORDS

    def read(self, path: Path) -> Iterator[Record]:
        report = json_file(path) if text(path).lstrip().startswith("{") else yaml_file(path)
        if not report.has("benchmarks"):
            raise report.fail("it has no benchmarks: this is no report of GuideLLM")
        for node in report.get("benchmarks").items():
            yield _record(report, node)


def _record(report: Node, node: Node) -> Record:
    figures, reported = _figures(node)
    check_measured(node.where, figures)
    strategy = node.within("config", "strategy") if node.has("config") else node.within("args", "strategy")
    reason = failure(figures)
    lengths = _lengths(report, node)
    started = node.within("start_time")
    return Record(
        where=node.where,
        model=_model(report, node),
        hardware=None,
        engine=None,
        **_load(strategy),
        context_tok=lengths[0],
        output_tok=lengths[1],
        started_at=started.unix() if started.value else None,
        outcome=Outcome.INVALID if reason else Outcome.OK,
        valid=reason is None,
        reason=reason,
        figures=figures,
        reported=reported,
        said={
            "guidellm_version": report.within("metadata", "guidellm_version").scalar(),
            "id": (node.within("config", "id_") if node.has("config") else node.get("id_")).scalar(),
        },
        left_out=_left_out(node),
    )


def _figures(node: Node) -> tuple[dict[str, Figure], dict[str, Said]]:
    metrics = node.get("metrics").required()
    figures: dict[str, Figure] = {}
    reported: dict[str, Said] = {}
    for key, (name, factor) in _TIMES.items():
        values = _successful(metrics, key)
        figures |= columns(values, _STATS, name=name, factor=factor)
        if values.value is not None:
            figures |= columns(values.get("percentiles"), _PERCENTILES, name=name, factor=factor)
            figures[f"{name}_n"] = values.get("count").count(most=2**62)
    itl = _successful(metrics, _ITL)
    if itl.value is not None:
        figures |= {"itl_mean_ms": itl.get("mean").positive(), "itl_n": itl.get("count").count(most=2**62)}
        if _one_length(_successful(metrics, "output_token_count")):
            figures |= {"tpot_mean_ms": itl.get("mean").positive(), "tpot_p50_ms": itl.get("median").positive()}
            figures |= columns(itl.get("percentiles"), _PERCENTILES, name="tpot", factor=1.0)
        else:
            reported |= kept_beside(itl, _STATS, name="inter_token_latency", factor=1.0)
            reported |= kept_beside(itl.get("percentiles"), _PERCENTILES, name="inter_token_latency", factor=1.0)
    for key in _APART:
        reported |= kept_beside(_successful(metrics, key), _STATS, name=key.removesuffix("_ms"), factor=1.0)
    for key, column in _RATES.items():
        values = _successful(metrics, key)
        figures[column] = None if values.value is None else values.get("mean").positive()
    concurrency = _successful(metrics, "request_concurrency")
    figures["concurrency"] = None if concurrency.value is None else concurrency.get("mean").positive()
    return {**figures, **_totals(node, metrics)}, reported


def _one_length(counted: Node) -> bool:
    return counted.value is not None and counted.get("min").number() == counted.get("max").number()


def _successful(metrics: Node, key: str) -> Node:
    """A distribution over the requests that succeeded; of none, its numbers are all 0 and say nothing."""
    values = metrics.within(key, "successful")
    if values.value is not None and values.get("count").number() == 0:
        return Node(value=None, where=values.where)
    return values


def _totals(node: Node, metrics: Node) -> dict[str, Figure]:
    """Counts stand beside the metrics before 0.4, within them since; unfinished ones were cut off at the end."""
    totals = metrics.get("request_totals") if metrics.has("request_totals") else node.get("request_totals")
    if totals.value is None:
        totals = node.within("run_stats", "requests_made")
    if totals.value is None:
        return {}
    window = node.get("duration").positive()
    if window is None and node.has("start_time", "end_time"):
        start, end = node.get("start_time").number(), node.get("end_time").number()
        window = end - start if start is not None and end is not None and end > start else None
    return {
        "asked_requests": totals.get("total").count(),
        "completed_requests": totals.get("successful").required().count(),
        "failed_requests": totals.get("errored").count(),
        "cancelled_requests": totals.get("incomplete").count(),
        "window_s": window,
    }


def _load(strategy: Node) -> dict[str, Any]:
    kind = strategy.within("type_") if strategy.has("type_") else strategy.within("kind")
    cap = strategy.within("max_concurrency").count() or None
    conditions: dict[str, Said] = {"strategy": kind.text()}
    batch, rate_per_s = None, None
    match kind.value:
        case "synchronous":
            batch = 1
        case "concurrent":
            batch = strategy.get("streams").required().count()
        case "constant" | "poisson":
            rate_per_s = strategy.get("rate").required().positive()
            conditions["max_concurrency"] = cap
        case "throughput":
            conditions["max_concurrency"] = cap
    return {"batch": batch, "rate_per_s": rate_per_s, "conditions": conditions}


def _model(report: Node, node: Node) -> str:
    for place in (
        node.within("config", "backend", "model"),
        node.within("worker", "backend_model"),
        report.within("config", "spec", "backend", "model"),
        report.within("args", "model"),
    ):
        if place.value:
            return place.text() or UNKNOWN
    return UNKNOWN


def _lengths(report: Node, node: Node) -> tuple[int | None, int | None]:
    """Of synthetic data without a spread, the lengths that were asked for."""
    sources = report.within("config", "spec", "data")
    sources = sources if sources.value is not None else report.within("args", "data")
    data = sources.value[0] if isinstance(sources.value, list) and len(sources.value) == 1 else None
    data = node.within("request_loader", "data").value if data is None else data
    asked = data if isinstance(data, dict) else _spelled(data)
    return _fixed(asked, "prompt_tokens"), _fixed(asked, "output_tokens")


def _spelled(data: object) -> dict[str, Any]:
    """`prompt_tokens=512,output_tokens=128`, or the same as JSON or YAML: as its command line takes it."""
    if not isinstance(data, str):
        return {}
    try:
        found = yaml.safe_load(data)
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    if isinstance(found, dict):
        return found
    pairs = [part.split("=", 1) for part in data.split(",") if "=" in part]
    return {key.strip(): int(value) for key, value in pairs if value.strip().isdecimal()}


def _fixed(asked: dict[str, Any], key: str) -> int | None:
    length = asked.get(key)
    spread = any(asked.get(f"{key}_{how}") for how in ("stdev", "min", "max"))
    plain = isinstance(length, int) and not isinstance(length, bool) and 0 < length < 2**31
    several = (asked.get("turns") or 1) != 1 or (key == "prompt_tokens" and asked.get("prefix_buckets"))
    return length if plain and not spread and not several else None


def _left_out(node: Node) -> tuple[str, ...]:
    requests = node.within("requests")
    if not isinstance(requests.value, dict):
        return ()
    kept = any(isinstance(value, list) and value for value in requests.value.values())
    return ("requests: it keeps no arrivals of single tokens",) if kept else ()
