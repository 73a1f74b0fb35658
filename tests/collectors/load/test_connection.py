from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fleetbench_collectors.load.connection import Connection
from fleetbench_collectors.load.drive import Drive
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.workload import Share
from tests.collectors.load.conftest import Start, Turn, asks, client, errors, number_of, outcomes, rows, send, workload


def test_connections_are_kept_from_phase_to_phase(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    with client(server.url, places=2) as loop:
        loop.warm(2)
        loop.run(asks(1), phase="warmup", zero_ns=0)
        loop.warm(2)
        send(loop, asks(20, first=1))
    assert server.connections == 2
    assert outcomes(loop) == ["ok"] * 21
    assert [row["phase"] for row in rows(loop)] == [0] + [1] * 20


def test_connections_are_open_before_the_first_request(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    with client(server.url, places=3) as loop:
        loop.warm(2)
        held = set(loop._places.by_fd)
        send(loop, asks(2))
        assert set(loop._places.by_fd) == held
    assert server.connections == 2


def test_a_new_connection_follows_one_that_the_engine_ends(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        turn.send(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
        turn.close()

    server = engine(script)
    with client(server.url) as loop:
        send(loop, asks(3))
    assert outcomes(loop) == ["http_error"] * 3
    assert (server.connections, loop.progress.failed, loop.progress.resent) == (3, 3, 0)


def test_a_kept_connection_that_was_closed_in_between_is_no_failure(engine: Start) -> None:
    closed = threading.Event()

    def script(turn: Turn) -> None:
        turn.answer()
        if turn.number == 0:
            turn.close()
            closed.set()

    server = engine(script)
    with client(server.url) as loop:
        send(loop, asks(1))
        assert closed.wait(30)
        send(loop, asks(1, first=1))
    assert outcomes(loop) == ["ok"] * 2
    assert len(server.turns) == 2


def test_no_connection_is_used_twice_where_the_engine_ends_them_without_a_word(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        # The end of the connection comes with the last bytes.
        turn.sock.send(b"HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno", socket.MSG_MORE)
        turn.close()

    server = engine(script)
    with client(server.url, places=2) as loop:
        loop.warm(2)
        send(loop, asks(8))
    assert outcomes(loop) == ["http_error"] * 8
    assert (server.connections, loop.progress.resent) == (8, 0)


@pytest.mark.parametrize("reset", [False, True])
def test_what_a_closed_connection_never_took_is_sent_again_and_counted(engine: Start, *, reset: bool) -> None:
    def script(turn: Turn) -> None:
        turn.answer()
        if turn.number == 1:
            (turn.reset if reset else turn.close)()

    server = engine(script)
    with client(server.url) as loop:
        send(loop, asks(1))
        loop.warm(1)  # sees that the connection is kept
        send(loop, asks(1, first=1))
        # The next request is written after the end has arrived, but before the client has looked.
        arrived = select.poll()
        arrived.register(next(iter(loop._places.by_fd)), 0 if reset else select.POLLIN)
        assert arrived.poll(30_000)
        send(loop, asks(2, first=2))
    assert outcomes(loop) == ["ok"] * 4
    assert [number_of(turn) for turn in server.turns] == [0, 1, 2, 3]
    assert (loop.progress.started, loop.progress.resent) == (2, 1)


def test_a_request_that_the_engine_took_is_never_sent_again(engine: Start) -> None:
    def script(turn: Turn) -> None:
        if turn.number % 2:
            turn.over()
            turn.close()
        else:
            turn.answer()

    server = engine(script)
    with client(server.url) as loop:
        send(loop, asks(8))
    assert outcomes(loop) == ["ok", "transport_error"] * 4
    assert [number_of(turn) for turn in server.turns] == list(range(8))
    assert loop.progress.resent == 0


def test_a_reset_fails_its_request_and_no_other(engine: Start) -> None:
    def script(turn: Turn) -> None:
        if number_of(turn) == 1:
            turn.head()
            turn.token()
            turn.over()
            turn.reset()
        else:
            turn.answer()

    server = engine(script)
    with client(server.url) as loop:
        send(loop, asks(4))
    assert outcomes(loop) == ["ok", "transport_error", "ok", "ok"]
    assert len(server.turns) == 4


def test_an_engine_that_is_not_there_fails_every_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with client(f"http://127.0.0.1:{port}", places=3) as loop:
        loop.warm(3)
        send(loop, asks(50))
    assert outcomes(loop) == ["transport_error"] * 50
    assert set(errors(loop)) == {f"no connection to 127.0.0.1:{port}: Connection refused"}


def test_a_name_that_nobody_knows_fails_every_request() -> None:
    with client("http://nowhere.invalid") as loop:
        send(loop, asks(2))
    assert outcomes(loop) == ["transport_error"] * 2
    assert all(error.startswith("no connection to nowhere.invalid:80: ") for error in errors(loop))


def test_a_network_that_cannot_be_reached_is_said_so() -> None:
    with client("http://224.0.0.1:1") as loop:
        send(loop, asks(1))
    assert outcomes(loop) == ["transport_error"]
    assert errors(loop) == ["no connection to 224.0.0.1:1: Network is unreachable"]


def test_bytes_that_nobody_asked_for_end_a_kept_connection(engine: Start) -> None:
    idle = threading.Event()

    def script(turn: Turn) -> None:
        turn.answer()
        if turn.number == 0 and idle.wait(30):
            turn.sock.sendall(b"HTTP/1.1 408 Request Timeout\r\n\r\n")

    server = engine(script)
    with client(server.url) as loop:
        send(loop, asks(1))
        loop.warm(1)
        idle.set()
        arrived = select.poll()
        arrived.register(next(iter(loop._places.by_fd)), select.POLLIN)
        assert arrived.poll(30_000)
        loop._places.settle(loop._places.idle[-1], select.EPOLLIN)
        send(loop, asks(1, first=1))
    assert outcomes(loop) == ["ok"] * 2
    assert server.connections == 2


def test_what_was_written_is_acked_once_the_other_side_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        target = Target.parse(f"http://{host}:{port}")
        connection = Connection(target, target.resolve(), kernel=True)
        other, _ = listener.accept()
        with other:
            connection.advance()
            connection.send(memoryview(b"whole"))
            assert other.recv(5) == b"whole"
            assert connection.acked()
        listener.close()
        connection.send(memoryview(b"nobody takes this"))
        with contextlib.suppress(OSError):
            while connection.receive(1):
                pass
        assert not connection.acked()
        connection.close()


class Proxy:
    """Answers one CONNECT after the other as it is told, and passes bytes on where that was 200."""

    def __init__(self, to: tuple[str, int], answer: bytes) -> None:
        self.heads: list[str] = []
        self._to = to
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"http://us%65r:pass@127.0.0.1:{self._listener.getsockname()[1]}"

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._serve, args=(sock,)))
                self._threads[-1].start()

    def _serve(self, sock: socket.socket) -> None:
        head = b""
        with sock, socket.create_connection(self._to) as server, contextlib.suppress(OSError):
            while not head.endswith(b"\r\n\r\n"):
                head += sock.recv(65_536)
            self.heads.append(head.decode())
            sock.sendall(self._answer)
            if b" 200 " not in self._answer:
                return
            both = {sock: server, server: sock}
            while True:
                for source in select.select(list(both), [], [])[0]:
                    data = source.recv(65_536)
                    if not data:
                        return
                    both[source].sendall(data)


@pytest.fixture
def proxy() -> Iterator[Callable[[tuple[str, int], bytes], Proxy]]:
    started: list[Proxy] = []

    def start(to: tuple[str, int], answer: bytes) -> Proxy:
        started.append(Proxy(to, answer))
        return started[-1]

    yield start
    for one in started:
        one.stop()


StartProxy = Callable[[tuple[str, int], bytes], Proxy]


@pytest.mark.tool
def test_tls_goes_through_a_tunnel(engine: Start, proxy: StartProxy, certificate: str, tls: ssl.SSLContext) -> None:
    server = engine(lambda turn: turn.answer(), tls)
    tunnel = proxy(server.address, b"HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n")
    target = Target.parse(server.url, proxy=tunnel.url, ca=certificate)
    assert target.way == "proxy+tls"
    with client(target, places=2) as loop:
        loop.warm(2)
        send(loop, asks(6))
    assert outcomes(loop) == ["ok"] * 6
    host = f"127.0.0.1:{server.address[1]}"
    assert (
        tunnel.heads
        == [f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nProxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"] * 2
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            "refused the tunnel: HTTP/1.1 407 Proxy Authentication",
        ),
        (b"HTTP/1.1 403 \xff\r\nA: b\r\n\r\n", "refused the tunnel: HTTP/1.1 403 \ufffd"),
        (b"", "the proxy closed the connection"),
        (b"HTTP/1.1 503\r\n" + b"X: y\r\n" * 20_000, "the proxy's answer has no end"),
    ],
)
def test_a_tunnel_that_is_refused_is_a_sentence(engine: Start, proxy: StartProxy, answer: bytes, said: str) -> None:
    tunnel = proxy(engine(lambda turn: turn.answer()).address, answer)
    with client(Target.parse("https://engine:1", proxy=tunnel.url)) as loop:
        send(loop, asks(1))
    assert outcomes(loop) == ["transport_error"]
    assert said in errors(loop)[0]
    assert errors(loop)[0].startswith("no connection to 127.0.0.1:")


def test_plain_requests_ask_the_proxy_by_the_whole_url(engine: Start) -> None:
    proxy = engine(lambda turn: turn.answer())
    target = Target.parse("http://engine.invalid:8000/base", proxy=proxy.url.replace("//", "//user:pass@"))
    drive = Drive(workload(target=target, requests=3), Share())
    drive.prepare()
    drive.measure(time.monotonic_ns())
    drive.close()
    assert outcomes(drive.client) == ["ok"] * 3
    assert {turn.line for turn in proxy.turns} == {"POST http://engine.invalid:8000/base/v1/completions HTTP/1.1"}
    assert {turn.headers["host"] for turn in proxy.turns} == {"engine.invalid:8000"}
    assert {turn.headers["proxy-authorization"] for turn in proxy.turns} == {"Basic dXNlcjpwYXNz"}
    assert (drive.tally().way, drive.tally().stamped_user) == ("proxy", 0)
