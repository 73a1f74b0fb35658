from __future__ import annotations

import time

from fleetbench_collectors import clock


def test_both_clocks_are_read_at_one_instant_of_the_monotonic_clock() -> None:
    before = time.monotonic_ns()
    pair = clock.pair()
    after = time.monotonic_ns()
    assert before <= pair.mono_ns <= after


def test_two_pairs_agree_on_the_clocks_distance() -> None:
    first, second = clock.pair(), clock.pair()
    drift_ns = (second.wall_ns - second.mono_ns) - (first.wall_ns - first.mono_ns)
    assert abs(drift_ns) < 10_000_000_000
