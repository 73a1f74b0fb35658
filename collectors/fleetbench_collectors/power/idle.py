"""The power of devices that wait, which is drawn whether or not requests come."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fleetbench_collectors.power.common import Source
from fleetbench_collectors.power.energy import window_energy
from fleetbench_collectors.power.sampler import Sampler

IDLE_S = 3.0
"""Long enough for clocks to fall and for a reading that is itself a mean over a second; rough all the same."""


def idle_power_w(sources: Sequence[Source], seconds: float = IDLE_S) -> float | None:
    """Mean power in W of all devices over so many seconds from now; the caller sees to it that nothing runs on them.

    Returns:
        None, at once, where no source can be read.
    """
    with Sampler(sources) as sampler:
        if not sampler.live:
            return None
        start_ns = time.monotonic_ns()
        time.sleep(seconds)
        end_ns = time.monotonic_ns()
    return window_energy(sampler.rows(run_id="", trial_id="", attempt=0), start_ns, end_ns).power_mean_w
