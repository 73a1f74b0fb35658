"""A source of power that says what a test wants, in real time."""

from __future__ import annotations

import threading
import time

from fleetbench_collectors.power.common import Availability, ReadFailedError, Reading, Status


class Scripted:
    """A source of one device; counts its readings and tells when there are enough."""

    def __init__(self, found: Availability, fails_at: int | None = None, enough: int = 4) -> None:
        self.name = "scripted"
        self.found, self.fails_at, self.enough = found, fails_at, enough
        self.read_times = 0
        self.is_open = False
        self.reached = threading.Event()

    def open(self) -> Availability:
        self.is_open = True
        return self.found

    def read(self) -> list[Reading]:
        self.read_times += 1
        if self.read_times >= self.enough:
            self.reached.set()
        if self.read_times == self.fails_at:
            self.reached.set()
            raise ReadFailedError("the device fell off the bus")
        return [Reading(device="d", at_ns=time.monotonic_ns(), power_w=10.0)]

    def close(self) -> None:
        self.is_open = False


HERE = Availability(status=Status.AVAILABLE)
