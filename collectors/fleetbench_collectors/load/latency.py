"""Latencies and rates of a trial, each with its one definition; the names are the columns of `trials`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fleetbench_collectors import sketch
from fleetbench_collectors.load.parse import spread

P99_SAMPLES = 100
"""Below this many samples the 99th percentile is an extrapolation, and NULL."""

Row = dict[str, Any]


def ttft_ms(row: Mapping[str, Any]) -> float | None:
    """Time to first token: request written to the first chunk that carries a token, in ms."""
    return _span_ms(row["start_ns"], row["first_token_ns"])


def e2e_ms(row: Mapping[str, Any]) -> float | None:
    """Request written to the last chunk that carries a token, in ms."""
    return _span_ms(row["start_ns"], row["last_token_ns"])


def tpot_s(first_token_ns: int | None, last_token_ns: int | None, output_tok: int | None) -> float | None:
    """Time per output token after the first: (t_last - t_first) / (n - 1).

    Args:
        first_token_ns: arrival of the first chunk that carries a token, ns.
        last_token_ns: of the last one, on the same clock.
        output_tok: tokens the server counted, not chunks.

    Returns:
        Seconds per token; None (NULL, never 0) below two tokens or where one of the three is unknown.

    Raises:
        ValueError: stamps that run backwards.

    Source: the definition of vLLM's `bench serve`. GuideLLM divides from request start: not comparable.
    """
    span = _span_ms(first_token_ns, last_token_ns)
    if span is None or output_tok is None or output_tok <= 1:
        return None
    return span / 1e3 / (output_tok - 1)


def itl_ms(
    gaps_us: Sequence[int], output_tok: int | None, chunk_tok: Sequence[int] | None = None
) -> NDArray[np.float64]:
    """Inter-token latencies: every gap between arrivals shared evenly among the tokens that it brought.

    Args:
        gaps_us: [c - 1] between the c arrivals of tokens, in us.
        output_tok: tokens the server counted.
        chunk_tok: [c] tokens of each arrival; None where unknown: then the tokens spread evenly over the
            arrivals, the first one included, so that four tokens a chunk and 40 ms between chunks are 10 ms.

    Returns:
        [tokens after the first arrival] in ms; an arrival of k tokens gives k values of gap / k.
    """
    gaps = np.asarray(gaps_us, dtype=np.float64) / 1e3
    if not gaps.size:
        return gaps
    if chunk_tok is not None and len(chunk_tok) == gaps.size + 1:
        shares = np.asarray(chunk_tok[1:], dtype=np.int64)
    else:
        shares = np.asarray(spread(output_tok, gaps.size + 1)[1:], dtype=np.int64)
    return np.repeat(gaps / shares, shares)


def itl_sketch(gaps_us: Sequence[int], output_tok: int | None, chunk_tok: Sequence[int] | None) -> Row | None:
    """One request's inter-token latencies in ms as a mergeable sketch; None where it has none."""
    return _sketch(itl_ms(gaps_us, output_tok, chunk_tok))


def summarise(requests: pa.Table, *, asked_requests: int) -> dict[str, Any]:
    """All that a trial's requests come to: the columns of `trials` from asked_requests to itl_sketch.

    Only requests of the phase `measure` count, and only those with the outcome `ok` give numbers. The window
    runs from their first start to their last response's end. What has no samples is None, never 0.

    Args:
        requests: rows of `tables.REQUESTS` of one trial; times in ns on one clock.
        asked_requests: measured requests that the trial was to send.
    """
    measured = [row for row in requests.to_pylist() if row["phase"] == "measure"]
    rows = [row for row in measured if row["outcome"] == "ok"]
    samples = _samples(rows)
    return {
        "asked_requests": asked_requests,
        "completed_requests": len(rows),
        "failed_requests": len(measured) - len(rows),
        **_rates(rows),
        **{key: value for name, values in samples.items() for key, value in _latency(name, values).items()},
        "ttft_sketch": _sketch(samples["ttft"]),
        "itl_sketch": _sketch(samples["itl"]),
    }


def window(requests: pa.Table) -> tuple[int, int] | None:
    """First start and last end of the measured requests that went well, in ns on the rows' clock."""
    return _window([row for row in requests.to_pylist() if (row["phase"], row["outcome"]) == ("measure", "ok")])


def _window(rows: Sequence[Row]) -> tuple[int, int] | None:
    ends = [row["end_ns"] for row in rows if row["end_ns"] is not None]
    if not ends:
        return None
    return min(row["start_ns"] for row in rows), max(ends)


def _samples(rows: Sequence[Row]) -> dict[str, NDArray[np.float64]]:
    gaps = [itl_ms(row["gaps_us"] or [], row["output_tok"], row["chunk_tok"]) for row in rows]
    tpots = (tpot_s(row["first_token_ns"], row["last_token_ns"], row["output_tok"]) for row in rows)
    return {
        "ttft": _known(ttft_ms(row) for row in rows),
        "itl": np.concatenate(gaps) if gaps else np.empty(0),
        "tpot": _known(tpots) * 1e3,
        "e2e": _known(e2e_ms(row) for row in rows),
    }


def _latency(name: str, values: NDArray[np.float64]) -> dict[str, Any]:
    """Mean and exact quantiles (linear between ranks, as numpy's default) of [n] values in ms."""
    n = int(values.size)
    p50, p90, p99 = (float(value) for value in np.quantile(values, (0.5, 0.9, 0.99))) if n else (None, None, None)
    return {
        f"{name}_n": n,
        f"{name}_mean_ms": float(values.mean()) if n else None,
        f"{name}_p50_ms": p50,
        f"{name}_p90_ms": p90,
        f"{name}_p99_ms": p99 if n >= P99_SAMPLES else None,
    }


def _rates(rows: Sequence[Row]) -> dict[str, float | None]:
    """Rates over the window, and per stream.

    prefill_tok_s: prompt tokens over the summed times to first token; decode_tok_s: output tokens after each
    request's first over the summed times from first to last token.
    """
    bounds = _window(rows)
    window_s = None if bounds is None else (bounds[1] - bounds[0]) / 1e9
    prompt, output = _total(row["prompt_tok"] for row in rows), _total(row["output_tok"] for row in rows)
    total = None if prompt is None or output is None else prompt + output
    first_s = _total(_seconds(row["start_ns"], row["first_token_ns"]) for row in rows)
    later_s = _total(_seconds(row["first_token_ns"], row["last_token_ns"]) for row in rows)
    return {
        "window_s": window_s,
        "output_tok_s": _ratio(output, window_s),
        "total_tok_s": _ratio(total, window_s),
        "requests_per_s": _ratio(len(rows), window_s),
        "prefill_tok_s": _ratio(prompt, first_s),
        "decode_tok_s": _ratio(None if output is None else output - len(rows), later_s),
    }


def _span_ms(start_ns: int | None, end_ns: int | None) -> float | None:
    if start_ns is None or end_ns is None:
        return None
    if end_ns < start_ns:
        raise ValueError(f"stamps run backwards: {start_ns} ns, then {end_ns} ns")
    return (end_ns - start_ns) / 1e6


def _seconds(start_ns: int | None, end_ns: int | None) -> float | None:
    span = _span_ms(start_ns, end_ns)
    return None if span is None else span / 1e3


def _known(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.asarray([value for value in values if value is not None], dtype=np.float64)


def _total(values: Iterable[float | None]) -> float | None:
    """The sum; None where a value is unknown or there is none."""
    found = list(values)
    known = [value for value in found if value is not None]
    return sum(known) if known and len(known) == len(found) else None


def _ratio(amount: float | None, over: float | None) -> float | None:
    return None if amount is None or not over else amount / over


def _sketch(values: NDArray[np.float64]) -> dict[str, Any] | None:
    return sketch.build(values).row() if values.size else None
