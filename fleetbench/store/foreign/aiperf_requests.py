"""AIPerf's records of single requests: its own unit beside each value, times on the wall clock in ns."""

from __future__ import annotations

from typing import Literal

from fleetbench.store.foreign.document import Node
from fleetbench.store.foreign.record import Request
from fleetbench.store.foreign.spread import time_factor

NAMED_REQUESTS = {
    "Benchmark Duration": "benchmark_duration",
    "Request Count": "request_count",
    "Error Request Count": "error_request_count",
}
_NS_IN_MS = 1e6
_MOST_NS = 2**62
_HTTP_ERROR = 400


def request(node: Node) -> Request:
    """One line of profile_export.jsonl."""
    stamps, metrics, error = node.get("metadata").required(), node.get("metrics"), node.get("error")
    start_ns = stamps.get("request_start_ns").required().count(_MOST_NS) or 0
    latency_ns, first_ns = _ns(metrics, "request_latency"), _ns(metrics, "time_to_first_token")
    gaps_ns = _gaps(metrics)
    outcome = _outcome(node)
    last_ns = None if first_ns is None or gaps_ns is None else first_ns + sum(gaps_ns)
    end_ns = stamps.get("request_end_ns").count(_MOST_NS)
    if latency_ns is not None:
        end_ns = start_ns + max(latency_ns, last_ns or 0)
    return Request(
        start_ns=start_ns,
        first_token_ns=None if first_ns is None else start_ns + first_ns,
        last_token_ns=None if last_ns is None else start_ns + last_ns,
        end_ns=end_ns,
        gaps_ns=gaps_ns,
        prompt_tok=_count(metrics, "input_sequence_length"),
        output_tok=_count(metrics, "output_sequence_length"),
        phase="warmup" if stamps.get("benchmark_phase").value == "warmup" else "measure",
        outcome=outcome,
        error=None if outcome == "ok" else _error(error),
    )


def _outcome(node: Node) -> Literal["ok", "http_error", "transport_error", "timeout", "cancelled"]:
    error = node.get("error")
    if node.get("metadata").get("was_cancelled").flag():
        return "cancelled"
    if error.value is None:
        return "ok"
    kind, code = error.get("type").text() or "", error.get("code").count() or 0
    if "Cancel" in kind:
        return "cancelled"
    if "Timeout" in kind:
        return "timeout"
    return "http_error" if code >= _HTTP_ERROR else "transport_error"


def _error(error: Node) -> str | None:
    if error.value is None:
        return None
    return ": ".join(part for part in (error.get("type").text(), error.get("message").text()) if part) or None


def _ns(metrics: Node, tag: str) -> int | None:
    if not metrics.has(tag):
        return None
    one = metrics.get(tag)
    value = one.get("value").number()
    return None if value is None else round(value * time_factor(one.get("unit")) * _NS_IN_MS)


def _gaps(metrics: Node) -> tuple[int, ...] | None:
    """Between chunks; none for an answer of one chunk; None where the record lists no arrivals."""
    if not metrics.has("inter_chunk_latency"):
        return () if _count(metrics, "output_sequence_length") == 1 and metrics.has("time_to_first_token") else None
    one = metrics.get("inter_chunk_latency")
    factor = time_factor(one.get("unit")) * _NS_IN_MS
    return tuple(round((gap.required().number() or 0) * factor) for gap in one.get("value").items())


def _count(metrics: Node, tag: str) -> int | None:
    return metrics.get(tag).get("value").count() if metrics.has(tag) else None
