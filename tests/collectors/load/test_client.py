from __future__ import annotations

import gc
import itertools
import socket
import threading
import time

import pytest

from fleetbench_collectors.load.ahead import Ahead
from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.places import Place
from tests.collectors.load.conftest import Start, Turn, ask, asks, client, errors, number_of, outcomes, rows, send


def test_as_many_requests_as_asked_are_in_flight_and_never_more(engine: Start) -> None:
    together = threading.Barrier(4)

    def script(turn: Turn) -> None:
        together.wait(timeout=30)
        turn.answer()

    server = engine(script)
    with client(server.url, places=4) as loop:
        send(loop, asks(16))
    assert outcomes(loop) == ["ok"] * 16
    assert server.most_active == 4
    assert (loop.progress.started, loop.progress.completed, loop.progress.failed) == (16, 16, 0)


def test_endless_requests_that_fail_at_once_end_in_time() -> None:
    until_ns = time.monotonic_ns() + 150_000_000
    with client("http://224.0.0.1:1", places=4) as loop:
        send(loop, (ask(number) for number in itertools.count()), until_ns=until_ns)
        assert loop.in_flight == 0
    assert loop.progress.failed == loop.progress.started


def test_an_engine_that_never_answers_times_out() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        client(f"http://127.0.0.1:{silent.getsockname()[1]}", places=2, timeout_s=0.05) as loop,
    ):
        send(loop, asks(3))
    assert outcomes(loop) == ["timeout"] * 3
    assert errors(loop) == ["no whole response in 0.05 s"] * 3


def test_a_slow_request_times_out_while_the_others_go_on(engine: Start) -> None:
    release = threading.Event()

    def script(turn: Turn) -> None:
        if number_of(turn) == 0:
            turn.head()
            turn.token()
            release.wait(30)
            turn.over()
        else:
            turn.answer()

    server = engine(script)
    with client(server.url, places=2, timeout_s=0.5) as loop:
        send(loop, asks(6))
    release.set()
    assert outcomes(loop) == ["timeout", *["ok"] * 5]
    assert rows(loop)[0]["chunks"] == 1


def test_what_is_no_http_is_said_so(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        turn.send(b"220 mail.example ESMTP\r\n")

    with client(engine(script).url) as loop:
        send(loop, asks(1))
    assert outcomes(loop) == ["protocol_error"]
    assert "not an HTTP response" in errors(loop)[0]


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("step", [1, 7, 64])
def test_bytes_come_out_as_they_went_in_and_no_stamp_is_early(engine: Start, step: int, *, kernel: bool) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + bytes(range(256)) + b"." * 44

    def script(turn: Turn) -> None:
        for start in range(0, len(whole), step):
            if start + step >= len(whole):
                turn.over()
            turn.send(whole[start : start + step])

    server = engine(script)
    with client(server.url, kernel=kernel) as loop:
        send(loop, asks(1))
    (exchange,) = loop.pile._over
    assert b"".join(exchange.reads) == whole
    stamps = list(exchange._stamps())
    assert stamps == sorted(stamps)
    sent_ns = server.turns[0].sent_ns
    assert exchange.start_ns <= sent_ns[0] <= stamps[0]
    for stamp, seen in zip(stamps, itertools.accumulate(map(len, exchange.reads)), strict=True):
        assert stamp >= sent_ns[(seen - 1) // step]


def test_a_prompt_larger_than_the_sockets_buffer_arrives(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    prompt = range(2_000_000)
    with client(server.url) as loop:
        send(loop, [ask(7, prompt=prompt)])
    assert outcomes(loop) == ["ok"]
    assert server.turns[0].body["prompt"] == [7, *prompt]


def test_an_answer_before_the_whole_request_was_taken_is_read() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(1)
                sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
                while sock.recv(65_536):
                    pass

        thread = threading.Thread(target=refuse)
        thread.start()
        with client(f"http://127.0.0.1:{listener.getsockname()[1]}") as loop:
            send(loop, [ask(0, prompt=range(1_000_000))])
        thread.join()
    assert outcomes(loop) == ["http_error"]
    assert errors(loop) == ["HTTP 413: big"]


def test_the_garbage_collector_is_back_after_a_run(engine: Start) -> None:
    states: list[bool] = []

    def script(turn: Turn) -> None:
        states.append(gc.isenabled())
        turn.answer()

    with client(engine(script).url) as loop:
        send(loop, asks(1))
    assert states == [False]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_nothing_starts_before_its_time(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    with client(server.url, places=4) as loop:
        loop.warm(4)
        zero_ns = time.monotonic_ns() + 5_000_000
        send(loop, (ask(number, at_ns=number // 2 * 1_700_000) for number in range(30)), zero_ns=zero_ns)
    found = rows(loop)
    assert [row["intended_ns"] for row in found] == [zero_ns + number // 2 * 1_700_000 for number in range(30)]
    assert all(row["start_ns"] >= row["intended_ns"] for row in found)
    assert [row["start_ns"] for row in found] == sorted(row["start_ns"] for row in found)
    assert outcomes(loop) == ["ok"] * 30


def test_a_closed_loop_starts_at_its_zero_and_intends_no_other_time(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    zero_ns = time.monotonic_ns() + 10_000_000
    with client(server.url, places=2) as loop:
        send(loop, asks(4), zero_ns=zero_ns)
    assert all(row["intended_ns"] == row["start_ns"] >= zero_ns for row in rows(loop))


def test_a_request_without_a_place_waits_and_keeps_the_time_that_it_was_meant_for(engine: Start) -> None:
    release = threading.Event()
    released_ns: list[int] = []

    def script(turn: Turn) -> None:
        assert release.wait(30)
        turn.answer()

    def watch(loop: Client) -> bool:
        if loop.in_flight == server.most_active == 2 and not release.is_set():
            released_ns.append(time.monotonic_ns())
            release.set()
        return True

    server = engine(script)
    zero_ns = time.monotonic_ns()
    with client(server.url, places=2) as loop:
        send(loop, (ask(number, at_ns=0) for number in range(4)), zero_ns=zero_ns, watch=watch)
    found = rows(loop)
    assert server.most_active == 2
    assert {row["intended_ns"] for row in found} == {zero_ns}
    assert [row["start_ns"] > released_ns[0] for row in found] == [False, False, True, True]


@pytest.mark.parametrize("at_ns", [1_000_000, None])
def test_no_request_begins_after_the_end_and_those_in_flight_are_finished(engine: Start, at_ns: int | None) -> None:
    server = engine(lambda turn: turn.answer())
    requests = (ask(n, at_ns=None if at_ns is None else n * at_ns) for n in itertools.count())
    with client(server.url, places=2) as loop:
        zero_ns = time.monotonic_ns() + 100_000_000
        send(loop, requests, zero_ns=zero_ns, until_ns=zero_ns + 50_000_000)
        assert loop.in_flight == 0
        last = len(loop.pile._over)
        send(loop, asks(4, first=100_000))
    found = rows(loop)
    assert last == len(server.turns) - 4
    if at_ns is not None:
        assert all(row["intended_ns"] < zero_ns + 50_000_000 for row in found[:last])
    assert outcomes(loop) == ["ok"] * (last + 4)


def test_a_stop_cancels_what_is_in_flight_and_every_request_is_a_row(engine: Start) -> None:
    over = threading.Event()

    def script(turn: Turn) -> None:
        if number_of(turn) < 3 or over.is_set():
            turn.answer()
        else:
            turn.head()
            turn.token()
            over.wait(30)
            turn.over()

    server = engine(script)
    with client(server.url, places=3) as loop:
        send(loop, asks(100), watch=lambda loop: loop.progress.completed < 3)
        over.set()
        assert outcomes(loop) == ["ok"] * 3 + ["cancelled"] * 3
        assert (loop.progress.started, loop.progress.completed, loop.progress.failed) == (6, 3, 0)
        send(loop, asks(2, first=200))
    assert len(rows(loop)) == 8


@pytest.mark.parametrize(("places", "next_ns"), [(1, 10_000_000), (2, 2_000_000)])
def test_a_place_that_rests_holds_up_no_request_that_has_another(places: int, next_ns: int) -> None:
    with client("http://127.0.0.1:1", places=places) as loop:
        loop._places.resting.append((10_000_000, Place()))
        loop._ahead = Ahead(iter([ask(0, at_ns=2_000_000)]), places)
        assert loop._next_ns(50_000_000, None) == next_ns


def test_what_is_said_of_the_client_is_of_its_last_phase(engine: Start) -> None:
    with client(engine(lambda turn: turn.answer()).url) as loop:
        send(loop, asks(3))
        assert loop.reading.kernel_stamps + loop.reading.user_stamps > 0
        send(loop, [])
    assert loop.reading.kernel_stamps + loop.reading.user_stamps == loop.progress.started == 0
    assert not loop.reading.lag.samples_ns
