"""From what a tool reports, what the server truly sent and what the kernel counted, to figures. Nothing here acts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tests.bench.tree import Usage
from tests.truth.run import TruthRequest

_NS_PER_MS = 1e6
_NS_PER_S = 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What a tool says of its run; None where it does not say.

    lead: requests that it sent before those of its figures; loop_cpu_s: of the loop that sends and reads, without
    start-up and parse; complaint: why its own figures are not to be used.
    """

    completed: int
    failed: int
    ttft: Quantiles | None
    itl: Quantiles | None
    lead: int | None = None
    loop_cpu_s: float | None = None
    complaint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What the server truly did, the first `lead` requests left out of all but `tok` and `first_ns`.

    tok: tokens of all requests; first_ns, load_ns: receipt of the first request, and of the first that counts;
    tok_s: of those that count, from the first receipt to the last end; streams: most answers that ran at one time.
    """

    tok: int
    first_ns: int
    load_ns: int
    tok_s: float
    streams: int
    ttft: Quantiles
    itl: Quantiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one tool. `failure` says why there are no figures; `itl_is_mean` as of the tool.

    turn: which repetition, from 0; cpu_s: whole tree, start-up and parse included; load_cpu_s: from the server's
    receipt of the first request that counts to the end; start_s: from exec to the first request's receipt.
    """

    scenario: str
    tool: str
    turn: int
    failure: str | None = None
    complaint: str | None = None
    completed: int | None = None
    failed: int | None = None
    streams: int | None = None
    tok: int | None = None
    tok_s: float | None = None
    cpu_s: float | None = None
    load_cpu_s: float | None = None
    loop_cpu_s: float | None = None
    start_s: float | None = None
    peak_pss_bytes: int | None = None
    peak_rss_bytes: int | None = None
    ttft: Quantiles | None = None
    true_ttft: Quantiles | None = None
    itl: Quantiles | None = None
    true_itl: Quantiles | None = None
    itl_is_mean: bool = False


def sent(log: Sequence[TruthRequest], *, lead: int, itl_is_mean: bool) -> Sent | None:
    """What the server's log says.

    Args:
        log: in order of receipt.
        lead: its first requests that the tool leaves out of its figures.
        itl_is_mean: a request's mean is one value of the ITL, as some tools define it; else each gap is.

    Returns:
        None where no request that counts had two tokens.
    """
    counted = [request for request in log[lead:] if len(request.send_ns) > 1]
    if not counted:
        return None
    gaps_ns = [np.diff(np.frombuffer(request.send_ns, dtype=np.int64)) for request in counted]
    itl_ns = np.array([gaps.mean() for gaps in gaps_ns]) if itl_is_mean else np.concatenate(gaps_ns)
    ttft_ns = np.array([request.send_ns[0] - request.received_ns for request in counted])
    ends_ns = [request.end_ns or request.send_ns[-1] for request in counted]
    load_ns = counted[0].received_ns
    return Sent(
        tok=sum(sum(request.tok) for request in log),
        first_ns=log[0].received_ns,
        load_ns=load_ns,
        tok_s=sum(sum(request.tok) for request in counted) / (max(ends_ns) - load_ns) * _NS_PER_S,
        streams=most_at_once((request.received_ns, end_ns) for request, end_ns in zip(counted, ends_ns, strict=True)),
        ttft=_quantiles(ttft_ns),
        itl=_quantiles(itl_ns),
    )


def _quantiles(values_ns: np.ndarray) -> Quantiles:
    p50, p99 = np.percentile(values_ns, (50, 99)) / _NS_PER_MS
    return Quantiles(p50_ms=float(p50), p99_ms=float(p99))


def most_at_once(spans: Iterable[tuple[int, int]]) -> int:
    """How many of the spans (start, end) overlap at most; one that ends when another starts does not overlap it."""
    edges = sorted(edge for start, end in spans for edge in ((start, 1), (end, -1)))
    running = most = 0
    for _, step in edges:
        running += step
        most = max(most, running)
    return most


def figures(
    *,
    scenario: str,
    tool: str,
    turn: int,
    paced: bool,
    itl_is_mean: bool,
    usage: Usage,
    reported: Reported,
    true: Sent,
) -> Run:
    """One run's figures; latencies only where the server paced its tokens: in a flood they are the client's own."""
    return Run(
        scenario=scenario,
        tool=tool,
        turn=turn,
        complaint=reported.complaint,
        completed=reported.completed,
        failed=reported.failed,
        streams=true.streams,
        tok=true.tok,
        tok_s=true.tok_s,
        cpu_s=usage.cpu_s,
        load_cpu_s=usage.cpu_after_s(true.load_ns),
        loop_cpu_s=reported.loop_cpu_s,
        start_s=(true.first_ns - usage.started_ns) / _NS_PER_S,
        peak_pss_bytes=usage.peak_pss_bytes,
        peak_rss_bytes=usage.peak_rss_bytes,
        ttft=reported.ttft if paced else None,
        true_ttft=true.ttft if paced else None,
        itl=reported.itl if paced else None,
        true_itl=true.itl if paced else None,
        itl_is_mean=itl_is_mean,
    )
