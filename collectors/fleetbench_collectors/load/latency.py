"""Latencies and rates of a trial, each with its one definition, over the columns of `Records`.

Per request: [n] values, one a row, NaN where a stamp or count is unknown or stamps run backwards (`evidence` counts
those). Times in ms from ns on one clock. Only requests of the phase `measure` with the outcome `ok` give numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fleetbench_collectors import sketch
from fleetbench_collectors.load.columns import (
    Floats,
    Ints,
    Mask,
    arrivals,
    column,
    gap_ends_ns_of,
    gaps_n_of,
    gaps_of,
    itl_n_of,
    measured,
    tokens,
    until_ns,
)
from fleetbench_collectors.load.record import P99_SAMPLES, UNKNOWN, Records

LATENCIES = ("ttft", "itl", "tpot", "e2e", "ttfb", "ttft_intended", "e2e_intended", "queue", "gap")
"""Names of the distributions in ms: fields of `Samples` and, with n and statistics, columns of `trials`."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """All values of a trial or window: [requests], or [gaps] and [tokens after the first arrival] for gap and itl."""

    ttft_ms: Floats
    itl_ms: Floats
    tpot_ms: Floats
    e2e_ms: Floats
    ttfb_ms: Floats
    ttft_intended_ms: Floats
    e2e_intended_ms: Floats
    queue_ms: Floats
    gap_ms: Floats
    user_tok_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """Mean and exact quantiles, linear between ranks as numpy's default, of n values in their unit."""

    n: int
    mean: float
    p50: float
    p90: float
    p99: float


def ttfb_ms(records: Records) -> Floats:
    """Request written to the first byte of the response's body, whatever it holds.

    What vLLM's `bench serve` calls TTFT where a server opens with a chunk that names only the role.
    """
    return _span_ms(records, "start_ns", "first_byte_ns")


def ttft_ms(records: Records) -> Floats:
    """Request written to the first chunk that carries a token, reasoning and tool calls included."""
    return _span_ms(records, "start_ns", "first_token_ns")


def ttft_intended_ms(records: Records) -> Floats:
    """Scheduled start to the first token: a client that sends late does not hide the wait (coordinated omission).

    The peers count from the actual start. In a closed loop both are the same.
    """
    return _span_ms(records, "intended_ns", "first_token_ns")


def e2e_ms(records: Records) -> Floats:
    """Request written to the last chunk that carries a token; usage and the end of the response come later."""
    return _span_ms(records, "start_ns", "last_token_ns")


def e2e_intended_ms(records: Records) -> Floats:
    """Scheduled start to the last token."""
    return _span_ms(records, "intended_ns", "last_token_ns")


def queue_ms(records: Records) -> Floats:
    """Scheduled start to the actual one: the wait within the client, no part of the server's time."""
    return _span_ms(records, "intended_ns", "start_ns")


def tpot_ms(records: Records) -> Floats:
    """Time per output token after the first: (t_last - t_first) / (n - 1); NaN below two tokens or two arrivals.

    Source: vLLM's `bench serve`, SGLang alike. The mean that GuideLLM and AIPerf call ITL; GuideLLM's TPOT divides
    from the request's start. Where k tokens come first at once, k - 1 of them took no time: low by
    (k - 1) / (n - 1). `itl_ms` has no such bias.
    """
    tok = tokens(records).tok
    span = _span_ms(records, "first_token_ns", "last_token_ns")
    return np.where((tok > 1) & (gaps_n_of(records) > 0), span / np.maximum(tok - 1, 1), np.nan)


def user_tok_s(records: Records) -> Floats:
    """Tokens per second that one user sees after the first: 1 / TPOT; NaN where TPOT is none or 0.

    InferenceMAX's interactivity, AIPerf's output throughput per user. The slow users are the low quantiles.
    """
    tpot = tpot_ms(records)
    rates: Floats = np.divide(1e3, tpot, out=np.full(len(tpot), np.nan), where=tpot > 0)
    return rates


def whole_ratio(records: Records) -> float | None:
    """Of the answers of several tokens, the share that came in one arrival; None where there is no such answer."""
    several = measured(records, "ok") & (tokens(records).tok > 1)
    return float((gaps_n_of(records)[several] == 0).mean()) if several.any() else None


def gap_ms(records: Records, rows: Mask) -> Floats:
    """[g] between successive arrivals of the chosen requests, however many tokens each brought."""
    return gaps_of(records, np.repeat(rows, gaps_n_of(records)))[0]


def itl_ms(records: Records, rows: Mask) -> Floats:
    """[tokens after the first arrival] inter-token latencies: every gap shared evenly among the tokens it brought.

    An arrival of k tokens gives k values of gap / k, so four tokens a chunk and 40 ms between chunks are 10 ms.
    vLLM and SGLang (Python) count the gap once, whole: 40 ms; inference-perf counts k - 1 zeros and a gap;
    GuideLLM and AIPerf one mean a request. Tokens of an arrival: as the server says, else the request's spread
    evenly over all its arrivals, the first included.
    """
    return gaps_of(records, np.repeat(rows, gaps_n_of(records)))[1]


def itl_p99_ms(records: Records) -> Floats:
    """[n] the 99th percentile of each request's own inter-token latencies; NaN where it has none."""
    n, values = itl_n_of(records), itl_ms(records, np.ones(len(records), dtype=np.bool_))
    starts = np.cumsum(n) - n
    found = np.full(len(records), np.nan)
    for length in np.unique(n[n > 0]):
        rows = np.flatnonzero(n == length)
        found[rows] = np.quantile(values[starts[rows, None] + np.arange(length)], 0.99, axis=1)
    return found


def concurrency(records: Records, start_ns: int, end_ns: int) -> float | None:
    """Requests in flight, the mean over time: in-flight time within the window over the window (Little's law)."""
    if end_ns <= start_ns:
        return None
    rows = measured(records)
    begun = np.maximum(column(records, "start_ns")[rows], start_ns)
    over = np.minimum(until_ns(records)[rows], end_ns)
    return float(np.maximum(over - begun, 0).sum()) / (end_ns - start_ns)


def window(records: Records) -> tuple[int, int] | None:
    """First start and last end of the measured requests that went well, in ns on the rows' clock.

    What ended by its time limit, or by a stop, was waited for: the window goes on until then. None where nothing went
    well, or its stamps run backwards: the clock that gave them was set meanwhile.
    """
    rows = measured(records, "ok") & (column(records, "end_ns") != UNKNOWN)
    if not rows.any():
        return None
    waited = column(records, "over_ns")[measured(records, "timeout", "cancelled")].max(initial=UNKNOWN)
    start_ns, end_ns = int(column(records, "start_ns")[rows].min()), int(column(records, "end_ns")[rows].max())
    end_ns = max(end_ns, int(waited))
    return (start_ns, end_ns) if end_ns > start_ns else None


def samples(records: Records, bounds: tuple[int, int] | None = None) -> Samples:
    """Of the measured requests that went well; of a window as `restrict` chooses them, where its bounds are given."""
    if bounds is not None:
        return _samples(records, *_within(records, *bounds))
    rows = measured(records, "ok")
    return _samples(records, rows, np.repeat(rows, gaps_n_of(records)))


def stats(values: Floats) -> Stats | None:
    """Of [n] values; None where there is none."""
    if not values.size:
        return None
    p50, p90, p99 = (float(value) for value in np.quantile(values, (0.5, 0.9, 0.99)))
    return Stats(n=int(values.size), mean=float(values.mean()), p50=p50, p90=p90, p99=p99)


def summarise(records: Records, *, asked_requests: int) -> Row:
    """All that a trial's requests come to, by the names of the columns of `trials`; what has no samples is None.

    The window runs from the first start to the last response's end of the requests that went well. Completed,
    failed and cancelled are apart: a cancelled request was in flight when the trial was stopped.

    Args:
        records: of one trial; times in ns on one clock.
        asked_requests: measured requests that the trial was to send.
    """
    rows = measured(records, "ok")
    amounts = _Amounts(
        requests=int(rows.sum()),
        prompt_tok=_total(column(records, "prompt_tok")[rows]),
        output_tok=_total(tokens(records).tok[rows]),
    )
    counts = _counts(records, measured(records), asked_requests)
    return counts | _figures(records, rows, samples(records), window(records), amounts)


def restrict(records: Records, *, start_ns: int, end_ns: int) -> Row:
    """The same figures of a window, both ends included.

    Latencies a request: of those that start and end within it, so long ones are rare where the window is not much
    longer than they are. gap, itl: every gap within it. Token rates: tokens that arrive within it, and prompts whose
    first token does; a request cancelled later counts in them, with the prompt length that was asked for and, as it
    has no usage, a token a chunk. requests_per_s: responses that end within it. Counts: requests that start in it.
    """
    rows, gaps = _within(records, start_ns, end_ns)
    done, streamed = measured(records, "ok"), measured(records, "ok", "cancelled")
    came = arrivals(records, streamed)
    counted = streamed.any() and (tokens(records).tok[done] != UNKNOWN).all()
    prompt_tok = np.where(done, column(records, "prompt_tok"), column(records, "asked_prompt_tok"))
    amounts = _Amounts(
        requests=int((done & _inside(records, "end_ns", start_ns, end_ns)).sum()),
        prompt_tok=_total(prompt_tok[streamed & _inside(records, "first_token_ns", start_ns, end_ns)]),
        output_tok=int(came.tok[(came.at_ns >= start_ns) & (came.at_ns <= end_ns)].sum()) if counted else None,
    )
    sent = measured(records) & _inside(records, "start_ns", start_ns, end_ns)
    counts = _counts(records, sent, int(sent.sum())) | {"completed_requests": int(rows.sum())}
    return counts | _figures(records, rows, _samples(records, rows, gaps), (start_ns, end_ns), amounts)


def _inside(records: Records, name: str, start_ns: int, end_ns: int) -> Mask:
    """[n] whether a stamp lies in a window."""
    stamps = column(records, name)
    inside: Mask = (stamps >= start_ns) & (stamps <= end_ns)
    return inside


def _within(records: Records, start_ns: int, end_ns: int) -> tuple[Mask, Mask]:
    """[n] requests that went well within a window, [g] gaps that lie in it."""
    starts, ends = (_inside(records, name, start_ns, end_ns) for name in ("start_ns", "end_ns"))
    over_ns, gaps_us = gap_ends_ns_of(records), np.asarray(records.gaps_us, dtype=np.int64)
    streamed = np.repeat(measured(records, "ok", "cancelled"), gaps_n_of(records))
    return measured(records, "ok") & starts & ends, streamed & (over_ns - 1000 * gaps_us >= start_ns) & (
        over_ns <= end_ns
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Amounts:
    """What rates divide by the window; None where a count is unknown."""

    requests: int
    prompt_tok: float | None
    output_tok: float | None


def _counts(records: Records, sent: Mask, asked_requests: int) -> Row:
    done, cancelled = (int((sent & measured(records, outcome)).sum()) for outcome in ("ok", "cancelled"))
    return {
        "asked_requests": asked_requests,
        "completed_requests": done,
        "failed_requests": int(sent.sum()) - done - cancelled,
        "cancelled_requests": cancelled,
    }


def _figures(records: Records, rows: Mask, found: Samples, bounds: tuple[int, int] | None, amounts: _Amounts) -> Row:
    """`rows` gave the samples a request."""
    user = stats(found.user_tok_s)
    return {
        **_rates(bounds, amounts),
        **_stream_rates(records, rows),
        **{key: value for name in LATENCIES for key, value in _latency(name, getattr(found, f"{name}_ms")).items()},
        "ttft_sketch": _sketch(found.ttft_ms),
        "itl_sketch": _sketch(found.itl_ms),
        "tokens_from": tokens(records).source,
        "concurrency": None if bounds is None else concurrency(records, *bounds),
        "user_tok_s_mean": None if user is None else user.mean,
        "user_tok_s_p50": None if user is None else user.p50,
    }


def _rates(bounds: tuple[int, int] | None, amounts: _Amounts) -> Row:
    window_s = None if bounds is None else (bounds[1] - bounds[0]) / 1e9
    known = amounts.prompt_tok is not None and amounts.output_tok is not None
    total_tok = (amounts.prompt_tok or 0) + (amounts.output_tok or 0) if known else None
    return {
        "window_s": window_s,
        "output_tok_s": _ratio(amounts.output_tok, window_s),
        "total_tok_s": _ratio(total_tok, window_s),
        "requests_per_s": _ratio(amounts.requests, window_s),
    }


def _stream_rates(records: Records, rows: Mask) -> Row:
    """prefill_tok_s: prompt tokens over the summed times to first token; decode_tok_s: output tokens after each
    request's first over the summed times from first to last token, of requests with several arrivals, with the bias
    of `tpot_ms`.
    """  # noqa: D205 - one definition each
    streamed = rows & (gaps_n_of(records) > 0)
    prompt_tok, output_tok = _total(column(records, "prompt_tok")[rows]), _total(tokens(records).tok[streamed])
    first_ms = _total(ttft_ms(records)[rows])
    later_ms = _total(_span_ms(records, "first_token_ns", "last_token_ns")[streamed])
    later_tok = None if output_tok is None else output_tok - int(streamed.sum())
    return {
        "prefill_tok_s": _ratio(prompt_tok, None if first_ms is None else first_ms / 1e3),
        "decode_tok_s": _ratio(later_tok, None if later_ms is None else later_ms / 1e3),
    }


def _samples(records: Records, rows: Mask, gaps: Mask) -> Samples:
    """Of the requests in `rows`, and of the gaps in `gaps`."""

    def known(values: Floats) -> Floats:
        chosen: Floats = values[rows]
        return chosen[np.isfinite(chosen)]

    gap, itl = gaps_of(records, gaps)
    return Samples(
        ttft_ms=known(ttft_ms(records)),
        itl_ms=itl,
        tpot_ms=known(tpot_ms(records)),
        e2e_ms=known(e2e_ms(records)),
        ttfb_ms=known(ttfb_ms(records)),
        ttft_intended_ms=known(ttft_intended_ms(records)),
        e2e_intended_ms=known(e2e_intended_ms(records)),
        queue_ms=known(queue_ms(records)),
        gap_ms=gap,
        user_tok_s=known(user_tok_s(records)),
    )


def _latency(name: str, values: Floats) -> Row:
    found = stats(values)
    if found is None:
        return {f"{name}_n": 0} | {f"{name}_{stat}_ms": None for stat in ("mean", "p50", "p90", "p99")}
    return {
        f"{name}_n": found.n,
        f"{name}_mean_ms": found.mean,
        f"{name}_p50_ms": found.p50,
        f"{name}_p90_ms": found.p90,
        f"{name}_p99_ms": found.p99 if found.n >= P99_SAMPLES else None,
    }


def _span_ms(records: Records, start: str, end: str) -> Floats:
    """[n] between two stamps; NaN where one is unknown or they run backwards."""
    begun, over = column(records, start), column(records, end)
    return np.where((begun != UNKNOWN) & (over >= begun), (over - begun) / 1e6, np.nan)


def _total(values: Ints | Floats) -> float | None:
    """The sum; None where a value is unknown or there is none."""
    unknown = np.isnan(values) | (values == UNKNOWN)
    return None if not values.size or unknown.any() else values.sum().item()


def _ratio(amount: float | None, over: float | None) -> float | None:
    return None if amount is None or not over else amount / over


def _sketch(values: Floats) -> Row | None:
    return sketch.build(values).row() if values.size else None
