"""Reports of inference-perf: summary_, stage_N_ and per_request_lifecycle_metrics.json; all times in seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign.document import Node, json_file, yaml_file
from fleetbench.store.foreign.names import UNKNOWN
from fleetbench.store.foreign.record import Figure, ForeignError, Record, Request, Said, Words
from fleetbench.store.foreign.spread import check_measured, columns, failure, kept_beside

_S = 1000.0
_STATS = {"mean": "mean", "p50": "median", "p90": "p90", "p99": "p99"}
_TIMES = {
    "time_to_first_token": "ttft",
    "time_per_output_token": "tpot",
    "request_latency": "e2e",
    "inter_token_latency": "gap",
}
"""Its inter-token latencies are between chunks, however many tokens each brought: our gaps."""
_APART = "normalized_time_per_output_token"
_STAGE = re.compile(r"stage_(?P<number>\d+)_lifecycle_metrics\.json(\.gz)?")
_CONFIG = "config.yaml"

_WORDS: Words = {}


class InferencePerf:
    """The model and the load are in the config.yaml that it writes beside its reports."""

    name = "inference-perf"
    about = "inference-perf: summary_, stage_N_, per_request_ metrics"
    licence = None
    words = _WORDS

    def read(self, path: Path) -> Iterator[Record]:
        node, config = json_file(path), _config(path)
        if isinstance(node.value, list):
            yield _of_requests(node, config)
            return
        if not node.has("successes") and not node.has("failures"):
            raise node.fail("it has neither successes nor failures: this is no report of lifecycle metrics")
        yield _record(node, config, _stage(path))


def _config(path: Path) -> Node:
    beside = path.with_name(_CONFIG)
    if not beside.is_file():
        return Node(value=None, where="")
    try:
        found = yaml_file(beside)
        found.mapping()
    except ForeignError as error:
        raise ForeignError(": ".join(part for part in (_CONFIG, error.where) if part), error.why) from error
    return found


def _stage(path: Path) -> int | None:
    match = _STAGE.search(path.name)
    return int(match["number"]) if match else None


def _record(node: Node, config: Node, stage: int | None) -> Record:
    good, bad = node.get("successes"), node.get("failures")
    figures, reported = _figures(good)
    completed, failed = good.within("count").count(), bad.within("count").count()
    figures |= {
        "completed_requests": completed,
        "failed_requests": failed,
        "asked_requests": node.within("load_summary", "count").count() or _sum(completed, failed),
    }
    if node.has("goodput_metrics"):
        figures["goodput_per_s"] = node.get("goodput_metrics").get("request_goodput").number()
    check_measured("record 1", figures)
    reason = failure(figures)
    rate_per_s, batch, conditions = _load(node, config, stage)
    return Record(
        where="record 1",
        **_served(config),
        batch=batch,
        rate_per_s=rate_per_s,
        context_tok=_every(good, "prompt_len", "prompt_tokens"),
        output_tok=_every(good, "output_len", "output_tokens"),
        outcome=Outcome.INVALID if reason else Outcome.OK,
        valid=reason is None,
        reason=reason,
        figures=figures,
        reported={**reported, **_achieved(node)},
        conditions={**conditions, **_workload(config)},
    )


def _sum(completed: int | None, failed: int | None) -> int | None:
    return None if completed is None else completed + (failed or 0)


def _figures(good: Node) -> tuple[dict[str, Figure], dict[str, Said]]:
    figures: dict[str, Figure] = {}
    latency, throughput = good.within("latency"), good.within("throughput")
    for key, name in _TIMES.items():
        figures |= columns(latency.within(key), _STATS, name=name, factor=_S)
    rates = {
        "output_tokens_per_sec": "output_tok_s",
        "total_tokens_per_sec": "total_tok_s",
        "requests_per_sec": "requests_per_s",
    }
    figures |= {column: throughput.within(key).positive() for key, column in rates.items()}
    return figures, kept_beside(latency.within(_APART), _STATS, name=_APART, factor=_S)


def _achieved(node: Node) -> dict[str, Said]:
    load = node.within("load_summary")
    return {key: load.within(key).number() for key in ("achieved_rate", "send_duration")}


def _every(good: Node, *keys: str) -> int | None:
    """A length that every request had, by the least and the most; the newer key has the same under another name."""
    for key in keys:
        least, most = good.within(key, "min").number(), good.within(key, "max").number()
        if least and least == most and least == int(least):
            return int(least)
    return None


def _load(node: Node, config: Node, stage: int | None) -> tuple[float | None, int | None, dict[str, Said]]:
    """Arrivals or requests in flight of a stage; a summary over several stages is of none of them."""
    load = config.within("load")
    stages = load.within("stages").items()
    one = stages[stage] if stage is not None and stage < len(stages) else None
    if stage is None and len(stages) == 1:
        one = stages[0]
    batch = None if one is None else one.within("concurrency_level").count() or None
    rate_per_s = None
    if batch is None:
        asked = None if one is None else one.within("rate").positive()
        rate_per_s = node.within("load_summary", "requested_rate").positive() or asked
    conditions: dict[str, Said] = {"load_type": load.within("type").scalar()}
    if one is None and rate_per_s is None:
        conditions["over"] = "all stages"
    return rate_per_s, batch, conditions


def _served(config: Node) -> dict[str, Any]:
    server = config.within("server")
    return {
        "model": server.within("model_name").text() or UNKNOWN,
        "hardware": None,
        "engine": server.within("type").text(),
    }


def _workload(config: Node) -> dict[str, Said]:
    return {
        "data_type": config.within("data", "type").scalar(),
        "api_type": config.within("api", "type").scalar(),
        "streaming": config.within("api", "streaming").flag(),
    }


def _of_requests(node: Node, config: Node) -> Record:
    requests = tuple(_request(one) for one in node.items())
    if not requests:
        raise node.fail("it lists no request")
    good = sum(one.outcome == "ok" for one in requests)
    figures: dict[str, Figure] = {
        "asked_requests": len(requests),
        "completed_requests": good,
        "failed_requests": len(requests) - good,
    }
    reason = failure(figures)
    return Record(
        where="record 1",
        **_served(config),
        outcome=Outcome.INVALID if reason else Outcome.OK,
        valid=reason is None,
        reason=reason,
        figures=figures,
        requests=requests,
        conditions=_workload(config),
    )


def _request(node: Node) -> Request:
    """One request: starts, ends and arrivals of tokens in seconds of one clock."""
    start_ns = node.get("start_time").required().seconds_ns() or 0
    end_ns, error = node.get("end_time").seconds_ns(), node.get("error")
    info = node.get("info")
    counted = info.within("response_metrics") if info.within("response_metrics").value else info
    times = counted.within("output_token_times")
    asked = info.within("request_metrics", "text", "input_tokens")
    arrivals = [one.required().seconds_ns() or 0 for one in times.items()]
    gaps = [later - sooner for sooner, later in pairwise(arrivals)]
    if any(gap < 0 for gap in gaps) or (arrivals and arrivals[0] < start_ns):
        raise times.fail("its arrivals run backwards")
    said = error.within("error_type").text() or error.within("error_msg").text()
    return Request(
        start_ns=start_ns,
        first_token_ns=arrivals[0] if arrivals else None,
        last_token_ns=arrivals[-1] if arrivals else None,
        end_ns=end_ns,
        gaps_ns=tuple(gaps) if arrivals else None,
        prompt_tok=(asked if asked.value is not None else info.within("input_tokens")).count(),
        output_tok=counted.within("output_tokens").count(),
        outcome="ok" if error.value is None else "transport_error",
        error=said or (None if error.value is None else "an error without a name"),
    )
