from __future__ import annotations

import socket
import ssl
import threading
from pathlib import Path

import pytest

from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.drive import Drive
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.workload import Share, Warmup
from tests.collectors.load.conftest import (
    Engine,
    Start,
    Turn,
    ask,
    asks,
    client,
    errors,
    number_of,
    outcomes,
    rows,
    send,
    workload,
)

pytestmark = pytest.mark.tool


@pytest.fixture
def server(engine: Start, tls: ssl.SSLContext) -> Engine:
    return engine(lambda turn: turn.answer(), tls)


def test_a_certificate_that_nobody_knows_is_refused(server: Engine) -> None:
    with client(server.url) as loop:
        loop.warm(1)
        send(loop, asks(2))
    assert outcomes(loop) == ["transport_error"] * 2
    host, port = server.address
    assert errors(loop)[0].startswith(f"no connection to {host}:{port}: ")
    assert "CERTIFICATE_VERIFY_FAILED" in errors(loop)[0]
    assert not server.turns


def test_a_certificate_of_another_name_is_refused(engine: Start, tls: ssl.SSLContext, certificate: str) -> None:
    server = engine(lambda turn: turn.answer(), tls)
    with client(Target.parse(server.url.replace("127.0.0.1", "127.0.0.2"), ca=certificate)) as loop:
        send(loop, asks(1))
    assert outcomes(loop) == ["transport_error"]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_certificate_of_a_given_authority_is_good(server: Engine, certificate: str, host: str) -> None:
    target = Target.parse(server.url.replace("127.0.0.1", host), ca=certificate)
    with client(target, places=3) as loop:
        loop.warm(3)
        send(loop, asks(12))
    assert outcomes(loop) == ["ok"] * 12
    assert server.connections == 3


def test_a_file_that_is_no_certificate_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("none")
    for name in ("ca.pem", "nowhere.pem"):
        with pytest.raises(OSError, match=r"."):
            client(Target.parse("https://engine", ca=str(tmp_path / name)))


def test_no_certificate_is_asked_for_where_that_was_wished(server: Engine) -> None:
    target = Target.parse(server.url, verify=False)
    drive = Drive(workload(target=target, requests=6, warmup=Warmup(requests=2)), Share())
    drive.prepare()
    drive.measure(0)
    drive.close()
    assert outcomes(drive.client) == ["ok"] * 8
    tally = drive.tally()
    assert (tally.way, tally.stamped_kernel, tally.resent) == ("tls", 0, 0)
    assert tally.stamped_user > 0
    assert server.connections == 2


def test_what_a_session_needs_to_be_resumed_does_not_end_a_connection(server: Engine) -> None:
    """TLS 1.3 sends it after the handshake, when nothing has been asked for."""
    with client(Target.parse(server.url, verify=False)) as loop:
        loop.warm(1)
        (fd,) = loop._places.by_fd
        for found, mask in loop._places._epoll.poll(0.2):
            loop._places.settle(loop._places.by_fd[found], mask)
        assert list(loop._places.by_fd) == [fd]
        send(loop, asks(1))
    assert outcomes(loop) == ["ok"]
    assert server.connections == 1


def test_all_records_of_a_socket_are_read_at_once(engine: Start, tls: ssl.SSLContext) -> None:
    """What is decrypted already waits where epoll does not see it."""
    sent = threading.Event()

    def script(turn: Turn) -> None:
        turn.head()
        for _ in range(turn.body["max_tokens"]):
            turn.token()
        turn.end()
        sent.set()

    def watch(_: Client) -> bool:
        return sent.wait(30)

    with client(Target.parse(engine(script, tls).url, verify=False)) as loop:
        loop.warm(1)
        send(loop, [ask(0, output_tok=300)], watch=watch)
    (row,) = rows(loop)
    assert outcomes(loop) == ["ok"]
    assert (row["chunks"], row["output_tok"]) == (300, 300)
    assert loop.progress.reads < loop.reading.user_stamps


def test_a_large_record_and_a_large_request_pass(engine: Start, tls: ssl.SSLContext) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        turn.send(b"HTTP/1.1 400 No\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)

    server = engine(script, tls)
    with client(Target.parse(server.url, verify=False)) as loop:
        send(loop, [ask(n, prompt=range(100_000)) for n in range(2)])
    assert outcomes(loop) == ["http_error"] * 2
    assert len(server.turns[1].body["prompt"]) == 100_001
    assert server.connections == 1


def test_a_server_that_ends_the_connection_in_between_fails_no_request(engine: Start, tls: ssl.SSLContext) -> None:
    def script(turn: Turn) -> None:
        if number_of(turn) == 1:
            turn.head()
            turn.token()
            turn.over()
            turn.close()
        else:
            turn.answer()

    with client(Target.parse(engine(script, tls).url, verify=False)) as loop:
        send(loop, asks(3))
    assert outcomes(loop) == ["ok", "transport_error", "ok"]


def test_a_server_that_speaks_no_tls_is_said_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.recv(65_536)
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        with client(f"https://127.0.0.1:{listener.getsockname()[1]}") as loop:
            send(loop, asks(1))
        thread.join()
    assert outcomes(loop) == ["transport_error"]
    assert "WRONG_VERSION_NUMBER" in errors(loop)[0]
