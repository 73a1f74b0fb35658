"""Benchmark reports of llm-d, 0.1 to 0.2.1, as YAML or JSON: each figure has its unit beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign.document import Node, parsed_json, text, yaml_documents
from fleetbench.store.foreign.names import UNKNOWN
from fleetbench.store.foreign.record import Figure, Record, Said, Words
from fleetbench.store.foreign.spread import check_measured, check_unit, columns, failure, kept_beside, time_factor

_STATS = {"mean": "mean", "p50": "p50", "p90": "p90", "p99": "p99"}
_TIMES = {"time_to_first_token": "ttft", "time_per_output_token": "tpot", "request_latency": "e2e"}
_APART = ("normalized_time_per_output_token", "inter_token_latency")
"""Its inter-token latency is that of the tool it ran: gaps of one, means a request of another."""
_RATES = {
    "output_token_rate": ("output_tok_s", "tokens/s"),
    "total_token_rate": ("total_tok_s", "tokens/s"),
    "request_rate": ("requests_per_s", "queries/s"),
}
_RATES_V1 = {
    "output_tokens_per_sec": "output_tok_s",
    "total_tokens_per_sec": "total_tok_s",
    "requests_per_sec": "requests_per_s",
}
_VERSIONS = ("0.1", "0.2", "0.2.1")

_DEVICES = ("H100 80GB HBM3", "H200", "B200", "A100-SXM4-80GB", "L40S")
_WORDS: Words = {"hardware": {f"NVIDIA-{name.replace(' ', '-')}": f"NVIDIA {name}" for name in _DEVICES}}
"""A node's label in Kubernetes is the device's name with `-` for spaces."""


class LlmD:
    """A report is of one stage; the engines that served it are in its stack."""

    name = "llm-d"
    about = "llm-d benchmark report 0.1, 0.2, 0.2.1: YAML or JSON"
    licence = None
    words = _WORDS

    def read(self, path: Path) -> Iterator[Record]:
        found = text(path)
        reports = [parsed_json(found)] if found.lstrip().startswith("{") else list(yaml_documents(found))
        for number, node in enumerate(reports, start=1):
            version = str(node.get("version").required().scalar())
            if version not in _VERSIONS:
                raise node.get("version").fail(f"{version[:20]} is no version that is known ({', '.join(_VERSIONS)})")
            yield (_record_v1 if version == "0.1" else _record)(node, f"record {number}")


def _record(node: Node, where: str) -> Record:
    performance = node.get("results").required().within("request_performance", "aggregate")
    if performance.value is None:
        raise node.get("results").fail("it has no request_performance.aggregate: no request was measured")
    figures, reported = _latency(performance.within("latency"))
    throughput = performance.within("throughput")
    for key, (column, unit) in _RATES.items():
        values = throughput.within(key)
        if values.value is not None:
            check_unit(values.get("units"), (unit,))
            figures[column] = values.get("mean").positive()
    figures |= _counts(performance.within("requests"))
    load, time = node.within("scenario", "load", "standardized"), node.within("run", "time")
    rate_per_s, batch = load.within("rate_qps").positive(), _in_flight(load)
    return _made(
        where,
        figures,
        reported=reported,
        batch=batch if rate_per_s is None else None,
        rate_per_s=rate_per_s,
        context_tok=_fixed(load.within("input_seq_len")),
        output_tok=_fixed(load.within("output_seq_len")),
        started_at=time.within("start").instant(),
        served=_served(node),
        conditions={
            "tool": load.within("tool").scalar(),
            "max_concurrency": batch if rate_per_s is not None else None,
            "prefix_groups": load.within("prefix", "num_groups").scalar(),
            "multi_turn": load.within("multi_turn", "enabled").flag(),
        },
        said={
            "version": node.get("version").scalar(),
            "uid": node.within("run", "uid").scalar(),
            "eid": node.within("run", "eid").scalar(),
            "stage": load.within("stage").scalar(),
            "tool_version": load.within("tool_version").scalar(),
            "start": time.within("start").scalar(),
            "duration": time.within("duration").scalar(),
        },
    )


def _record_v1(node: Node, where: str) -> Record:
    metrics, scenario = node.get("metrics").required(), node.get("scenario").required()
    figures, reported = _latency(metrics.within("latency"))
    throughput = metrics.within("throughput")
    figures |= {column: throughput.within(key).positive() for key, column in _RATES_V1.items()}
    figures |= {**_counts(metrics.within("requests")), "window_s": metrics.within("time", "duration").positive()}
    engines = scenario.within("platform", "engine").items()
    hosts = scenario.within("host", "accelerator").items()
    served = {
        "model": scenario.within("model", "name").text() or UNKNOWN,
        "weights": scenario.within("model", "quantization").text(),
        "engine": _same([one.within("name").scalar() for one in engines]),
        "engine_version": _same([one.within("version").scalar() for one in engines]),
        **_accelerators([(one, 1, None) for one in hosts]),
    }
    load = scenario.within("load")
    return _made(
        where,
        figures,
        reported=reported,
        started_at=metrics.within("time", "start").unix(),
        served=served,
        conditions={
            "tool": load.within("name").scalar(),
            "load": load.within("type").scalar(),
            "roles": _joined(scenario.within("host", "type")),
        },
        said={"version": node.get("version").scalar()},
    )


def _made(where: str, figures: dict[str, Figure], *, served: dict[str, Any], **rest: Any) -> Record:
    check_measured(where, figures)
    reason = failure(figures)
    conditions = {**rest.pop("conditions"), **served.pop("conditions", {})}
    return Record(
        where=where,
        figures=figures,
        outcome=Outcome.INVALID if reason else Outcome.OK,
        valid=reason is None,
        reason=reason,
        conditions=conditions,
        **served,
        **rest,
    )


def _latency(latency: Node) -> tuple[dict[str, Figure], dict[str, Said]]:
    figures: dict[str, Figure] = {}
    reported: dict[str, Said] = {}
    for key, name in _TIMES.items():
        values = latency.within(key)
        if values.value is not None:
            figures |= columns(values, _STATS, name=name, factor=time_factor(values.get("units")))
    for key in _APART:
        values = latency.within(key)
        if values.value is not None:
            reported |= kept_beside(values, _STATS, name=key, factor=time_factor(values.get("units")))
    return figures, reported


def _counts(requests: Node) -> dict[str, Figure]:
    asked, failed = requests.within("total").count(), requests.within("failures").count()
    unfinished = requests.within("incomplete").count()
    lost = (failed or 0) + (unfinished or 0)
    if asked is not None and lost > asked:
        raise requests.fail(f"{lost} failed or unfinished requests, of {asked}")
    return {
        "asked_requests": asked,
        "completed_requests": None if asked is None else asked - lost,
        "failed_requests": failed,
        "cancelled_requests": unfinished,
    }


def _in_flight(load: Node) -> int | None:
    """Its YAML says `.inf` where there is no limit."""
    asked = load.within("concurrency")
    return None if asked.value in (None, float("inf"), "inf", "Infinity") else asked.count() or None


def _fixed(length: Node) -> int | None:
    if length.within("distribution").value != "fixed":
        return None
    value = length.within("value").number()
    return int(value) if value and value == int(value) else None


def _served(node: Node) -> dict[str, Any]:
    """What of the stack are engines: one word where they agree, their roles among the conditions."""
    stack = node.within("scenario", "stack").items()
    engines = [one for one in stack if one.within("standardized", "kind").value == "inference_engine"]
    found = [one.get("standardized") for one in engines]
    parts = [
        (one.get("accelerator"), one.get("replicas").count() or 1, one.get("role").scalar())
        for one in found
        if one.has("accelerator")
    ]
    served: dict[str, Any] = {
        "model": _same([one.within("model", "name").scalar() for one in found]) or UNKNOWN,
        "engine": _same([one.get("tool").scalar() for one in found]),
        "engine_version": _same([one.get("tool_version").scalar() for one in found]),
        **_accelerators(parts),
    }
    roles = sorted(f"{count} x {role}" for _, count, role in parts if role)
    return {**served, "conditions": {"roles": ", ".join(roles) or None}}


def _accelerators(parts: list[tuple[Node, int, Said]]) -> dict[str, Any]:
    """GPUs of all replicas; parallelism where all have the same."""
    counts = [one.within("count").count() for one, _, _ in parts]
    whole = [count * replicas for count, (_, replicas, _) in zip(counts, parts, strict=True) if count]
    axes = {
        axis: {one.within("parallelism", axis).count() or None for one, _, _ in parts} for axis in ("tp", "pp", "dp")
    }
    return {
        "hardware": _same([one.within("model").scalar() for one, _, _ in parts]),
        "gpus": sum(whole) if parts and len(whole) == len(parts) else None,
        **{axis: next(iter(found)) if len(found) == 1 else None for axis, found in axes.items()},
    }


def _same(words: list[Said]) -> str | None:
    """The word that all of them have; those that differ, in order, as one that no catalog knows."""
    said = sorted({str(word) for word in words if word is not None})
    return " + ".join(said) or None


def _joined(node: Node) -> str | None:
    if not isinstance(node.value, list):
        return None if node.value is None else str(node.scalar())
    return ", ".join(str(one.scalar()) for one in node.items()) or None
