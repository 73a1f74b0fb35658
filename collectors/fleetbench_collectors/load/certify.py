"""Gathers a trial's evidence from its rows and from what its processes say of themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from fleetbench_collectors.load.columns import Mask, arrival_tok_of, column, gaps_n_of, measured, tokens
from fleetbench_collectors.load.evidence import CacheCounts, Client, Counts, Evidence
from fleetbench_collectors.load.latency import Stats, concurrency, gap_ms, restrict, stats, ttft_ms
from fleetbench_collectors.load.record import OUTCOMES, UNKNOWN, Records
from fleetbench_collectors.load.steady import Steady, loaded
from fleetbench_collectors.load.tally import Tally

_STAMPS = ("intended_ns", "start_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "end_ns")
_ARRIVALS_MIN = 2
_USER_RATIO = 0.001
"""The kernel may leave out the first few; one read in a thousand moves no 99th percentile."""


def collect(
    records: Records,
    tallies: Sequence[Tally],
    steady: Steady,
    *,
    asked: int,
    batch: int | None,
    before: CacheCounts | None = None,
    after: CacheCounts | None = None,
) -> Evidence:
    """The evidence of a trial.

    Args:
        records: of all processes.
        tallies: one a process.
        steady: by `steady.find`.
        asked: measured requests that were to be sent.
        batch: places of a closed loop; None in an open loop.
        before: the server's counters before the first request, where it has any.
        after: them after the last response.
    """
    return Evidence(
        counts=counts(records, asked=asked), client=_client(records, tallies, steady, batch, (before, after))
    )


def figures(records: Records, steady: Steady, evidence: Evidence) -> dict[str, Any]:
    """Columns of `trials` that say how far its numbers may be believed, and those of the steady window."""
    client = evidence.client
    row: dict[str, Any] = {
        "stamp": client.stamp,
        "read_lag_p99_us": client.read_lag_p99_us,
        "schedule_lag_p99_ms": client.schedule_lag_p99_ms,
        "client_cpu_ratio": client.cpu_ratio,
        "clock_step_ns": client.step_ns,
        "merged_ratio": client.merged_ratio,
        "achieved_batch": client.achieved_batch,
        "cache_hit_tok": client.cache_hit_tok,
        "steady_share_ratio": steady.share_ratio,
        "steady_reason": steady.reason,
    }
    if steady.start_ns is None or steady.end_ns is None:
        return row
    found = restrict(records, start_ns=steady.start_ns, end_ns=steady.end_ns)
    names = ("output_tok_s", "ttft_p50_ms", "ttft_p99_ms", "itl_p50_ms", "itl_p99_ms")
    return row | {f"steady_{name}": found[name] for name in names}


def counts(records: Records, *, asked: int) -> Counts:
    """Asked against counted, of the measured requests; only whether it went well of the warm-up."""
    sent, done = measured(records), measured(records, "ok")
    cached = column(records, "cached_tok")[done]
    warmup_failed = ~sent & (column(records, "outcome") != OUTCOMES.index("ok"))
    return Counts(
        asked=asked,
        completed=int(done.sum()),
        cancelled=int(measured(records, "cancelled").sum()),
        failures=_failures(records),
        wrong_prompt_tok=_wrong(records, done, "prompt_tok"),
        wrong_output_tok=_wrong(records, done, "output_tok"),
        asked_prompt_tok=_one_length(records, sent, "asked_prompt_tok"),
        asked_output_tok=_one_length(records, sent, "asked_output_tok"),
        cached_tok=max(int(cached.max(initial=0)), 0),
        warmup_failed=int(warmup_failed.sum()),
    )


def _failures(records: Records) -> tuple[tuple[str, int], ...]:
    failed = measured(records) & ~measured(records, "ok", "cancelled")
    outcome = column(records, "outcome")
    kinds = Counter(f"{OUTCOMES[outcome[row]]} ({records.errors.get(int(row))})" for row in np.flatnonzero(failed))
    return tuple(kinds.most_common())


def _wrong(records: Records, rows: Mask, name: str) -> tuple[tuple[int | None, int], ...]:
    got = column(records, name)[rows]
    wrong = got[got != column(records, f"asked_{name}")[rows]]
    found = Counter(None if tok == UNKNOWN else tok for tok in wrong.tolist())
    return tuple(found.most_common())


def _one_length(records: Records, rows: Mask, name: str) -> int | None:
    found = np.unique(column(records, name)[rows])
    return int(found[0]) if len(found) == 1 else None


def _client(
    records: Records,
    tallies: Sequence[Tally],
    steady: Steady,
    batch: int | None,
    cache: tuple[CacheCounts | None, CacheCounts | None],
) -> Client:
    done = measured(records, "ok")
    merged_chunks, merged_ratio = _merged(records, done)
    lag, gap = _lag(tallies), stats(gap_ms(records, done))
    ttft = ttft_ms(records)[done]
    first = stats(ttft[np.isfinite(ttft)])
    before, after = cache
    return Client(
        stamp=_stamp(tallies),
        processes=len(tallies),
        read_lag_p50_us=None if lag is None else lag.p50,
        read_lag_p99_us=None if lag is None else lag.p99,
        gap_p50_ms=None if gap is None else gap.p50,
        ttft_p50_ms=None if first is None else first.p50,
        lag_n=0 if lag is None else lag.n,
        merged_ratio=merged_ratio,
        merged_chunks=merged_chunks,
        first_merged_ratio=_first_merged_ratio(records, done),
        first_lag_us=_first_lag_us(records, tallies, done),
        cpu_ratio=max((tally.cpu_s / tally.wall_s for tally in tallies if tally.wall_s > 0), default=None),
        step_ns=max((abs(tally.step_ns) for tally in tallies), default=0),
        backwards=_backwards(records),
        schedule_lag_p99_ms=None if batch is not None else _schedule_lag_p99_ms(records),
        interval_ms=None if batch is not None else _interval_ms(records),
        asked_batch=None if batch is None else min(batch, int(measured(records).sum())),
        achieved_batch=_achieved_batch(records, steady),
        sent=len(records),
        cache_hit_tok=None if before is None or after is None else after.hits_tok - before.hits_tok,
        steady_share_ratio=steady.share_ratio,
        steady_reason=steady.reason,
        steady_judged=steady.judged,
    )


def _stamp(tallies: Sequence[Tally]) -> Literal["kernel", "user"] | None:
    stamped = sum(tally.stamped_kernel + tally.stamped_user for tally in tallies)
    if not stamped:
        return None
    return "user" if sum(tally.stamped_user for tally in tallies) > _USER_RATIO * stamped else "kernel"


def _lag(tallies: Sequence[Tally]) -> Stats | None:
    """Of the worst process: samples of one that is late are fewer, so pooled they would hide it."""
    found = [stats(np.asarray(tally.lag_us, dtype=np.float64)) for tally in tallies]
    return max((lag for lag in found if lag is not None), key=lambda lag: lag.p99, default=None)


def _merged(records: Records, rows: Mask) -> tuple[int, float | None]:
    """Chunks less arrivals, and over chunks, of the streams that came in several chunks."""
    chunks, arrivals = column(records, "chunks"), column(records, "gaps_n") + 1
    rows = rows & (chunks >= _ARRIVALS_MIN)
    total = int(chunks[rows].sum())
    merged = total - int(arrivals[rows].sum())
    return merged, merged / total if total else None


def _first_merged_ratio(records: Records, rows: Mask) -> float | None:
    """Of the streams of several arrivals; chunks of the first one by its share of the tokens."""
    chunks, tok, gaps_n = column(records, "chunks"), tokens(records).tok, gaps_n_of(records)
    rows = rows & (gaps_n > 0)
    if not rows.any():
        return None
    chunks, gaps_n, first_tok = chunks[rows], gaps_n[rows], arrival_tok_of(records)[0][rows]
    first = np.rint(first_tok * chunks / np.maximum(tok[rows], chunks))
    # Tokens that a server says may be many in one chunk: without a merged chunk none is.
    merged = (first > 1) & (chunks > gaps_n + 1) & (2 * (chunks - first - gaps_n) < gaps_n)
    return float(merged.mean())


def _first_lag_us(records: Records, tallies: Sequence[Tally], rows: Mask) -> float | None:
    """Of the worst process. A 99th percentile of all reads would leave out the first ones of long streams."""
    reads = int((gaps_n_of(records)[rows] + 1).sum())
    found = [np.asarray(tally.lag_us, dtype=np.float64) for tally in tallies if tally.lag_us]
    if not reads or not found:
        return None
    return max(float(np.quantile(lag_us, 1 - int(rows.sum()) / reads / 2)) for lag_us in found)


def _backwards(records: Records) -> int:
    """Requests with a stamp that is earlier than one that must come before it."""
    latest = column(records, _STAMPS[0]).copy()
    found = np.zeros(len(records), dtype=np.bool_)
    for name in _STAMPS[1:]:
        stamps = column(records, name)
        found |= (stamps != UNKNOWN) & (stamps < latest)
        latest = np.maximum(latest, stamps)
    return int((found & measured(records)).sum())


def _schedule_lag_p99_ms(records: Records) -> float | None:
    """Scheduled start until the client took a request up, whatever became of it; connecting is the server's."""
    begun = column(records, "begun_ns")
    known = np.where(begun == UNKNOWN, column(records, "start_ns"), begun)
    waited = ((known - column(records, "intended_ns")) / 1e6)[measured(records)]
    found = stats(waited[np.isfinite(waited)])
    return None if found is None else found.p99


def _interval_ms(records: Records) -> float | None:
    at = column(records, "intended_ns")[measured(records)]
    return None if len(at) < _ARRIVALS_MIN else float(np.ptp(at)) / 1e6 / (len(at) - 1)


def _achieved_batch(records: Records, steady: Steady) -> float | None:
    if steady.start_ns is not None and steady.end_ns is not None:
        return concurrency(records, steady.start_ns, steady.end_ns)
    bounds = loaded(records)
    return None if bounds is None else concurrency(records, *bounds)
