"""Requests that are serialised already, so that starting one takes no longer than a send."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from fleetbench_collectors.load.exchange import Request

AHEAD_BYTES = 16 << 20


class Ahead:
    """The next of the requests, as many as there are places, but no more than 16 MiB of them."""

    __slots__ = ("_bytes", "_places", "_requests", "_source")

    def __init__(self, source: Iterator[Request], places: int) -> None:
        self._source = source
        self._places = places
        self._requests: deque[Request] = deque()
        self._bytes = 0
        self._serialise(places)

    def __bool__(self) -> bool:
        return bool(self._requests)

    @property
    def at_ns(self) -> int:
        """When the next one is to start, since the start of its phase; 0 in a closed loop."""
        return self._requests[0].at_ns or 0

    def take(self) -> Request:
        request = self._requests.popleft()
        self._bytes -= len(request.payload)
        return request

    def refill(self) -> None:
        """One more, where half of the places' worth is gone."""
        if len(self._requests) * 2 <= self._places:
            self._serialise(1)

    def end(self) -> None:
        """There are no more."""
        self._source = iter(())
        self._requests.clear()
        self._bytes = 0

    def _serialise(self, n: int) -> None:
        while n > 0 and (self._bytes < AHEAD_BYTES or not self._requests):
            request = next(self._source, None)
            if request is None:
                return
            self._requests.append(request)
            self._bytes += len(request.payload)
            n -= 1
