"""The places that requests take turns on: their connections, and what epoll watches of them."""

from __future__ import annotations

import contextlib
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from fleetbench_collectors.load.connection import Connection, Step
from fleetbench_collectors.load.response import Exchange
from fleetbench_collectors.load.target import Target

_CONNECT_NS = 10_000_000_000
_EVENTS = 512
_REST_NS = 30_000_000
_SPIN_NS = 1_000_000
"""epoll waits whole milliseconds; what is shorter is waited for by select, which counts microseconds."""
_SELECT_FD_MAX = 1_024

Events = list[tuple[int, int]]
Receive = Callable[[int, int], tuple[bytes, list[Any], int, Any]]


class Place:
    """One request at a time: its connection, and the exchange that it carries.

    receive: the socket's recvmsg; reused: the connection was open before its request.
    """

    __slots__ = ("connection", "exchange", "receive", "reused", "unsent", "watched")

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.exchange: Exchange | None = None
        self.receive: Receive = _nothing
        self.unsent = memoryview(b"")
        self.reused = False
        self.watched = 0


Active = tuple[Receive, Exchange, Place]
"""What the hot loop needs of a place, without looking it up."""


class Places:
    """Opens, watches and closes connections.

    by_fd: every place that has one; active: those whose request is on its way, the only ones that the hot loop
    looks at; idle: places without a request; resting: places after a first response, with the time until which
    it is seen whether the server keeps their connections.
    """

    def __init__(self, target: Target, *, kernel: bool) -> None:
        """Raises OSError where the file of authorities for TLS is none."""
        self.by_fd: dict[int, Place] = {}
        self.active: dict[int, Active] = {}
        self.idle: list[Place] = []
        self.resting: deque[tuple[int, Place]] = deque()
        self._keeps: bool | None = None
        self._target = target
        self._epoll = select.epoll()
        self._where: tuple[int, Any] | None = None
        self._connect = _connector(target, kernel=kernel)

    def close(self) -> None:
        for place in list(self.by_fd.values()):
            self.drop(place)
        self._epoll.close()

    def warm(self, n: int, timeout_ns: int) -> None:
        """Opens connections until `n` places are idle, and waits until they are ready or it takes too long.

        A failure is left to the request that will use the connection.
        """
        while self.resting:
            for fd, mask in self.wait(self.resting[0][0]):
                self.settle(self.by_fd[fd], mask)
            self.rise(time.monotonic_ns())
        self.idle.extend(Place() for _ in range(n - len(self.idle)))
        for place in self.idle[len(self.idle) - n :]:  # the last ones are taken first
            if place.connection is None:
                self.open(place)
        deadline_ns = time.monotonic_ns() + min(timeout_ns, _CONNECT_NS)
        while any(place.connection and place.connection.step is not Step.READY for place in self.idle):
            left_ns = deadline_ns - time.monotonic_ns()
            if left_ns <= 0:
                return
            for fd, mask in self._epoll.poll(left_ns / 1e9):
                self.settle(self.by_fd[fd], mask)

    def wait(self, until_ns: int) -> Events:
        """(descriptor, mask) of what happened; nothing where `until_ns` of the monotonic clock comes first."""
        left_ns = until_ns - time.monotonic_ns()
        if left_ns >= _SPIN_NS:
            return self._epoll.poll(left_ns // _SPIN_NS / 1e3, _EVENTS)
        if left_ns > 0 and self._epoll.fileno() < _SELECT_FD_MAX:
            select.select([self._epoll], [], [], left_ns / 1e9)
        return self._epoll.poll(0, _EVENTS)

    def open(self, place: Place) -> str | None:
        """Begins to connect; the reason in words where even that fails."""
        try:
            if self._where is None:
                self._where = self._target.resolve()
            connection = self._connect(self._where)
        except OSError as error:
            return self._unreachable(error)
        place.connection = connection
        place.receive = connection.sock.recvmsg
        place.watched = connection.wants
        self._epoll.register(connection.fd, connection.wants)
        self.by_fd[connection.fd] = place
        return None

    def give_back(self, place: Place, *, keep: bool) -> None:
        """Takes a place whose request is over; `keep`: nobody has said that its connection ends.

        Some servers end it all the same (llama.cpp after each stream). So the first connections rest for a moment;
        if one is closed meanwhile, none is used twice.
        """
        if not keep or self._keeps is False or place.connection is None:
            self.drop(place)
            self.idle.append(place)
            return
        del self.active[place.connection.fd]
        if self._keeps:
            self.idle.append(place)
        else:
            self.resting.append((time.monotonic_ns() + _REST_NS, place))

    def rise(self, now_ns: int) -> None:
        """Ends the rest, if it is known by now whether the server keeps connections."""
        if self._keeps is None and self.resting and self.resting[0][0] <= now_ns:
            self._keeps = True
        if self._keeps is None:
            return
        for _, place in self.resting:
            if not self._keeps:
                self.drop(place)
            self.idle.append(place)
        self.resting.clear()

    def settle(self, place: Place, mask: int) -> str | None:
        """Goes on with a connection whose request is not sent; the reason in words where it is broken.

        One that is ready has nothing to say: bytes that nobody asked for, or its end, break it too. (TLS has: what
        it needs to resume a session comes after the handshake.)
        """
        connection = place.connection
        if connection is None:
            return None
        try:
            if mask & select.EPOLLHUP:
                raise OSError(connection.trouble() or "the server closed the connection")  # noqa: TRY301 - see `advance`
            if connection.step is Step.READY:
                connection.check_idle()
            else:
                connection.advance()
        except OSError as error:
            self.drop(place)
            if any(resting is place for _, resting in self.resting):
                self._keeps = False
            return self._unreachable(error)
        place.receive = connection.sock.recvmsg  # TLS puts a socket of its own over the same descriptor
        self.watch(place, connection.wants)
        return None

    def watch(self, place: Place, events: int) -> None:
        if place.connection is not None and place.watched != events:
            self._epoll.modify(place.connection.fd, events)
            place.watched = events

    def drop(self, place: Place) -> None:
        connection = place.connection
        if connection is None:
            return
        self.active.pop(connection.fd, None)
        del self.by_fd[connection.fd]
        with contextlib.suppress(OSError):
            self._epoll.unregister(connection.fd)
        connection.close()
        place.connection = None

    def _unreachable(self, error: OSError) -> str:
        host, port = self._target.peer
        return f"no connection to {host}:{port}: {error.strerror or error}"


def _connector(target: Target, *, kernel: bool) -> Callable[[tuple[int, Any]], Connection]:
    if not target.tls:
        return lambda where: Connection(target, where, kernel=kernel)
    from fleetbench_collectors.load import tls  # noqa: PLC0415 - 15 ms that only TLS needs

    context = tls.context(target)
    return lambda where: tls.TlsConnection(target, where, context)


def _nothing(_size: int, _control: int) -> tuple[bytes, list[Any], int, Any]:
    raise BlockingIOError
