"""A response while it comes and until it is understood: stamped bytes, and where they wait."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from fleetbench_collectors.load import http, stamps
from fleetbench_collectors.load.exchange import Ending, Request
from fleetbench_collectors.load.parse import Reply, Stream
from fleetbench_collectors.load.record import Records

FOLD_BYTES = 32_768
"""A response longer than this is understood piece by piece as it comes, so that its bytes need not be kept."""
KEPT_BYTES = 24 << 20
"""Whole responses beyond this are understood before the trial is over, after each batch of reads."""
_SPREAD = 64
_FOLDS = 3
"""Long responses folded after a batch of reads: more would make the next reads late."""
_LATE_BYTES = 4 * FOLD_BYTES
_WAIT_BATCHES = 8
"""Where bytes come faster than that, none waits for more than so many batches: memory goes first."""
_OK = 200
_TAIL_BYTES = 32
_EMPTY_LINE = b"\r\n\r\n"
_EVENT_END = b"\r\n\r\n\r\n"
"""Of an event whose lines end with CR LF, and its chunk: no chunked body ends so."""
_DONE = (b"data: [DONE]\n\n\r\n0\r\n\r\n", b"data:[DONE]\n\n\r\n0\r\n\r\n", b"data: [DONE]\r\n\r\n\r\n0\r\n\r\n")
"""No JSON text holds a line end, so these can only be the stream's own end."""


class Exchange:
    """One request and what came back: bytes as they were read, a stamp for each read.

    begun_ns: when the client took it up; start_ns: when it was written to the socket, 0 before; intended_ns: when
    it was to start, None in a closed loop; over_ns: when the client was done with it: all ns on the monotonic clock.
    timespecs: the kernel's stamps, 16 bytes a read; offset_ns: wall clock less monotonic clock; stamps_ns: stamps of
    this process. due_bytes: how many bytes are there when it has to be looked at; waits: it is among those to fold.
    """

    __slots__ = (
        "begun_ns",
        "due_bytes",
        "ending",
        "error",
        "fault",
        "head",
        "intended_ns",
        "offset_ns",
        "over_ns",
        "phase",
        "reads",
        "request",
        "size_bytes",
        "stamps_ns",
        "start_ns",
        "stream",
        "tail",
        "timespecs",
        "waits",
    )

    def __init__(self, request: Request, *, phase: str, intended_ns: int | None, begun_ns: int, offset_ns: int) -> None:
        self.request = request
        self.offset_ns = offset_ns
        self.phase = phase
        self.intended_ns = intended_ns
        self.begun_ns = begun_ns
        self.start_ns = 0
        self.over_ns: int | None = None
        self.reads: list[bytes] = []
        self.timespecs = bytearray()
        self.stamps_ns = array("q")
        self.size_bytes = 0
        self.due_bytes = 0
        self.waits = False
        self.head: http.Head | None = None
        self.stream: Stream | None = None
        self.tail = b""
        self.fault: str | None = None
        self.ending = Ending.COMPLETE
        self.error: str | None = None

    @property
    def keep_alive(self) -> bool:
        return self.head is not None and self.head.keep_alive

    @property
    def ok(self) -> bool:
        return self.head is not None and self.head.status == _OK

    def stamp(self, stamp_ns: int) -> None:
        """A stamp of this process among the kernel's."""
        self.timespecs += stamps.TIMESPEC.pack(*divmod(stamp_ns + self.offset_ns, 1_000_000_000))

    def whole(self) -> bool:
        """Whether the response is whole; to be asked when `due_bytes` are there or a read ends with an empty line.

        Raises:
            FramingError: it is no HTTP/1.1 response.
        """
        if self.head is None:
            self._begin()
        if self.head is None:
            return False
        if self.head.chunked:
            return self._chunked_end()
        if self.head.length is None:
            return False
        left_bytes = self.head.size_bytes + self.head.length - self.size_bytes
        if left_bytes < 0:
            raise http.FramingError("bytes after the end of the response")
        return not left_bytes

    @property
    def unfolded_bytes(self) -> int:
        """Bytes that it keeps."""
        return sum(map(len, self.reads))

    def long(self) -> bool:
        """Whether enough of it has come to be understood by pieces."""
        return self.size_bytes >= self.due_bytes and self.head is not None

    def fold(self) -> None:
        """Understands what has come so far, and lets go of its bytes."""
        if self.stream is None:
            self.stream = Stream()
        if self.reads:
            self.tail = self._last(_TAIL_BYTES)
            self.stream.feed(self.reads, self._stamps())
            self.reads = []
            self.timespecs = bytearray()
            self.stamps_ns = array("q")
        self._later()

    def _begin(self) -> None:
        """Reads the head, if it is there."""
        head = self.head = http.head(b"".join(self.reads))
        if head is None:
            self.due_bytes = self.size_bytes + 1
        else:
            self._later()

    def _later(self) -> None:
        """Sets when to look again; the first time spread out, for streams that begin together grow together."""
        if self.head is None:
            return
        spread_bytes = 0 if self.stream else self.request.number % _SPREAD * (FOLD_BYTES // _SPREAD)
        self.due_bytes = self.size_bytes + FOLD_BYTES + spread_bytes
        if self.head.length is not None:
            self.due_bytes = min(self.due_bytes, self.head.size_bytes + self.head.length)

    def _chunked_end(self) -> bool:
        last = self._last(_TAIL_BYTES)
        if not last.endswith(_EMPTY_LINE) or last.endswith(_EVENT_END):
            return False
        if last.endswith(_DONE):
            return True
        self.fold()
        return self.stream is not None and self.stream.whole

    def _last(self, size: int) -> bytes:
        """The last bytes so far, of as many reads as it takes."""
        last = b""
        for read in reversed(self.reads):
            last = read[-size:] + last
            if len(last) >= size:
                return last
        return (self.tail + last)[-size:]

    def _stamps(self) -> Sequence[int]:
        return stamps.monotonic_ns(self.timespecs, self.offset_ns) if self.timespecs else self.stamps_ns


class Pile:
    """Exchanges that are over, waiting to be understood; and those so long that it has to begin before.

    records: what was understood.
    """

    def __init__(self) -> None:
        self.records = Records()
        self._over: deque[Exchange] = deque()
        self._long: deque[Exchange] = deque()
        self._kept_bytes = 0

    def add(self, exchange: Exchange) -> None:
        self._over.append(exchange)
        self._kept_bytes += exchange.size_bytes

    def fold_soon(self, exchange: Exchange) -> None:
        if not exchange.waits:
            exchange.waits = True
            self._long.append(exchange)

    def relieve(self) -> None:
        """A few steps, where memory asks for it: they delay the next reads, so they come one by one."""
        folds = min(len(self._long), _FOLDS)
        if folds and self._long[0].unfolded_bytes > _LATE_BYTES:
            folds = max(folds, -(-len(self._long) // _WAIT_BATCHES))
        for _ in range(folds):
            exchange = self._long.popleft()
            exchange.waits = False
            exchange.fold()
        while self._kept_bytes > KEPT_BYTES:
            self.understand()

    def understand(self) -> bool:
        """Turns the exchange that was over first into a row; whether there was one."""
        if not self._over:
            return False
        exchange = self._over.popleft()
        self._kept_bytes -= exchange.size_bytes
        exchange.fold()
        stream = exchange.stream or Stream()
        start_ns = exchange.start_ns or exchange.begun_ns
        self.records.add(
            exchange.request,
            exchange.phase,
            intended_ns=start_ns if exchange.intended_ns is None else exchange.intended_ns,
            start_ns=start_ns,
            begun_ns=exchange.begun_ns,
            over_ns=exchange.over_ns,
            reply=_believable(stream.finish(exchange.ending, exchange.error), exchange.size_bytes),
        )
        return True

    def understand_all(self) -> None:
        while self.understand():
            pass


def _believable(reply: Reply, size_bytes: int) -> Reply:
    """Refuses a count of more tokens than there are bytes: figures by the token would come of it."""
    if (reply.output_tok or 0) <= size_bytes:
        return reply
    why = f"the usage counts {reply.output_tok} output tokens in {size_bytes} bytes"
    failed = ("protocol_error", why) if reply.outcome == "ok" else (reply.outcome, reply.error)
    return replace(reply, outcome=failed[0], error=failed[1], output_tok=None, chunk_tok=None)
