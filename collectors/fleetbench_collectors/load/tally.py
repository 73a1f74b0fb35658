"""What a client's process says of itself: what it cost, and how late it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One process over the measured phase.

    cpu_s, wall_s: CPU time, user and system, and time that went by; stamped_kernel, stamped_user: reads by where
    their stamp comes from; lag_us: samples of how late reads were (`lag.Lag`), of kernel stamps the whole way
    from the kernel to the process, of its own only the part within a batch of reads; step_ns: most that the
    wall clock was seen to move against the monotonic one; resent: requests sent once more because the server
    had closed a kept connection before it received them; way: direct, tls, proxy or proxy+tls.
    """

    cpu_s: float
    wall_s: float
    stamped_kernel: int
    stamped_user: int
    lag_us: Sequence[int]
    step_ns: int
    resent: int = 0
    way: str = "direct"
