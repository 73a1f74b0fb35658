from __future__ import annotations

import socket
import sys
import threading
import time
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load import stamps
from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.stamps import WallOffset, monotonic_ns
from tests.collectors.load.conftest import Engine, Start, Turn, asks, client, rows, send

linux = pytest.mark.skipif(sys.platform != "linux", reason="kernel stamps are Linux's")
TIMESPECS = st.lists(st.tuples(st.integers(0, 2**33), st.integers(0, 999_999_999)), max_size=20)


@given(TIMESPECS, st.integers(0, 2**60))
def test_timespecs_become_stamps_of_the_monotonic_clock(timespecs: list[tuple[int, int]], offset_ns: int) -> None:
    data = array("q", [word for timespec in timespecs for word in timespec]).tobytes()
    assert list(monotonic_ns(data, offset_ns)) == [s * 10**9 + ns - offset_ns for s, ns in timespecs]


def test_a_step_of_the_wall_clock_is_seen_and_remembered() -> None:
    offset = WallOffset.now()
    offset.ns -= 5_000_000_000
    offset.look()
    offset.ns += 5_000_000_000
    offset.look()
    assert offset.step_ns >= 4_000_000_000


def test_only_a_socket_of_the_internet_is_stamped_by_the_kernel() -> None:
    left, right = socket.socketpair()
    with left, right:
        assert not stamps.switch_on(left)


def stamped_asleep(engine: Start, *, kernel: bool) -> tuple[Client, Engine, int]:
    """A client that looks at nothing until the server has sent all it was asked for, and when it woke up."""
    sent = threading.Semaphore(0)
    woke_ns: list[int] = []

    def script(turn: Turn) -> None:
        turn.answer()
        sent.release()

    def watch(_: Client) -> bool:
        while not woke_ns:
            assert all(sent.acquire(timeout=30) for _ in range(4))
            woke_ns.append(time.monotonic_ns())
        return True

    server = engine(script)
    with client(server.url, places=4, kernel=kernel) as loop:
        loop.warm(4)
        send(loop, asks(4), watch=watch)
    return loop, server, woke_ns[0]


@linux
def test_a_client_that_is_late_does_not_move_the_kernels_stamps(engine: Start) -> None:
    loop, server, woke_ns = stamped_asleep(engine, kernel=True)
    sent = {turn.body["prompt"][0]: turn.sent_ns for turn in server.turns}
    for row in rows(loop):
        assert sent[row["number"]][0] <= row["first_token_ns"] <= row["last_token_ns"] <= row["end_ns"] < woke_ns
    assert loop.reading.user_stamps == 0
    assert loop.reading.kernel_stamps > 0


def test_a_client_that_is_late_moves_its_own_stamps(engine: Start) -> None:
    loop, _, woke_ns = stamped_asleep(engine, kernel=False)
    assert all(row["first_token_ns"] >= woke_ns for row in rows(loop))
    assert loop.reading.kernel_stamps == 0
    assert loop.reading.user_stamps > 0


@linux
def test_how_late_the_client_was_is_sampled(engine: Start) -> None:
    loop, _, woke_ns = stamped_asleep(engine, kernel=True)
    assert min(loop.reading.lag.samples_ns) > 0
    assert max(loop.reading.lag.samples_ns) >= woke_ns - max(row["end_ns"] for row in rows(loop))


@linux
def test_an_end_long_after_the_last_bytes_is_no_lateness(engine: Start) -> None:
    read = threading.Event()

    def script(turn: Turn) -> None:
        turn.over()
        turn.sock.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        assert read.wait(30)
        turn.close()

    def watch(loop: Client) -> bool:
        if any(place.exchange and place.exchange.size_bytes for place in loop._flying.values()):
            loop.reading.lag._left = 1
            loop.reading.lag.samples_ns = array("q")
            read.set()
        return True

    with client(engine(script).url) as loop:
        send(loop, asks(1), watch=watch)
    assert not loop.reading.lag.samples_ns


def test_the_stamps_of_a_stream_never_run_backwards(engine: Start) -> None:
    with client(engine(lambda turn: turn.answer()).url, places=4) as loop:
        send(loop, asks(40))
    for exchange in loop.pile._over:
        assert all(before <= after for before, after in pairwise(exchange._stamps()))
