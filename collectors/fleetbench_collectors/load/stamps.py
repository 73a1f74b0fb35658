"""When bytes arrived: the kernel's receive stamp where there is one, the client's own reading of the clock else."""

from __future__ import annotations

import platform
import socket
import sys
from array import array
from dataclasses import dataclass
from struct import Struct

from fleetbench_collectors.clock import pair

SO_TIMESTAMPNS = 35
"""Of Linux on x86, ARM and most others (asm-generic/socket.h); a control message of a timespec comes with each read."""
CONTROL_BYTES = 64
TIMESPEC = Struct("=qq")
"""Seconds and nanoseconds of the wall clock."""
_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def switch_on(sock: socket.socket) -> bool:
    """Asks the kernel to stamp what a TCP socket receives; whether it does.

    The stamp is of CLOCK_REALTIME, taken as the packet comes in. Packets that merge in the queue keep the last.
    """
    if not _known_platform() or sock.family not in _FAMILIES:
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def _known_platform() -> bool:
    """64-bit Linux but for the three whose numbers differ."""
    return sys.platform == "linux" and sys.maxsize > 2**32 and not platform.machine().startswith(_OTHERS)


_OTHERS = ("mips", "sparc", "parisc")


@dataclass(slots=True)
class WallOffset:
    """Wall clock less monotonic clock in ns, as at the start; and the most that it was seen to differ later.

    Slewing moves both clocks alike on Linux, so what differs is a step.
    """

    ns: int
    step_ns: int = 0

    @classmethod
    def now(cls) -> WallOffset:
        return cls(_offset())

    def look(self) -> None:
        """Compares with the clocks as they are now."""
        self.step_ns = max(self.step_ns, abs(_offset() - self.ns))


def _offset() -> int:
    both = pair()
    return both.wall_ns - both.mono_ns


def monotonic_ns(timespecs: bytes | bytearray, offset_ns: int) -> array[int]:
    """[n] stamps on the monotonic clock, ns, of [n] timespecs of 16 bytes on the wall clock."""
    words = array("q", timespecs)
    base_ns = -offset_ns
    seconds, rest = words[0::2], words[1::2]
    return array("q", [s * 1_000_000_000 + ns + base_ns for s, ns in zip(seconds, rest, strict=True)])
