"""Recorded requests to play again: when each came, and how long it and its answer were."""

from __future__ import annotations

import csv
import itertools
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleetbench_collectors.load.textfile import check_limit, json_object, lines, located, shown

BLOCK_TOK = 512
LENGTH_MAX_TOK = 10_000_000
SPEED_MIN = 1e-3
SPEED_MAX = 1e6
SPAN_MAX_S = 9_000_000

_COLUMNS = ("Timestamp", "Request tokens", "Response tokens")
_STAMP_MAX_S = 1e11
_BLOCK_ID_MAX = 2**63 - 1
_WHOLE = re.compile(r"[0-9]{1,12}")
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,20})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """A request of a trace: `at_ns` after the first one.

    blocks: ids of the prompt's blocks of `BLOCK_TOK` tokens, in order, the last one perhaps cut short: where
    ids are equal so are the tokens. None where the trace does not say.
    """

    at_ns: int
    context_tok: int
    output_tok: int
    blocks: tuple[int, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Requests in order of time; `skipped` rows have no prompt or no answer: they failed where they were recorded."""

    requests: tuple[TraceRequest, ...]
    skipped: int


def read(path: str | os.PathLike[str], *, speed: float = 1.0, limit: int | None = None) -> Trace:
    """A trace of Mooncake (JSON lines) or BurstGPT (CSV), gzip or not.

    Args:
        path: of the file. Mooncake's `timestamp` is in ms, BurstGPT's `Timestamp` in s; both count from
            anywhere, for the first request moves to 0.
        speed: 2 plays it twice as fast.
        limit: ends after so many requests of the file, which need not be in order of time.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such trace, with the line; or it has no requests, or lasts more than 104 days.

    Source: Mooncake, FAST '25, `FAST25-release/traces` (512 tokens a block, a hash over it and all blocks
    before it); BurstGPT (Wang et al. 2024), where a failed request has 0 response tokens.
    """
    if not SPEED_MIN <= speed <= SPEED_MAX:
        raise ValueError(f"speed must be from 0.001 to 1000000, not {speed:g}")
    check_limit(limit)
    where = Path(path)
    requests: list[TraceRequest] = []
    skipped = 0
    for request in _rows(where):
        if request.context_tok and request.output_tok:
            requests.append(request)
        else:
            skipped += 1
        if len(requests) == limit:
            break
    if not requests:
        raise ValueError(f"{where}: no requests in it" + (f", {skipped} failed ones aside" if skipped else ""))
    requests.sort(key=lambda request: request.at_ns)
    first_ns, last_ns = requests[0].at_ns, requests[-1].at_ns
    if (last_ns - first_ns) / speed > SPAN_MAX_S * 1e9:
        raise ValueError(f"{where}: lasts more than {SPAN_MAX_S} seconds: is its time in the right unit?")
    moved = (replace(request, at_ns=round((request.at_ns - first_ns) / speed)) for request in requests)
    return Trace(requests=tuple(moved), skipped=skipped)


def _rows(path: Path) -> Iterator[TraceRequest]:
    numbered = lines(path)
    number, first = next(numbered, (1, ""))
    if first.lstrip().startswith("{"):
        parse: Callable[[str], TraceRequest] = _mooncake
        numbered = itertools.chain([(number, first)], numbered)
    elif first:
        with located(path, f"line {number}"):
            parse = _burstgpt(_fields(first))
    for number, text in numbered:
        with located(path, f"line {number}"):
            request = parse(text)
        yield request


def _mooncake(text: str) -> TraceRequest:
    raw = json_object(text)
    stamp_ms: Any = raw.get("timestamp")
    numeric = isinstance(stamp_ms, int | float) and not isinstance(stamp_ms, bool)
    if not numeric or not 0 <= stamp_ms <= _STAMP_MAX_S * 1e3:
        raise ValueError(f"timestamp must be a number of ms from 0 on, not {shown(stamp_ms)}")
    context_tok = _length("input_length", raw.get("input_length"))
    return TraceRequest(
        at_ns=stamp_ms * 1_000_000 if isinstance(stamp_ms, int) else round(stamp_ms * 1e6),
        context_tok=context_tok,
        output_tok=_length("output_length", raw.get("output_length")),
        blocks=_blocks(raw.get("hash_ids"), context_tok),
    )


def _length(name: str, value: Any) -> int:
    if type(value) is not int or not 0 <= value <= LENGTH_MAX_TOK:
        raise ValueError(f"{name} must be a whole number of tokens from 0 to {LENGTH_MAX_TOK}, not {shown(value)}")
    return value


def _blocks(ids: Any, context_tok: int) -> tuple[int, ...] | None:
    if ids is None:
        return None
    if not isinstance(ids, list) or not all(type(one) is int and 0 <= one <= _BLOCK_ID_MAX for one in ids):
        raise ValueError(f"hash_ids must be a list of whole numbers from 0 on, not {shown(ids)}")
    # With the last, partial block or without it; anything else is a trace with blocks of another size.
    if not context_tok // BLOCK_TOK <= len(ids) <= math.ceil(context_tok / BLOCK_TOK):
        raise ValueError(f"{len(ids)} hash_ids do not fit {context_tok} tokens: a block has {BLOCK_TOK}")
    return tuple(ids)


def _burstgpt(header: list[str]) -> Callable[[str], TraceRequest]:
    """What reads a row under this header."""
    if not set(_COLUMNS) <= set(header):
        raise ValueError(
            "neither Mooncake's JSON lines nor BurstGPT's CSV: a { or a header with "
            f"{', '.join(_COLUMNS)} expected, not {shown(','.join(header))}"
        )
    at, context, output = (header.index(name) for name in _COLUMNS)

    def row(text: str) -> TraceRequest:
        fields = _fields(text)
        if len(fields) != len(header):
            raise ValueError(f"{len(header)} fields expected, not {len(fields)}")
        if not _DECIMAL.fullmatch(fields[at]) or float(fields[at]) > _STAMP_MAX_S:
            raise ValueError(f"Timestamp must be a number of seconds from 0 on, not {shown(fields[at])}")
        whole, _, part = fields[at].partition(".")
        return TraceRequest(
            at_ns=int(whole) * 1_000_000_000 + round(float(f"0.{part or 0}") * 1e9),
            context_tok=_whole("Request tokens", fields[context]),
            output_tok=_whole("Response tokens", fields[output]),
            blocks=None,
        )

    return row


def _whole(name: str, text: str) -> int:
    return _length(name, int(text) if _WHOLE.fullmatch(text) else text)


def _fields(text: str) -> list[str]:
    try:
        return [field.strip() for field in next(csv.reader([text], strict=True))]
    except csv.Error as error:
        raise ValueError(f"not CSV, {shown(text)}: {error}") from None
