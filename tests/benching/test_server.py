from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from fleetbench.bench.server import Server
from fleetbench_collectors.engine import prometheus
from fleetbench_collectors.load.target import Target
from tests.truth.run import serve


def server(url: str, timeout_s: float = 20.0, **headers: str) -> Server:
    return Server(Target.parse(url), headers, timeout_s=timeout_s)


@contextmanager
def answering(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """The URL of a server that says one thing to everybody, and the requests that it got."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                with sock:
                    seen.append(sock.recv(65_536))
                    sock.sendall(answer)

        thread = threading.Thread(target=talk)
        thread.start()
        yield "http://{}:{}".format(*listener.getsockname()), seen
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def page(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n\r\n" + body


def test_the_first_model_the_metrics_and_the_engine_are_read(truth: list[str]) -> None:
    with serve(truth, model="llama", cached=3) as running:
        asked = server(running.url)
        assert asked.model() == "llama"
        assert asked.engine() == "vllm"
        assert prometheus.total(asked.metrics(), prometheus.CACHED) == 0


def test_a_server_without_metrics_has_none(truth: list[str]) -> None:
    with serve(truth, metrics=0) as running:
        asked = server(running.url)
        assert (asked.metrics(), asked.engine()) == ([], None)


def test_the_path_before_v1_and_the_headers_go_along() -> None:
    with answering(page(b'{"data": [{"id": "m"}, {"id": "n"}]}')) as (url, seen):
        assert server(f"{url}/gateway/v1", Authorization="Bearer k").model() == "m"
    assert seen[0].startswith(b"GET /gateway/v1/models HTTP/1.1\r\n")
    assert b"Authorization: Bearer k\r\n" in seen[0]


def test_a_proxy_is_told_whom_to_ask_and_who_asks() -> None:
    with answering(page(b'{"data": [{"id": "m"}]}')) as (url, seen):
        proxy = url.replace("//", "//user:word@")
        asked = Server(Target.parse("http://model.example:8000/base", proxy=proxy), {}, timeout_s=20.0)
        assert asked.model() == "m"
    head = seen[0].split(b"\r\n")
    assert head[0] == b"GET http://model.example:8000/base/v1/models HTTP/1.1"
    assert {b"Host: model.example:8000", b"Proxy-Authorization: Basic dXNlcjp3b3Jk"} <= set(head)


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"data": []}', b'{"data": [{"id": 3}]}', b'{"data": {"id": "m"}}', b"[" * 100_000, b"\xff"],
)
def test_an_answer_that_names_no_model_is_none(body: bytes) -> None:
    with answering(page(body)) as (url, _):
        assert server(url).model() is None


@pytest.mark.parametrize("answer", [page(b'{"data": [{"id": "m"}]}', b"401 No"), b"no http at all\r\n\r\n", b""])
def test_what_is_no_good_answer_is_none(answer: bytes) -> None:
    with answering(answer) as (url, _):
        assert server(url).model() is None
        assert server(url).metrics() == []


def test_a_server_that_accepts_and_never_answers_is_waited_for_as_long_as_a_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert server("http://{}:{}".format(*listener.getsockname()), timeout_s=0.05).model() is None


def test_nobody_at_the_port_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://{}:{}".format(*listener.getsockname())
    assert server(url).model() is None
