"""A closed loop of raw sockets that stamps bytes and understands nothing of them until the trial is over."""

from __future__ import annotations

import contextlib
import gc
import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from fleetbench_collectors.load.http import FramingError, ResponseEnd

READ_BYTES = 262_144
_CONNECT_NS = 10_000_000_000


class Ending(StrEnum):
    """How the bytes of a response came to an end."""

    COMPLETE = "complete"
    CLOSED = "closed"
    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    FRAMING = "framing"
    TOO_LARGE = "too_large"


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request as the socket saw it: stamps on the monotonic clock in ns, bytes as they came."""

    request: int
    start_ns: int
    reads: list[tuple[int, bytes]] = field(default_factory=list)
    ending: Ending = Ending.COMPLETE
    error: str | None = None


class _Lane:
    """One of the `batch` places: its connection, and the exchange that it carries."""

    __slots__ = ("asked", "begun_ns", "end", "exchange", "fault", "payload", "reused", "size", "sock", "unsent")

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.asked = 0
        self.exchange: Exchange | None = None
        self.begun_ns = 0
        self.payload = b""
        self.unsent = memoryview(b"")
        self.end = ResponseEnd()
        self.size = 0
        self.reused = False
        self.fault: str | None = None


class ClosedLoop:
    """Keeps `batch` requests in flight over keep-alive connections, opened beforehand.

    Args:
        address: host and port of the engine.
        batch: requests in flight.
        timeout_s: from a request's start to its last byte.
        response_max_bytes: where a response is cut off.
    """

    def __init__(self, *, address: tuple[str, int], batch: int, timeout_s: float, response_max_bytes: int) -> None:
        self._address = address
        self._timeout_ns = int(timeout_s * 1e9)
        self._max_bytes = response_max_bytes
        self._lanes = [_Lane() for _ in range(batch)]
        self._selector = selectors.DefaultSelector()
        self._todo: Iterator[tuple[int, bytes]] = iter(())
        self._flying: dict[int, _Lane] = {}
        self._done: list[Exchange] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for lane in self._lanes:
            self._drop(lane)
        self._selector.close()

    def run(self, payloads: Sequence[bytes], *, first: int = 0) -> list[Exchange]:
        """Sends every payload once, `batch` at a time; the exchanges in order of their starts.

        `first` numbers the first request. A request that no engine takes is an exchange like any other.
        """
        self._todo = iter(enumerate(payloads, start=first))
        self._done = []
        self._warm(self._lanes[: len(payloads)])
        with _no_collector():
            for lane in self._lanes:
                self._next(lane)
            while self._flying:
                self._turn()
        return sorted(self._done, key=lambda exchange: exchange.request)

    def _turn(self) -> None:
        oldest = next(iter(self._flying.values()))
        left_ns = oldest.begun_ns + self._timeout_ns - time.monotonic_ns()
        if left_ns <= 0:
            self._finish(oldest, Ending.TIMEOUT, "no whole response in time")
            return
        for key, mask in self._selector.select(left_ns / 1e9):
            lane: _Lane = key.data
            if lane.exchange is None:
                self._settle(lane)
                continue
            if mask & selectors.EVENT_WRITE:
                self._send(lane, lane.exchange)
            if mask & selectors.EVENT_READ:
                self._read(lane, lane.exchange)

    def _next(self, lane: _Lane) -> None:
        """Gives the lane its next request; a loop, for an engine that is gone fails each at once."""
        while lane.exchange is None:
            found = next(self._todo, None)
            if found is None:
                return
            request, lane.payload = found
            self._begin(lane, Exchange(request=request, start_ns=time.monotonic_ns()))

    def _begin(self, lane: _Lane, exchange: Exchange) -> None:
        lane.reused = lane.sock is not None
        failure = None if lane.reused else self._open(lane)
        if failure is not None:
            lane.exchange = None
            exchange.ending, exchange.error = Ending.TRANSPORT, failure
            self._done.append(exchange)
            return
        lane.exchange = exchange
        lane.begun_ns = time.monotonic_ns()
        lane.end = ResponseEnd()
        lane.size = 0
        lane.fault = None
        lane.unsent = memoryview(lane.payload)
        self._flying[exchange.request] = lane
        self._send(lane, exchange)

    def _send(self, lane: _Lane, exchange: Exchange) -> None:
        if lane.sock is None:
            return
        if len(lane.unsent) == len(lane.payload):
            exchange.start_ns = time.monotonic_ns()
        try:
            while lane.unsent:
                lane.unsent = lane.unsent[lane.sock.send(lane.unsent) :]
        except BlockingIOError:
            self._watch(lane, selectors.EVENT_READ | selectors.EVENT_WRITE)
            return
        except OSError as error:
            # The engine may have answered before it closed: what can be read decides.
            lane.fault = str(error)
            lane.unsent = memoryview(b"")
        self._watch(lane, selectors.EVENT_READ)

    def _read(self, lane: _Lane, exchange: Exchange) -> None:
        if lane.sock is None:
            return
        try:
            data = lane.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._lost(lane, exchange, Ending.TRANSPORT, lane.fault or str(error))
            return
        stamp = time.monotonic_ns()
        if not data:
            ending = Ending.TRANSPORT if lane.fault else Ending.CLOSED
            self._lost(lane, exchange, ending, lane.fault or "the engine closed the connection")
            return
        exchange.reads.append((stamp, data))
        lane.size += len(data)
        try:
            whole = lane.end.feed(data)
        except FramingError as error:
            self._finish(lane, Ending.FRAMING, str(error))
            return
        if whole:
            self._finish(lane, Ending.COMPLETE, None)
        elif lane.size > self._max_bytes:
            self._finish(lane, Ending.TOO_LARGE, f"a response of more than {self._max_bytes} bytes")

    def _lost(self, lane: _Lane, exchange: Exchange, ending: Ending, why: str) -> None:
        """Ends the exchange, or tries once more where an idle connection turned out to have been closed."""
        if exchange.reads or not lane.reused:
            self._finish(lane, ending, why)
            return
        self._drop(lane)
        del self._flying[exchange.request]
        self._begin(lane, exchange)
        self._next(lane)

    def _finish(self, lane: _Lane, ending: Ending, error: str | None) -> None:
        exchange = lane.exchange
        if exchange is None:
            return
        exchange.ending, exchange.error = ending, error
        lane.exchange = None
        del self._flying[exchange.request]
        self._done.append(exchange)
        head = lane.end.head
        if ending is not Ending.COMPLETE or head is None or not head.keep_alive or lane.unsent:
            self._drop(lane)
        self._next(lane)

    def _watch(self, lane: _Lane, events: int) -> None:
        if lane.sock is not None and lane.asked != events:
            self._selector.modify(lane.sock, events, lane)
            lane.asked = events

    def _warm(self, lanes: Sequence[_Lane]) -> None:
        """Opens what is not open, and waits until all are or until it takes too long.

        A failure is left to the request that will use the connection.
        """
        for lane in lanes:
            self._settle(lane)
            if lane.sock is None:
                self._open(lane)
        deadline_ns = time.monotonic_ns() + min(self._timeout_ns, _CONNECT_NS)
        while any(lane.asked & selectors.EVENT_WRITE for lane in lanes if lane.sock is not None):
            left_ns = deadline_ns - time.monotonic_ns()
            if left_ns <= 0:
                return
            for key, _ in self._selector.select(left_ns / 1e9):
                self._settle(key.data)

    def _settle(self, lane: _Lane) -> None:
        """Sees to a connection that carries no request: connected by now, or closed by the engine."""
        if lane.sock is None:
            return
        try:
            lane.sock.getpeername()
            lane.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self._watch(lane, selectors.EVENT_READ)
        except OSError:
            self._drop(lane)
        else:
            self._drop(lane)

    def _open(self, lane: _Lane) -> str | None:
        """Begins to connect; the reason in words where even that fails."""
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(*self._address, type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            return f"no connection to {self._address[0]}:{self._address[1]}: {error}"
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # What becomes of it, the first write or read tells.
        sock.connect_ex(where)
        lane.sock, lane.asked = sock, selectors.EVENT_READ | selectors.EVENT_WRITE
        self._selector.register(sock, lane.asked, lane)
        return None

    def _drop(self, lane: _Lane) -> None:
        if lane.sock is not None:
            self._selector.unregister(lane.sock)
            lane.sock.close()
            lane.sock = None
            lane.asked = 0


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """The garbage collector off: its pauses would be stamped as the engine's."""
    enabled = gc.isenabled()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.unfreeze()
        if enabled:
            gc.enable()
