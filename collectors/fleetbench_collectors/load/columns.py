"""The columns of `Records` as arrays, and what lies flat in them put back to its requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fleetbench_collectors.load.record import OUTCOMES, PHASES, UNKNOWN, Records

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """[n] output tokens of each request, UNKNOWN where nobody said, and who counted them."""

    tok: Ints
    source: Literal["usage", "chunks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """[a] times in ns at which tokens arrived, in no order, and how many came with each."""

    at_ns: Ints
    tok: Ints


def column(records: Records, name: str) -> Ints:
    """[n] a view: while it lives, `records` cannot grow."""
    return np.asarray(records.numbers[name], dtype=np.int64)


def measured(records: Records, *outcomes: str) -> Mask:
    """[n] whether a request is of the phase `measure`, and of one of the outcomes if any is named."""
    rows: Mask = column(records, "phase") == PHASES.index("measure")
    if outcomes:
        rows &= np.isin(column(records, "outcome"), [OUTCOMES.index(outcome) for outcome in outcomes])
    return rows


def tokens(records: Records) -> Tokens:
    """By the server's usage; by the chunks where no completed request of the trial has one: then a chunk is a token."""
    said = column(records, "output_tok")
    done = measured(records, "ok")
    if done.any() and (said[done] == UNKNOWN).all():
        return Tokens(tok=column(records, "chunks"), source="chunks")
    return Tokens(tok=said, source="usage")


def arrivals(records: Records, rows: Mask) -> Arrivals:
    """Every arrival of tokens of the chosen requests: the first token's stamp, and the gaps added to it."""
    first = column(records, "first_token_ns")
    has = rows & (first != UNKNOWN)
    chosen = np.repeat(has, gaps_n_of(records))
    first_tok, later_tok = arrival_tok_of(records)
    return Arrivals(
        at_ns=np.concatenate([first[has], gap_ends_ns_of(records)[chosen]]),
        tok=np.concatenate([first_tok[has], later_tok[chosen]]),
    )


def until_ns(records: Records) -> Ints:
    """[n] until when each request was in flight, in ns.

    To its end: when its place was free again would hide a client that is late to refill it. Without an end, to when
    the client was done with it; where nobody said when, to the last stamp: of all if it was cancelled, else its own.
    """
    names = ("start_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "end_ns")
    last: Ints = np.maximum.reduce([column(records, name) for name in names])
    over = column(records, "over_ns")
    cancelled = column(records, "outcome") == OUTCOMES.index("cancelled")
    unended = np.where(cancelled & (over == UNKNOWN), last.max(initial=UNKNOWN), np.maximum(last, over))
    return np.where(column(records, "end_ns") == UNKNOWN, unended, last)


def gaps_n_of(records: Records) -> Ints:
    """[n] gaps of each request in the flat column."""
    n: Ints = np.maximum(column(records, "gaps_n"), 0)
    return n


def gap_ends_ns_of(records: Records) -> Ints:
    """[g] when the arrival came that ends each gap."""
    gaps_n, gaps_us = gaps_n_of(records), np.asarray(records.gaps_us)
    since_us = np.concatenate([[0], np.cumsum(gaps_us, dtype=np.int64)])
    before_us = since_us[np.cumsum(gaps_n) - gaps_n]
    ends: Ints = np.repeat(column(records, "first_token_ns") - 1000 * before_us, gaps_n) + 1000 * since_us[1:]
    return ends


def arrival_tok_of(records: Records) -> tuple[Ints, NDArray[np.uint32]]:
    """[n] tokens of each request's first arrival, [g] of those that end a gap.

    As the server said them an arrival; else the request's count evenly over its arrivals, and one each where it is
    unknown or below their number.
    """
    gaps_n, said_n = gaps_n_of(records), np.maximum(column(records, "chunk_tok_n"), 0)
    first = np.ones(len(records), dtype=np.int64)
    later = np.ones(len(records.gaps_us), dtype=np.uint32)
    known = said_n == gaps_n + 1
    if known.any():
        said, opens = np.asarray(records.chunk_tok), (np.cumsum(said_n) - said_n)[known]
        rest = np.repeat(known, said_n)
        rest[opens] = False
        first[known], later[np.repeat(known, gaps_n)] = said[opens], said[rest]
    tok = tokens(records).tok
    several = ~known & (tok > gaps_n + 1)
    if several.any():
        n, tok = gaps_n[several], tok[several]
        first[several] = tok // (n + 1)
        position = np.arange(1, int(n.sum()) + 1) - np.repeat(np.cumsum(n) - n, n)
        tok, n = np.repeat(tok, n), np.repeat(n + 1, n)
        later[np.repeat(several, gaps_n)] = (position + 1) * tok // n - position * tok // n
    return first, later


def gaps_of(records: Records, chosen: Mask) -> tuple[Floats, Floats]:
    """Gaps, and their shares a token, in ms; the same array where every gap brought one token."""
    gaps = np.asarray(records.gaps_us)[chosen] / 1e3
    tok = arrival_tok_of(records)[1][chosen]
    return gaps, gaps if (tok == 1).all() else np.repeat(gaps / np.maximum(tok, 1), tok)


def itl_n_of(records: Records) -> Ints:
    """[n] inter-token latencies of each request."""
    gaps_n = gaps_n_of(records)
    before = np.concatenate([[0], np.cumsum(arrival_tok_of(records)[1], dtype=np.int64)])
    over = np.cumsum(gaps_n)
    n: Ints = before[over] - before[over - gaps_n]
    return n
