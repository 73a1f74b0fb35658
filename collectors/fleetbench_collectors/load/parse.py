"""From stamped bytes to what a request came to: HTTP framing, server-sent events, the engine's own counts."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from fleetbench_collectors.load.client import Ending, Exchange
from fleetbench_collectors.load.http import Chunks, FramingError, Head, Piece, head

ERROR_MAX_CHARS = 500
_LINE = re.compile(rb"([^\r\n]*)(\r\n|\n|\r)")
_OK = 200


@dataclass(slots=True, kw_only=True)
class Reply:
    """What a request came to. Stamps on the monotonic clock in ns, None where it did not get so far.

    chunks: those that carry a token; token_ns: one stamp for each arrival, which is a chunk, or several that
    one read brought; chunk_tok: the tokens of each arrival, None where every one is a chunk and the server sends
    no ids; prompt_tok, output_tok, cached_tok: by the server's usage.
    """

    outcome: str = "ok"
    error: str | None = None
    first_byte_ns: int | None = None
    end_ns: int | None = None
    chunks: int | None = None
    token_ns: list[int] = field(default_factory=list)
    chunk_tok: list[int] | None = None
    prompt_tok: int | None = None
    output_tok: int | None = None
    cached_tok: int | None = None

    def gaps_us(self) -> list[int]:
        """Between successive arrivals, in whole microseconds."""
        longest = 2**32 - 1
        return [min(round((after - before) / 1000), longest) for before, after in pairwise(self.token_ns)]


@dataclass(slots=True, kw_only=True)
class Body:
    """A response without its framing: its data, and where each run of it stood among the stamped reads.

    offsets: [reads] bytes up to the end of each read; stamps: [reads] in ns.
    """

    head: Head
    data: bytes
    pieces: list[Piece]
    offsets: list[int]
    stamps: list[int]

    def stamp(self, position: int) -> int:
        """When the body's byte at `position` arrived, in ns: the stamp of the read that brought it."""
        piece = self.pieces[bisect_right(self.pieces, position, key=lambda piece: piece.body) - 1]
        raw = piece.raw + position - piece.body
        return self.stamps[bisect_right(self.offsets, raw)]


@dataclass(slots=True, kw_only=True)
class _Tokens:
    """Stamps of the chunks of a stream: those with a token for sure, and those of a token without a text."""

    stamps: list[int] = field(default_factory=list)
    sure: list[bool] = field(default_factory=list)
    ids: list[int | None] = field(default_factory=list)


def reply(exchange: Exchange) -> Reply:
    """What the bytes of an exchange say. Never raises: bytes that make no sense are a protocol_error."""
    result = Reply()
    try:
        body = _body(exchange.reads)
    except FramingError as error:
        return _failed(result, "protocol_error", str(error))
    if body is not None and body.data:
        result.first_byte_ns = body.stamp(0)
    if exchange.ending is Ending.COMPLETE or (_ends_with_connection(body) and exchange.ending is Ending.CLOSED):
        result.end_ns = exchange.reads[-1][0]
    if body is not None and body.head.status != _OK:
        return _failed(result, "http_error", f"HTTP {body.head.status}: {_text(body.data)}")
    finished = False
    if body is not None:
        try:
            finished = _stream(body, result)
        except ValueError as error:
            return _failed(result, "protocol_error", str(error))
    if result.outcome != "ok":
        return result
    return _ended(exchange, result, finished=finished)


def _ended(exchange: Exchange, result: Reply, *, finished: bool) -> Reply:
    why = exchange.error or ""
    match exchange.ending:
        case Ending.TIMEOUT:
            return _failed(result, "timeout", why)
        case Ending.TRANSPORT:
            return _failed(result, "transport_error", why)
        case Ending.FRAMING | Ending.TOO_LARGE:
            return _failed(result, "protocol_error", why)
        case Ending.CLOSED if result.end_ns is None:
            return _failed(result, "transport_error", f"{why} in the middle of the response")
        case _ if not finished:
            return _failed(result, "protocol_error", "the stream ended without its last event")
        case _:
            return result


def _failed(result: Reply, outcome: str, error: str) -> Reply:
    result.outcome, result.error = outcome, error[:ERROR_MAX_CHARS]
    return result


def _text(data: bytes) -> str:
    return data[: 4 * ERROR_MAX_CHARS].decode(errors="replace").strip()


def _ends_with_connection(body: Body | None) -> bool:
    return body is not None and not body.head.chunked and body.head.length is None


def _body(reads: Sequence[tuple[int, bytes]]) -> Body | None:
    raw = b"".join(data for _, data in reads)
    start = head(raw)
    if start is None:
        return None
    rest = raw[start.size_bytes :]
    if start.chunked:
        chunks = Chunks(start.size_bytes)
        chunks.feed(rest)
        pieces = chunks.pieces
        data = b"".join(raw[piece.raw : piece.raw + piece.size] for piece in pieces)
    else:
        data = rest if start.length is None else rest[: start.length]
        pieces = [Piece(raw=start.size_bytes, body=0, size=len(data))]
    return Body(
        head=start,
        data=data,
        pieces=pieces,
        offsets=list(accumulate(len(read) for _, read in reads)),
        stamps=[stamp for stamp, _ in reads],
    )


def _events(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(position of the last byte, data) of every server-sent event that is whole.

    An `error:` line, as llama.cpp has sent it, is an event of its own. `[DONE]` needs no empty line after it.
    """
    pending: list[bytes] = []
    end = 0
    for line in _LINE.finditer(data):
        content, end = line[1], line.end() - 1
        name, _, value = content.partition(b":")
        value = value.removeprefix(b" ")
        if not content:
            if pending:
                yield end, b"\n".join(pending)
            pending = []
        elif name == b"data":
            pending.append(value)
        elif name == b"error":
            yield end, b'{"error":' + value + b"}"
    if pending == [b"[DONE]"]:
        yield end, pending[0]


def _stream(body: Body, result: Reply) -> bool:
    """Reads the events into `result`; whether the stream said that it is over."""
    tokens = _Tokens()
    finished = False
    for position, data in _events(body.data):
        if data == b"[DONE]":
            finished = True
            continue
        try:
            event = json.loads(data)
        except ValueError as error:
            raise ValueError(f"an event that is no JSON: {_text(data)[:200]}") from error
        if not isinstance(event, dict):
            raise ValueError(f"an event that is no object: {_text(data)[:200]}")  # noqa: TRY004 - of bytes, not of a call
        if event.get("error"):
            _failed(result, "http_error", f"an error within the stream: {json.dumps(event['error'])}")
            break
        _usage(event.get("usage"), result)
        finished |= _choice(event.get("choices"), body.stamp(position), tokens)
    _count(tokens, result)
    return finished


def _usage(usage: Any, result: Reply) -> None:
    if not isinstance(usage, dict):
        return
    result.prompt_tok = _whole(usage.get("prompt_tokens"))
    result.output_tok = _whole(usage.get("completion_tokens"))
    details = usage.get("prompt_tokens_details")
    if isinstance(details, dict):
        result.cached_tok = _whole(details.get("cached_tokens"))


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def _choice(choices: Any, stamp: int, tokens: _Tokens) -> bool:
    """Notes the chunk's token, if any; whether the server says that it was the last."""
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return False
    choice = choices[0]
    last = choice.get("finish_reason") is not None
    ids = choice.get("token_ids")
    ids = ids if isinstance(ids, list) else None
    sure = bool(choice.get("text")) or bool(ids)
    if sure or ("text" in choice and not last and ids is None):
        tokens.stamps.append(stamp)
        tokens.sure.append(sure)
        tokens.ids.append(None if ids is None else len(ids))
    return last


def _count(tokens: _Tokens, result: Reply) -> None:
    """Decides which chunks carried a token.

    A token may have no text (a control token, half of a character), and a chunk without a text may have no
    token. The server's own count decides: chunks without a text are tokens where that makes the counts equal.
    """
    blank = len(tokens.stamps) == result.output_tok
    chosen = [index for index, sure in enumerate(tokens.sure) if sure or blank]
    stamps = [tokens.stamps[index] for index in chosen]
    counts = [count for index in chosen if (count := tokens.ids[index]) is not None]
    known = bool(chosen) and len(counts) == len(chosen) and sum(counts) == result.output_tok
    result.chunks = len(stamps) or None
    result.token_ns = sorted(set(stamps))
    if known or len(result.token_ns) < len(stamps):
        result.chunk_tok = _together(stamps, counts if known else spread(result.output_tok, len(stamps)))


def spread(output_tok: int | None, chunks: int) -> list[int]:
    """Whole tokens of each of `chunks` that add up to `output_tok`; one each where it is unknown or smaller."""
    if output_tok is None or output_tok < chunks:
        return [1] * chunks
    bounds = [index * output_tok // chunks for index in range(chunks + 1)]
    return [after - before for before, after in pairwise(bounds)]


def _together(stamps: Sequence[int], counts: Sequence[int]) -> list[int]:
    """Tokens by stamp: chunks that one read brought are one arrival, for the time between them cannot be seen."""
    tokens: dict[int, int] = {}
    for stamp, count in zip(stamps, counts, strict=True):
        tokens[stamp] = tokens.get(stamp, 0) + count
    return [tokens[stamp] for stamp in sorted(tokens)]
