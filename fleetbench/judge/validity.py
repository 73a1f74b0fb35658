"""Whether a trial's numbers may be compared: asked against counted by the server, and the client against its task."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from fleetbench.matrix.types import Outcome
from fleetbench_collectors.load.evidence import Client, Counts

BOS_TOK = 1
"""A server may report the shared begin-of-sequence token as cached: no prefix cache helped."""
MERGED_RATIO = 0.01
"""Chunks that may share a stamp with one before them: more of them move a 99th percentile."""
MERGED_CHUNKS = 10
FIRST_MERGED_RATIO = 0.05
"""Requests whose first chunk may do so, where the client was late: it moves the time to first token of a few only.
They may be far fewer than 1 % of all chunks."""
LAG_SAMPLES = 100
"""Fewer say nothing of a 99th percentile: a machine that hesitated once is no client that cannot keep up."""
GAP_HALF_RATIO = 0.5
"""Of the median gap between chunks, with kernel stamps: a client later than that meets the next chunk of a stream,
whose stamp then stands for both. Below it, chunks that come together were sent together. Being late alone moves no
stamp."""
GAP_USER_RATIO = 0.10
"""Of the median gap between arrivals, with user stamps: the lag is part of every number."""
TTFT_LAG_RATIO = 0.05
"""Of the median time to first token, in place of either where streams have no gaps."""
WAKE_MS = 0.1
"""No lag: what an idle machine takes to wake a process. What comes closer together is one arrival to anybody."""
SATURATED_RATIO = 0.95
SATURATED_LAG_MS = 1.0
"""A process that has no CPU time left and reads late fills the server's socket buffers: the server waits for it."""
QUEUE_MS = 1.0
QUEUE_INTERVAL_RATIO = 0.05
QUEUE_TTFT_RATIO = 0.01
"""The largest of the three is what a scheduled start may be late: a timer's resolution, a change of the arrivals'
pattern that no queue notices, a share of the time to first token that no repeat resolves."""
BATCH_RATIO = 0.90
"""Of the places asked for, in flight on average: below it the load was another."""
STEP_NS = 1_000_000
"""Kernel stamps are of the wall clock: a step moves those after it against those before it."""
STEADY_RATIO = 0.25
"""Of a trial: with less the figures are mostly of its beginning and end."""
FLOOR_RATIO = 0.90
"""Of the roofline's floor, for ITL that of one sequence alone: below it a time is a measuring error. The tenth is for
the catalog's bandwidth and peaks, which devices miss by some percent either way."""
KINDS_MAX = 5
"""Of failures or lengths, each a sentence; the rest is counted."""


class Kind(StrEnum):
    """What is wrong; UNVERIFIED leaves a trial valid."""

    FAILED = "failed"
    CLIENT_BOUND = "client_bound"
    OFF_SCHEDULE = "off_schedule"
    WRONG_LENGTHS = "wrong_lengths"
    CACHE_POLLUTED = "cache_polluted"
    NO_STEADY_STATE = "no_steady_state"
    CLOCK_STEP = "clock_step"
    ABOVE_ROOFLINE = "above_roofline"
    UNVERIFIED = "unverified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """A sentence says what is wrong, the figure, and what to do next."""

    kind: Kind
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Validity:
    """reason: the sentences of what makes it invalid; reasons: these and the warnings."""

    outcome: Outcome
    reason: str | None
    reasons: tuple[Reason, ...]

    @property
    def valid(self) -> bool:
        return self.outcome is Outcome.OK

    @property
    def verdict(self) -> str:
        """`valid`, or the kinds of what is wrong, joined by commas."""
        kinds = dict.fromkeys(reason.kind.value for reason in self.reasons if reason.kind is not Kind.UNVERIFIED)
        return ",".join(kinds) or "valid"

    @property
    def warnings(self) -> tuple[Reason, ...]:
        return tuple(reason for reason in self.reasons if reason.kind is Kind.UNVERIFIED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a trial is held to.

    strict: a length that the server does not confirm is a wrong one, not a warning; calibrated: the prompts were
    made to the lengths that the server counts; shared_tok: tokens of a prompt that the cache may hold: a shared prefix
    that was asked for, a template, the begin of sequence.
    """

    strict: bool = True
    calibrated: bool = True
    shared_tok: int = BOS_TOK


FLEET = Terms()


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """What was measured, and what the hardware allows at best; None where nobody knows."""

    ttft_p50_ms: float | None
    ttft_floor_ms: float | None
    itl_mean_ms: float | None
    itl_floor_ms: float | None


def judge(counts: Counts, client: Client | None = None, terms: Terms = FLEET, speed: Speed | None = None) -> Validity:
    """Valid only if every request did what was asked without a cache's help, and client and hardware can do it."""
    reasons = [*_failed(counts), *_lengths(counts, terms), *_cached(counts, client, terms)]
    reasons += _too_fast(speed) if speed else ()
    if client is not None:
        rules = (_client_bound, _first_chunks, _off_schedule, _clock, _steady)
        reasons += [reason for rule in rules for reason in rule(client)]
    wrong = [reason.sentence for reason in reasons if reason.kind is not Kind.UNVERIFIED]
    return Validity(
        outcome=Outcome.INVALID if wrong else Outcome.OK, reason="; ".join(wrong) or None, reasons=tuple(reasons)
    )


def _failed(counts: Counts) -> Iterator[Reason]:
    for kind, n in counts.failures[:KINDS_MAX]:
        yield Reason(kind=Kind.FAILED, sentence=f"{n} of {counts.asked} requests failed: {kind}")
    rest = sum(n for _, n in counts.failures[KINDS_MAX:])
    if rest:
        yield Reason(kind=Kind.FAILED, sentence=f"{rest} of {counts.asked} requests failed in other ways")
    unstarted = counts.asked - counts.completed - counts.cancelled - sum(n for _, n in counts.failures)
    if unstarted > 0:
        yield Reason(kind=Kind.FAILED, sentence=f"{unstarted} of {counts.asked} requests never ran")
    if counts.warmup_failed:
        yield Reason(kind=Kind.FAILED, sentence=f"{counts.warmup_failed} warm-up requests failed")


def _lengths(counts: Counts, terms: Terms) -> Iterator[Reason]:
    checks = (
        ("prompt", counts.asked_prompt_tok, counts.wrong_prompt_tok, terms.calibrated),
        ("output", counts.asked_output_tok, counts.wrong_output_tok, True),
    )
    for what, asked, wrong, known in checks:
        for got, n in wrong[:KINDS_MAX]:
            lax = not terms.strict and (got is None or not known)
            count = "no count of" if got is None else got
            yield Reason(
                kind=Kind.UNVERIFIED if lax else Kind.WRONG_LENGTHS,
                sentence=f"{n} requests have {count} {what} tokens by the server's usage, asked: {asked or 'various'}",
            )
        rest = sum(n for _, n in wrong[KINDS_MAX:])
        if rest:
            yield Reason(
                kind=Kind.WRONG_LENGTHS if terms.strict or known else Kind.UNVERIFIED,
                sentence=f"{rest} requests have yet other counts of {what} tokens by the server's usage",
            )


def _cached(counts: Counts, client: Client | None, terms: Terms) -> Iterator[Reason]:
    remedy = "" if terms.strict else ": send prompts that it has not seen, or switch its prefix cache off"
    if counts.cached_tok > terms.shared_tok:
        said = f"the server took {counts.cached_tok} prompt tokens of a request from a cache{remedy}"
        yield Reason(kind=Kind.CACHE_POLLUTED, sentence=said)
    elif client is not None and (client.cache_hit_tok or 0) > terms.shared_tok * client.sent:
        said = f"the server's metrics count {client.cache_hit_tok} prompt tokens of {client.sent} requests from a cache"
        yield Reason(kind=Kind.CACHE_POLLUTED, sentence=said + remedy)


def _client_bound(client: Client) -> Iterator[Reason]:
    """Late reading; each constant that it uses says what it guards."""
    if client.read_lag_p99_us is None or client.lag_n < LAG_SAMPLES:
        if client.stamp is not None and not client.lag_n:
            yield Reason(kind=Kind.UNVERIFIED, sentence="the client took no sample of how late it read")
        return
    lag_ms, cpu_ratio = client.read_lag_p99_us / 1e3, client.cpu_ratio or 0
    user, merged = (
        client.stamp == "user",
        (client.merged_ratio or 0) > MERGED_RATIO and client.merged_chunks >= MERGED_CHUNKS,
    )
    limit_ms, pace = WAKE_MS, "responses come whole"
    if client.gap_p50_ms is not None:
        gap_ms = client.gap_p50_ms if user else _chunk_gap_ms(client, client.gap_p50_ms)
        limit_ms = (GAP_USER_RATIO if user else GAP_HALF_RATIO) * gap_ms
        pace = f"chunks come every {gap_ms:.3g} ms"
    elif client.ttft_p50_ms is not None:
        limit_ms, pace = TTFT_LAG_RATIO * client.ttft_p50_ms, f"the first token takes {client.ttft_p50_ms:.3g} ms"
    if cpu_ratio > SATURATED_RATIO and (lag_ms > SATURATED_LAG_MS or merged):
        pace += f", with {100 * cpu_ratio:.0f} % of a core in use"
    elif lag_ms <= max(limit_ms, WAKE_MS) or not (user or merged):
        return
    said = f"the client read {lag_ms:.3g} ms late (p99) where {pace}: {_relief(client)}"
    yield Reason(kind=Kind.CLIENT_BOUND, sentence=said)


def _first_chunks(client: Client) -> Iterator[Reason]:
    """First chunks read together with the next, so late that it was the client who let them wait."""
    if client.gap_p50_ms is None or client.first_lag_us is None or client.lag_n < LAG_SAMPLES:
        return
    hidden_ratio, lag_ms = client.first_merged_ratio or 0, client.first_lag_us / 1e3
    gap_ms = _chunk_gap_ms(client, client.gap_p50_ms)
    few = hidden_ratio <= FIRST_MERGED_RATIO or client.merged_chunks < MERGED_CHUNKS
    if few or lag_ms <= max(GAP_HALF_RATIO * gap_ms, WAKE_MS):
        return
    said = f"the first chunk of {100 * hidden_ratio:.0f} % of the requests was read with the next, {lag_ms:.3g} ms late"
    said = f"{said}, where chunks come every {gap_ms:.3g} ms: {_relief(client)}"
    yield Reason(kind=Kind.CLIENT_BOUND, sentence=said)


def _chunk_gap_ms(client: Client, gap_ms: float) -> float:
    """Between chunks as they were sent: a late client merges some, and so widens the gap between arrivals."""
    return gap_ms * (1 - (client.merged_ratio or 0))


def _relief(client: Client) -> str:
    more = 2 * max(client.processes, 1)
    return f"give it more cores (`bench`: --processes {more}) or fewer streams (a matrix: a lower batch)"


def _off_schedule(client: Client) -> Iterator[Reason]:
    if client.schedule_lag_p99_ms is not None:
        limits = (
            QUEUE_MS,
            QUEUE_INTERVAL_RATIO * (client.interval_ms or 0),
            QUEUE_TTFT_RATIO * (client.ttft_p50_ms or 0),
        )
        if client.schedule_lag_p99_ms > max(limits):
            late = f"requests started {_digits(client.schedule_lag_p99_ms)} ms after their time (p99)"
            remedy = "use more processes, a lower rate or a larger --max-in-flight"
            said = f"{late}, {max(limits):.3g} ms may pass: {remedy}"
            yield Reason(kind=Kind.OFF_SCHEDULE, sentence=said)
    asked, achieved = client.asked_batch, client.achieved_batch
    if client.steady_judged and asked is not None and achieved is not None and achieved < BATCH_RATIO * asked:
        said = f"{achieved:.1f} requests were in flight on average, asked: {asked}"
        yield Reason(kind=Kind.OFF_SCHEDULE, sentence=f"{said}: use more processes or fewer streams")


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three digits either way


def _clock(client: Client) -> Iterator[Reason]:
    if client.stamp == "kernel" and abs(client.step_ns) > STEP_NS:
        said = f"the wall clock, which stamps arrivals, stepped by {abs(client.step_ns) / 1e6:.3g} ms"
        yield Reason(kind=Kind.CLOCK_STEP, sentence=f"{said}: let it settle, and measure again")
    elif client.backwards:
        said = f"{client.backwards} requests have stamps that run backwards"
        yield Reason(kind=Kind.CLOCK_STEP, sentence=f"{said}: let the clock settle, and measure again")


def _steady(client: Client) -> Iterator[Reason]:
    if client.steady_judged and client.steady_share_ratio < STEADY_RATIO:
        why = client.steady_reason or f"it holds for {100 * client.steady_share_ratio:.0f} % of the trial"
        said = f"no steady state, for {why}: ask for more requests or a lower load"
        yield Reason(kind=Kind.NO_STEADY_STATE, sentence=said)


def _too_fast(speed: Speed) -> Iterator[Reason]:
    """A result above the roofline is an error of measuring: a cache that helped, another model, wrong figures."""
    for name, measured, floor in (
        ("the median TTFT", speed.ttft_p50_ms, speed.ttft_floor_ms),
        ("the mean ITL", speed.itl_mean_ms, speed.itl_floor_ms),
    ):
        if measured is not None and floor is not None and measured < FLOOR_RATIO * floor:
            yield Reason(
                kind=Kind.ABOVE_ROOFLINE,
                sentence=f"{name} of {measured:.3g} ms is below the {floor:.3g} ms that the hardware allows at best: "
                "see that model and format are what was asked, and the catalog's figures of this hardware",
            )
