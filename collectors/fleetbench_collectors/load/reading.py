"""Reads what there is of the responses, and stamps it: the hot loop."""

from __future__ import annotations

import time
from collections.abc import Callable

from fleetbench_collectors.load.connection import IN
from fleetbench_collectors.load.exchange import Ending
from fleetbench_collectors.load.lag import Lag
from fleetbench_collectors.load.places import Events, Place, Places
from fleetbench_collectors.load.response import Exchange
from fleetbench_collectors.load.stamps import CONTROL_BYTES, TIMESPEC

READ_BYTES = 65_536
_LAST_BYTES = 4
_CR = ord("\r")
"""A chunked response ends with CR LF CR LF, after a 0 or a trailer: a read that is shorter, or whose fourth last byte
is a CR, may be its end."""


class Reading:
    """Reads for the places of a client.

    lag: how late; kernel_stamps, user_stamps: reads by where their stamp comes from; all of one phase.
    """

    def __init__(
        self,
        places: Places,
        *,
        kernel: bool,
        tls: bool,
        look: Callable[[Place], None],
        lost: Callable[[Place, Ending, str], None],
        other: Callable[[int, int], None],
    ) -> None:
        """Where to report.

        Args:
            places: whose connections are read.
            kernel: their sockets give kernel stamps.
            tls: their sockets decrypt.
            look: a response may be whole, or has much of it.
            lost: a connection is broken or at its end, and why.
            other: descriptor and mask of an event that is no plain arrival.
        """
        self.begin()
        self._places = places
        self._kernel = kernel
        self._tls = tls
        self._look = look
        self._lost = lost
        self._other = other

    def begin(self) -> None:
        """A new phase."""
        self.lag = Lag()
        self.kernel_stamps = self.user_stamps = 0

    def take_kernel(self, ready: Events) -> None:
        """Reads what there is of the responses; of some batches it is noted how late the first read was."""
        if self.lag.due(len(ready)):
            exchange = self._take_stamped(ready[:1])
            if exchange is not None:
                self._sample(exchange)
            ready = ready[1:]
        self._take_stamped(ready)

    def _take_stamped(self, ready: Events) -> Exchange | None:
        """The hot loop: a read, its kernel stamp and its bytes, three comparisons. The exchange of the last read."""
        active = self._places.active
        exchange: Exchange | None = None
        others = 0
        for fd, mask in ready:
            found = active.get(fd)
            if found is None or mask != IN:
                others += 1
                self._other(fd, mask)
                continue
            receive, exchange, place = found
            try:
                data, control, _, _ = receive(READ_BYTES, CONTROL_BYTES)
            except OSError as error:
                exchange, others = None, others + 1
                self._broken(place, error)
                continue
            if not control:
                exchange, others = None, others + 1
                self._keep(place, data)
                continue
            exchange.timespecs += control[0][2]
            exchange.reads.append(data)
            n = len(data)
            size = exchange.size_bytes = exchange.size_bytes + n
            if size >= exchange.due_bytes or n < _LAST_BYTES or data[-_LAST_BYTES] == _CR:
                self._look(place)
        self.kernel_stamps += len(ready) - others
        return exchange

    def _sample(self, exchange: Exchange) -> None:
        """How late the exchange's last read was."""
        wall_ns = time.time_ns()
        if len(exchange.timespecs) >= TIMESPEC.size:
            seconds, rest_ns = TIMESPEC.unpack_from(exchange.timespecs, len(exchange.timespecs) - TIMESPEC.size)
            self.lag.add(wall_ns - seconds * 1_000_000_000 - rest_ns)

    def take_user(self, ready: Events) -> None:
        """Reads what there is of the responses; the stamps are this process's own."""
        active = self._places.active
        sampled = self.lag.due(len(ready))
        ready_ns = time.monotonic_ns() if sampled else 0
        for fd, mask in ready:
            found = active.get(fd)
            if found is None or mask != IN:
                self._other(fd, mask)
            else:
                self.read(found[2])
        if sampled:
            self.lag.add(time.monotonic_ns() - ready_ns)

    def read(self, place: Place) -> None:
        """One read with a stamp of this process; over TLS all that is decrypted already."""
        exchange, connection = place.exchange, place.connection
        while connection is not None and exchange is not None and place.exchange is exchange:
            try:
                data = connection.receive(READ_BYTES)
            except OSError as error:
                self._broken(place, error)
                return
            self._keep(place, data)
            if not self._tls:
                return

    def _keep(self, place: Place, data: bytes) -> None:
        """Bytes that this process stamps; none are the end of the connection."""
        exchange, stamp_ns = place.exchange, time.monotonic_ns()
        if exchange is None:
            return
        if not data:
            ending = Ending.TRANSPORT if exchange.fault else Ending.CLOSED
            self._lost(place, ending, exchange.fault or "the server closed the connection")
            return
        self.user_stamps += 1
        if self._kernel:
            exchange.stamp(stamp_ns)
        else:
            exchange.stamps_ns.append(stamp_ns)
        exchange.reads.append(data)
        exchange.size_bytes += len(data)
        if exchange.size_bytes >= exchange.due_bytes or len(data) < _LAST_BYTES or data[-_LAST_BYTES] == _CR:
            self._look(place)

    def _broken(self, place: Place, error: OSError) -> None:
        if not isinstance(error, BlockingIOError) and place.exchange is not None:
            self._lost(place, Ending.TRANSPORT, place.exchange.fault or error.strerror or str(error))
