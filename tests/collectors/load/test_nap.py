from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.nap import MAX_S, Nap

TICK_NS = 50_000_000


def seconds(reads: int, flying: int) -> float:
    nap = Nap()
    nap.adapt(reads, TICK_NS, flying=flying)
    return nap.seconds


def test_a_client_with_little_to_read_does_not_sleep() -> None:
    assert seconds(500, 1_000) == 0


def test_a_thousand_streams_of_ten_milliseconds_are_read_some_dozens_at_a_time() -> None:
    assert seconds(5_000, 1_000) == 32 / 100_000


def test_streams_whose_chunks_come_close_together_are_not_slept_over() -> None:
    assert seconds(15_000, 64) == 0


@given(st.integers(0, 10**6), st.integers(0, 10**5))
def test_a_sleep_is_short_against_the_time_between_a_streams_chunks(reads: int, flying: int) -> None:
    slept_s = seconds(reads, flying)
    assert slept_s <= MAX_S
    assert slept_s * reads <= 0.051 * flying * TICK_NS / 1e9


def test_reads_count_once() -> None:
    nap = Nap()
    nap.adapt(5_000, TICK_NS, flying=1_000)
    nap.adapt(5_100, TICK_NS, flying=1_000)
    assert nap.seconds == 0
