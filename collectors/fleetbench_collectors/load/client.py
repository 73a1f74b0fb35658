"""The loop that sends requests and stamps what comes back, and understands nothing of it until there is time."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from fleetbench_collectors.load.ahead import Ahead
from fleetbench_collectors.load.connection import IN, OUT, Step
from fleetbench_collectors.load.exchange import Ending, Request
from fleetbench_collectors.load.http import FramingError
from fleetbench_collectors.load.nap import MAX_S as NAP_MAX_S
from fleetbench_collectors.load.nap import Nap
from fleetbench_collectors.load.places import Place, Places
from fleetbench_collectors.load.reading import Reading
from fleetbench_collectors.load.response import Exchange, Pile
from fleetbench_collectors.load.stamps import WallOffset
from fleetbench_collectors.load.target import Target

TICK_NS = 50_000_000
"""How often the clocks, the time limits and who watches are seen to."""
_STARTS = 16
"""Requests started without a look at what there is to read: a burst of starts would make the first reads late."""
_CONNECT_NS = 10_000_000_000


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a phase is: counts since its start. resent: kept connections that had been closed in between."""

    started: int = 0
    completed: int = 0
    failed: int = 0
    reads: int = 0
    resent: int = 0


class Client:
    """Drives requests over keep-alive connections that were opened beforehand.

    Args:
        target: whom to ask.
        places: requests in flight: held there in a closed loop, at most that many in an open one.
        timeout_s: from a request's start to its last byte.
        response_max_bytes: where a response is cut off.
        kernel: kernel receive stamps, where they are to be had.
    """

    def __init__(
        self, target: Target, *, places: int, timeout_s: float, response_max_bytes: int, kernel: bool = True
    ) -> None:
        """Raises OSError where the target's file of authorities is none."""
        self.progress = Progress()
        self.offset = WallOffset.now()
        self.pile = Pile()
        self._kernel = kernel and not target.tls
        self._places = Places(target, kernel=self._kernel)
        self._places_n = self._limit = places
        self.reading = Reading(
            self._places, kernel=self._kernel, tls=target.tls, look=self._look, lost=self._lost, other=self._other
        )
        self._timeout_ns = int(timeout_s * 1e9)
        self._max_bytes = response_max_bytes
        self._flying: dict[int, Place] = {}
        """By request, in the order of their starts, but for those that are sent again."""
        self._ahead = Ahead(iter(()), 0)
        self._nap = Nap()
        self._zero_ns = 0
        self._phase = "measure"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._places.close()

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    def warm(self, places: int) -> None:
        """Opens so many connections, and waits until they are ready."""
        self._places.warm(min(places, self._places_n), self._timeout_ns)

    def run(
        self,
        requests: Iterator[Request],
        *,
        phase: str,
        zero_ns: int,
        until_ns: int | None = None,
        places: int | None = None,
        watch: Callable[[Client], bool] | None = None,
    ) -> None:
        """Sends the requests and waits for their responses; the exchanges go to the pile.

        Args:
            requests: in the order of their starts; those with `at_ns` start then, those without as soon as a
                place is free.
            phase: of the exchanges' rows.
            zero_ns: monotonic time that `at_ns` counts from; nothing starts before.
            until_ns: monotonic time after which no request starts; None for as long as there are some.
            places: fewer requests in flight than the client has places for.
            watch: called every tick; where it returns False, what is in flight is cancelled.
        """
        self.offset = WallOffset.now()
        self._phase, self._zero_ns = phase, zero_ns
        self._limit = self._places_n if places is None else min(places, self._places_n)
        self._ahead = Ahead(requests, self._limit)
        self._nap, self.progress = Nap(), Progress()
        self.reading.begin()
        with _no_collector():
            _sleep_until(zero_ns)
            self._loop(until_ns, watch)

    def _loop(self, until_ns: int | None, watch: Callable[[Client], bool] | None) -> None:
        take = self.reading.take_kernel if self._kernel else self.reading.take_user
        tick_ns = 0
        while True:
            now_ns = time.monotonic_ns()
            if until_ns is not None and now_ns >= until_ns:
                until_ns = None
                self._ahead.end()
            self._start_due(now_ns)
            if not self._flying and not self._ahead:
                return
            if now_ns >= tick_ns:
                tick_ns = now_ns + TICK_NS
                self._tick(now_ns, stop=watch is not None and not watch(self))
            next_ns = self._next_ns(tick_ns, until_ns)
            if self._nap.seconds and next_ns - now_ns > NAP_MAX_S * 1e9:
                time.sleep(self._nap.seconds)
            ready = self._places.wait(next_ns)
            if ready:
                self.progress.reads += len(ready)
                take(ready)
            self.pile.relieve()

    def _next_ns(self, tick_ns: int, until_ns: int | None) -> int:
        """When the loop has something to do, whatever the server does."""
        next_ns = tick_ns if until_ns is None else min(tick_ns, until_ns)
        resting = self._places.resting
        if resting:
            next_ns = min(next_ns, resting[0][0])
        if self._ahead and len(self._flying) + len(resting) < self._limit:
            next_ns = min(next_ns, self._zero_ns + self._ahead.at_ns)
        return next_ns

    def _tick(self, now_ns: int, *, stop: bool) -> None:
        self.offset.look()
        if self._kernel:
            self._nap.adapt(self.progress.reads, TICK_NS, flying=len(self._flying))
        if stop:
            self._ahead.end()
            for place in list(self._flying.values()):
                self._finish(place, Ending.CANCELLED, "stopped")
        for place in self._overdue(now_ns):
            if place.connection is not None and place.connection.step is not Step.READY:
                limit_s = min(self._timeout_ns, _CONNECT_NS) / 1e9
                self._finish(place, Ending.TRANSPORT, f"no connection in {limit_s:g} s")
            else:
                self._finish(place, Ending.TIMEOUT, f"no whole response in {self._timeout_ns / 1e9:g} s")

    def _overdue(self, now_ns: int) -> list[Place]:
        """Places whose request has been in flight, or whose connection on its way, for too long."""
        soonest_ns = min(self._timeout_ns, _CONNECT_NS)
        found = []
        for place in self._flying.values():
            exchange, connection = place.exchange, place.connection
            if exchange is None or exchange.begun_ns + soonest_ns > now_ns:
                break
            opening = connection is not None and connection.step is not Step.READY
            if opening or exchange.begun_ns + self._timeout_ns <= now_ns:
                found.append(place)
        return found

    def _look(self, place: Place) -> None:
        """Sees whether the response is whole, or too much."""
        exchange = place.exchange
        if exchange is None:
            return
        try:
            whole = exchange.whole()
        except FramingError as error:
            self._finish(place, Ending.FRAMING, str(error))
            return
        if whole:
            self._finish(place, Ending.COMPLETE, None)
        elif exchange.size_bytes > self._max_bytes:
            self._finish(place, Ending.TOO_LARGE, f"a response of more than {self._max_bytes} bytes")
        elif exchange.long():
            self.pile.fold_soon(exchange)

    def _other(self, fd: int, mask: int) -> None:
        """What is no plain arrival of a response's bytes."""
        place = self._places.by_fd.get(fd)
        if place is None:
            return
        if fd not in self._places.active:
            failure = self._places.settle(place, mask)
            if place.exchange is None:
                return
            if failure is not None:
                self._finish(place, Ending.TRANSPORT, failure)
            elif place.connection is not None and place.connection.step is Step.READY:
                self._send(place)
            return
        if mask & OUT:
            self._send(place)
        if mask & ~OUT and fd in self._places.active:
            self.reading.read(place)

    def _start_due(self, now_ns: int) -> None:
        """Starts some of what is due and has a place; after them is time to read."""
        if self._places.resting:
            self._places.rise(now_ns)
        free = self._limit - len(self._flying) - len(self._places.resting)
        for _ in range(min(free, _STARTS)):
            if not self._ahead or self._zero_ns + self._ahead.at_ns > now_ns:
                return
            idle = self._places.idle
            self._begin(idle.pop() if idle else Place(), self._ahead.take(), now_ns)
            self._ahead.refill()

    def _begin(self, place: Place, request: Request, now_ns: int) -> None:
        intended_ns = None if request.at_ns is None else self._zero_ns + request.at_ns
        place.exchange = Exchange(
            request, phase=self._phase, intended_ns=intended_ns, begun_ns=now_ns, offset_ns=self.offset.ns
        )
        place.unsent = memoryview(request.payload)
        place.reused = place.connection is not None
        self._flying[request.number] = place
        self.progress.started += 1
        failure = None if place.reused else self._places.open(place)
        if failure is not None:
            self._finish(place, Ending.TRANSPORT, failure)
        elif place.connection is not None and place.connection.step is Step.READY:
            self._send(place)

    def _send(self, place: Place) -> None:
        exchange, connection = place.exchange, place.connection
        if exchange is None or connection is None:
            return
        if not exchange.start_ns:
            self._places.active[connection.fd] = (place.receive, exchange, place)
            exchange.start_ns = time.monotonic_ns()
        try:
            while place.unsent:
                place.unsent = place.unsent[connection.send(place.unsent) :]
        except BlockingIOError:
            self._places.watch(place, IN | OUT)
            return
        except OSError as error:
            # The server may have answered before it closed: what can be read decides.
            exchange.fault = error.strerror or str(error)
            place.unsent = memoryview(b"")
        self._places.watch(place, IN)

    def _lost(self, place: Place, ending: Ending, why: str) -> None:
        """Ends the exchange; or sends it again where the kept connection had been closed before it was received."""
        exchange, connection = place.exchange, place.connection
        if exchange is None or connection is None:
            return
        # A server that resets may have read it all: then nothing says so.
        unread = exchange.fault is not None or (ending is Ending.CLOSED and not connection.acked())
        if exchange.size_bytes or not place.reused or not unread:
            self._finish(place, ending, why)
            return
        self._places.drop(place)
        del self._flying[exchange.request.number]
        self.progress.started -= 1
        self.progress.resent += 1
        self._begin(place, exchange.request, exchange.begun_ns)

    def _finish(self, place: Place, ending: Ending, error: str | None) -> None:
        exchange = place.exchange
        if exchange is None:
            return
        place.exchange = None
        del self._flying[exchange.request.number]
        self._places.give_back(place, keep=ending is Ending.COMPLETE and exchange.keep_alive and not place.unsent)
        if ending is Ending.COMPLETE and exchange.ok:
            self.progress.completed += 1
        elif ending is not Ending.CANCELLED:
            self.progress.failed += 1
        place.unsent = memoryview(b"")
        exchange.request = replace(exchange.request, payload=b"")  # what waits to be understood is the response alone
        exchange.ending, exchange.error = ending, error
        exchange.over_ns = time.monotonic_ns()
        self.pile.add(exchange)


def _sleep_until(when_ns: int) -> None:
    left_ns = when_ns - time.monotonic_ns()
    if left_ns > 0:
        time.sleep(left_ns / 1e9)


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """The garbage collector off: its pauses would be stamped as the server's."""
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
