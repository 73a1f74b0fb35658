from __future__ import annotations

import gc
import itertools
import json
import socket
import threading
from collections.abc import Callable

import pytest

from fleetbench_collectors.load.client import ClosedLoop, Ending
from tests.collectors.load.conftest import Engine, Turn

Start = Callable[[Callable[[Turn], None]], Engine]


def payload(prompt: list[int], output_tok: int = 3) -> bytes:
    body = json.dumps({"prompt": prompt, "max_tokens": output_tok}).encode()
    return b"POST /v1/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def loop(
    address: tuple[str, int], batch: int = 1, timeout_s: float = 30.0, response_max_bytes: int = 1 << 20
) -> ClosedLoop:
    return ClosedLoop(address=address, batch=batch, timeout_s=timeout_s, response_max_bytes=response_max_bytes)


def test_as_many_requests_as_asked_are_in_flight_and_never_more(engine: Start) -> None:
    together = threading.Barrier(4)

    def script(turn: Turn) -> None:
        together.wait(timeout=30)
        turn.answer()

    server = engine(script)
    with loop(server.address, batch=4) as client:
        done = client.run([payload([i]) for i in range(16)])
    assert [exchange.ending for exchange in done] == [Ending.COMPLETE] * 16
    assert [exchange.request for exchange in done] == list(range(16))
    assert server.most_active == 4


def test_connections_are_kept(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    with loop(server.address, batch=2) as client:
        client.run([payload([1])])
        client.run([payload([i]) for i in range(20)], first=1)
    assert server.connections <= 2
    assert len(server.turns) == 21


def test_a_new_connection_follows_one_that_the_engine_ends(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        turn.send(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        turn.close()

    server = engine(script)
    with loop(server.address) as client:
        done = client.run([payload([i]) for i in range(3)])
    assert [exchange.ending for exchange in done] == [Ending.COMPLETE] * 3
    assert server.connections == 3


def test_a_kept_connection_that_was_closed_in_between_is_no_failure(engine: Start) -> None:
    closed = threading.Event()

    def script(turn: Turn) -> None:
        turn.answer()
        if turn.number == 0:
            turn.close()
            closed.set()

    server = engine(script)
    with loop(server.address) as client:
        first = client.run([payload([1])])
        assert closed.wait(30)
        second = client.run([payload([2])], first=1)
    assert [exchange.ending for exchange in first + second] == [Ending.COMPLETE] * 2


def test_a_reset_fails_its_request_and_no_other(engine: Start) -> None:
    def script(turn: Turn) -> None:
        if turn.body["prompt"] == [1]:
            turn.head()
            turn.token()
            turn.over()
            turn.reset()
        else:
            turn.answer()

    server = engine(script)
    with loop(server.address) as client:
        done = client.run([payload([i]) for i in range(4)])
    endings = [exchange.ending for exchange in done]
    assert endings[1] in (Ending.TRANSPORT, Ending.CLOSED)
    assert [*endings[:1], *endings[2:]] == [Ending.COMPLETE] * 3


def test_a_connection_that_never_answers_is_tried_no_more_than_twice(engine: Start) -> None:
    server = engine(lambda turn: turn.close())
    with loop(server.address) as client:
        (only,) = client.run([payload([1])])
    assert only.ending in (Ending.CLOSED, Ending.TRANSPORT)
    assert len(server.turns) == 2


def test_an_engine_that_is_not_there_fails_every_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        address = gone.getsockname()
    with loop(address, batch=3) as client:
        done = client.run([payload([i]) for i in range(50)])
    assert [exchange.ending for exchange in done] == [Ending.TRANSPORT] * 50
    assert all("refused" in (exchange.error or "") for exchange in done)


def test_a_name_that_nobody_knows_fails_every_request() -> None:
    with loop(("nowhere.invalid", 80)) as client:
        done = client.run([payload([1])] * 2)
    assert [exchange.ending for exchange in done] == [Ending.TRANSPORT] * 2


def test_an_engine_that_never_answers_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, loop(silent.getsockname(), 2, 0.05) as client:
        done = client.run([payload([i]) for i in range(3)])
    assert [exchange.ending for exchange in done] == [Ending.TIMEOUT] * 3


def test_a_slow_request_times_out_while_the_others_go_on(engine: Start) -> None:
    release = threading.Event()

    def script(turn: Turn) -> None:
        if turn.body["prompt"] == [0]:
            turn.head()
            turn.token()
            release.wait(30)
            turn.over()
        else:
            turn.answer()

    server = engine(script)
    with loop(server.address, batch=2, timeout_s=2) as client:
        done = client.run([payload([i]) for i in range(6)])
    release.set()
    assert [exchange.ending for exchange in done] == [Ending.TIMEOUT, *[Ending.COMPLETE] * 5]


def test_a_response_without_an_end_is_cut_off(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.head()
        for _ in itertools.count():
            turn.sock.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")

    server = engine(script)
    with loop(server.address, response_max_bytes=200_000) as client:
        (only,) = client.run([payload([1])])
    assert only.ending is Ending.TOO_LARGE
    assert sum(len(data) for _, data in only.reads) < 200_000 + 262_144 + 1


def test_what_is_no_http_is_said_so(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        turn.send(b"220 mail.example ESMTP\r\n")

    server = engine(script)
    with loop(server.address) as client:
        (only,) = client.run([payload([1])])
    assert only.ending is Ending.FRAMING
    assert "not an HTTP response" in (only.error or "")


@pytest.mark.parametrize("step", [1, 7, 64])
def test_bytes_come_out_as_they_went_in_and_no_stamp_is_early(engine: Start, step: int) -> None:
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n" + bytes(range(256)) + b"." * 44

    def script(turn: Turn) -> None:
        for start in range(0, len(whole), step):
            if start + step >= len(whole):
                turn.over()
            turn.send(whole[start : start + step])

    server = engine(script)
    with loop(server.address) as client:
        (only,) = client.run([payload([1])])
    assert b"".join(data for _, data in only.reads) == whole
    stamps = [stamp for stamp, _ in only.reads]
    assert stamps == sorted(stamps)
    sent_ns = server.turns[0].sent_ns
    assert only.start_ns <= sent_ns[0] <= stamps[0]
    for stamp, seen in zip(stamps, itertools.accumulate(len(data) for _, data in only.reads), strict=True):
        assert stamp >= sent_ns[(seen - 1) // step]


def test_a_prompt_larger_than_the_sockets_buffer_arrives(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    prompt = list(range(2_000_000))
    with loop(server.address) as client:
        (only,) = client.run([payload(prompt)])
    assert only.ending is Ending.COMPLETE
    assert server.turns[0].body["prompt"] == prompt


def test_the_garbage_collector_is_back_after_a_run(engine: Start) -> None:
    states: list[bool] = []

    def script(turn: Turn) -> None:
        states.append(gc.isenabled())
        turn.answer()

    server = engine(script)
    with loop(server.address) as client:
        client.run([payload([1])])
    assert states == [False]
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
