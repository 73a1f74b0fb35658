"""From stamped bytes to what a request came to: HTTP framing, server-sent events, the engine's own counts."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, islice
from operator import le
from typing import Any

from fleetbench_collectors.load import dialect
from fleetbench_collectors.load.exchange import Ending
from fleetbench_collectors.load.http import Dechunker, FramingError, Head, Pieces, head
from fleetbench_collectors.load.sse import Splitter, Template

ERROR_MAX_CHARS = 500
_EXCERPT_BYTES = 4 * ERROR_MAX_CHARS
_OK = 200
_FAILED = {
    Ending.CANCELLED: "cancelled",
    Ending.TIMEOUT: "timeout",
    Ending.TRANSPORT: "transport_error",
    Ending.FRAMING: "protocol_error",
    Ending.TOO_LARGE: "protocol_error",
}
_BLOCK_MIN_BYTES = 2_048
_BLOCK_MAX_BYTES = 131_072
_STEP_BYTES = 256
_STEP_MAX_DOUBLINGS = 5
_LESSONS = 4
"""Templates without a success, one after the other, until no more are learnt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a request came to. Stamps on the monotonic clock in ns, None where it did not get so far.

    chunks: those that carry a token; token_ns: one stamp for each arrival, which is a chunk, or several that
    one read brought; chunk_tok: the tokens of each arrival, None where every one is a chunk and the server says
    nothing else; prompt_tok, output_tok, cached_tok: by the server's own count.
    """

    outcome: str = "ok"
    error: str | None = None
    first_byte_ns: int | None = None
    end_ns: int | None = None
    chunks: int | None = None
    token_ns: array[int] = field(default_factory=lambda: array("q"))
    chunk_tok: array[int] | None = None
    prompt_tok: int | None = None
    output_tok: int | None = None
    cached_tok: int | None = None


class _Events:
    """The body of a stream: what its events say, one by one or, where they are alike, by counting them."""

    def __init__(self, lessons: int) -> None:
        self.chunks = dialect.Chunks()
        self.finished = False
        self.failure: tuple[str, str] | None = None
        """The outcome and the error; what comes after it is not read."""
        self._splitter = Splitter()
        self._template: Template | None = None
        self._blank = False
        self._lessons = lessons
        self._block_bytes = _BLOCK_MAX_BYTES // 2
        self._steps = 0
        self._last_ns = 0

    @property
    def countable(self) -> bool:
        """Whether a template is known and the next byte begins an event."""
        return self._template is not None and self._splitter.idle and self.failure is None

    @property
    def step_bytes(self) -> int:
        """How much to read event by event before the next look at what may be counted."""
        return _STEP_BYTES << (0 if self._template else min(self._steps, _STEP_MAX_DOUBLINGS))

    def count(self, pieces: Pieces, *, framed: bool) -> int:
        """Takes the events that the template tells all at once, and says how many: 0 where others are among them."""
        if self._template is None:
            return 0
        size = min(self._block_bytes, max(pieces.left_bytes, _BLOCK_MIN_BYTES))
        block, stamps = pieces.block(size)
        while (found := self._template.count(block, framed=framed)) is None:
            if size <= _BLOCK_MIN_BYTES:
                return 0
            size = self._block_bytes = max(size // 4, _BLOCK_MIN_BYTES)
            block, stamps = pieces.block(size)
        pieces.skip(found.size_bytes)
        self.chunks.extend(stamps, found, blank=self._blank)
        self._block_bytes = min(2 * self._block_bytes, _BLOCK_MAX_BYTES)
        self._steps, self._lessons = 0, _LESSONS
        return sum(found.texts) + sum(found.blanks or ())

    def doubt(self, pieces: Pieces, *, framed: bool) -> None:
        """Gives up the template where an event was not told by it, and will not be without its chunk either."""
        block, _ = pieces.block(_BLOCK_MIN_BYTES)
        if self._template is None or not any(b"\n\n" in piece for piece in block):
            return
        if not framed or not any(self._template.ends(piece) for piece in block):
            self._template = None
            self._lessons -= 1

    def read(self, data: bytes, stamp: int) -> None:
        """Reads bytes event by event; learns a template of the last one if it brought a text and nothing else."""
        if not data:
            return
        if self._splitter.held and not data.startswith(b"\n"):
            self._take(self._splitter.settle(), self._last_ns)
        fresh, self._last_ns = self._splitter.idle, stamp
        last = self._take(self._splitter.feed(data), stamp)
        self._steps += 1
        if last is None or self._template or self._lessons <= 0 or not self._splitter.idle:
            return
        before = data.rfind(b"\n\n", 0, -2)
        said = dialect.said(last)
        if said and said.text and dialect.counts(last) is None and (before >= 0 or fresh):
            self._template = Template.learn(data[before + 2 if before >= 0 else 0 :], said.text)
            self._blank = not said.role

    def end(self) -> None:
        self._take(self._splitter.rest(), self._last_ns)

    def _take(self, events: Iterable[bytes], stamp: int) -> dict[str, Any] | None:
        """Reads events up to a failure; the last of them."""
        event = None
        if self.failure is not None:
            return event
        try:
            for data in events:
                event = None
                if dialect.done(data):
                    self.finished = True
                    continue
                event = dialect.event(data)
                error = dialect.error(event)
                if error is not None:
                    self.failure = ("http_error", f"an error within the stream: {error}")
                    return None
                self.finished = self.chunks.add(event, stamp) or self.finished
        except ValueError as error:
            self.failure = ("protocol_error", str(error))
            return None
        return event


class Stream:
    """One response, parsed from its reads: those of alike events by counting, which makes no object per token."""

    _lessons = _LESSONS

    def __init__(self) -> None:
        self._head: Head | None = None
        self._early = b""
        self._nonsense: FramingError | None = None
        self._dechunker = Dechunker()
        self._framed = True
        self._left_bytes: int | None = None
        self._excerpt: bytearray | None = None
        self._begun = False
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._events = _Events(self._lessons)

    def feed(self, reads: Sequence[bytes], stamps: Sequence[int]) -> None:
        """The next bytes of the response.

        Args:
            reads: [r] consecutive; the first ones begin with the status line.
            stamps: [r] ns on one clock. One that runs backwards counts as the one before it.
        """
        if not reads:
            return
        before_ns = stamps[0] if self._last_ns is None else self._last_ns
        if stamps[0] < before_ns or not all(map(le, stamps, islice(stamps, 1, None))):
            stamps = list(accumulate(stamps, max, initial=before_ns))[1:]
        self._last_ns = stamps[-1]
        try:
            if self._nonsense is None:
                self._feed(reads, stamps)
        except FramingError as error:
            self._nonsense = error

    @property
    def whole(self) -> bool:
        """Whether the last byte of a chunked body has come.

        Raises:
            FramingError: the bytes so far are no HTTP/1.1 response.
        """
        if self._nonsense is not None:
            raise self._nonsense
        return self._dechunker.whole

    def finish(self, ending: Ending, why: str | None) -> Reply:
        """What the response came to. Never raises: bytes that make no sense are a protocol_error."""
        over = ending is Ending.COMPLETE or (ending is Ending.CLOSED and self._ends_with_connection())
        outcome, error = self._outcome(ending, why or "", over=over)
        found = self._events.chunks
        chunks, token_ns, chunk_tok = found.arrivals()
        if outcome == "ok" and not chunks and not found.output_tok:
            outcome, error = "protocol_error", "the stream had no token"
        return Reply(
            outcome=outcome,
            error=None if error is None else error[:ERROR_MAX_CHARS],
            first_byte_ns=self._first_ns,
            end_ns=self._last_ns if over else None,
            chunks=chunks,
            token_ns=token_ns,
            chunk_tok=chunk_tok,
            prompt_tok=found.prompt_tok,
            output_tok=found.output_tok,
            cached_tok=found.cached_tok,
        )

    def _outcome(self, ending: Ending, why: str, *, over: bool) -> tuple[str, str | None]:
        failure = self._failure()
        if failure is not None:
            return failure
        if ending in _FAILED:
            return _FAILED[ending], why
        if not over:
            return "transport_error", f"{why} in the middle of the response"
        if not self._events.finished:
            return "protocol_error", "the stream ended without its last event"
        return "ok", None

    def _failure(self) -> tuple[str, str] | None:
        """What is wrong with the response itself, now that nothing follows."""
        if self._nonsense is not None:
            return "protocol_error", str(self._nonsense)
        if self._head is not None and self._excerpt is not None:
            said = self._excerpt.decode(errors="replace").strip()
            if self._head.status != _OK:
                return "http_error", f"HTTP {self._head.status}: {said}"
            return "protocol_error", f"one JSON answer where a stream of events was asked for: {said}"
        self._events.end()
        return self._events.failure

    def _ends_with_connection(self) -> bool:
        return self._head is not None and not self._head.chunked and self._head.length is None

    def _feed(self, reads: Sequence[bytes], stamps: Sequence[int]) -> None:
        if self._head is None:
            reads, stamps = self._start(reads, stamps)
        if self._head is None:
            return
        if self._head.chunked:
            self._chunked(Pieces(reads, stamps))
            return
        if self._left_bytes is not None:
            kept = []
            for read in reads:
                kept.append(read[: self._left_bytes])
                self._left_bytes -= len(kept[-1])
            reads = kept
        self._plain(Pieces(reads, stamps))

    def _start(self, reads: Sequence[bytes], stamps: Sequence[int]) -> tuple[Sequence[bytes], Sequence[int]]:
        """Reads the head; what is left of the reads after it."""
        for index, read in enumerate(reads):
            self._early += read
            self._head = head(self._early)
            if self._head is None:
                continue
            rest, self._early = self._early[self._head.size_bytes :], b""
            self._left_bytes = self._head.length
            if self._head.status != _OK:
                self._excerpt = bytearray()
            return [rest, *reads[index + 1 :]], stamps[index:]
        return (), ()

    def _chunked(self, pieces: Pieces) -> None:
        """Counts events together with their chunks, or takes off the chunks where that cannot be."""
        events = self._events
        while pieces.left_bytes:
            size_bytes = events.step_bytes if self._framed else _BLOCK_MAX_BYTES
            if self._framed and events.countable and self._dechunker.idle:
                if events.count(pieces, framed=True):
                    continue
                events.doubt(pieces, framed=True)
                size_bytes = _BLOCK_MIN_BYTES
            raw, stamps = pieces.step(size_bytes, b"\n\n\r\n")
            most = self._plain(Pieces([self._dechunker.feed(piece) for piece in raw], stamps))
            # A single event may have lacked the end of its chunk only.
            self._framed = self._framed and most <= 1

    def _plain(self, pieces: Pieces) -> int:
        """Reads a body without framing; the most events that were counted at once."""
        most = 0
        while pieces.left_bytes:
            if self._events.countable:
                n = self._events.count(pieces, framed=False)
                most = max(n, most)
                if n:
                    continue
                self._events.doubt(pieces, framed=False)
            for data, stamp in zip(*pieces.step(self._events.step_bytes, b"\n\n"), strict=True):
                self._deliver(data, stamp)
        return most

    def _deliver(self, data: bytes, stamp: int) -> None:
        """Takes bytes of the body: events, or an answer that is no stream."""
        if not self._begun:
            self._begin(data, stamp)
        if self._excerpt is None:
            self._events.read(data, stamp)
        else:
            self._excerpt += data[: _EXCERPT_BYTES - len(self._excerpt)]

    def _begin(self, data: bytes, stamp: int) -> None:
        if data and self._first_ns is None:
            self._first_ns = stamp
        start = data.lstrip()[:1]
        self._begun = bool(start)
        if start in (b"{", b"[") and self._excerpt is None:
            self._excerpt = bytearray()


def spread(output_tok: int | None, chunks: int) -> list[int]:
    """Whole tokens of each of `chunks` that add up to `output_tok`; one each where it is unknown or smaller."""
    return dialect.spread_over(output_tok, [1] * chunks)
