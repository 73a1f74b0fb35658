from __future__ import annotations

import http.server
from collections.abc import Iterator
from typing import Any

import pytest

from fleetbench.engine import client
from fleetbench.engine.protocol import EngineUnreachableError
from tests.engine.conftest import serving


class Echo(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/short":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
            return
        self.send_response(418 if self.path.endswith("teapot") else 200)
        self.end_headers()
        length = int(self.headers.get("Content-Length") or 0)
        self.wfile.write(f"{self.command} {self.path} ".encode() + self.rfile.read(length))

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def url() -> Iterator[str]:
    with serving(Echo) as port:
        yield f"http://127.0.0.1:{port}"


def test_a_path_is_added_to_the_one_of_the_server(url: str) -> None:
    assert client.ask(f"{url}/behind/", "/health", timeout_s=9) == b"GET /behind/health "


def test_what_has_a_body_is_posted(url: str) -> None:
    assert client.ask(url, "/a", body={"b": 1}, timeout_s=9) == b'POST /a {"b": 1}'
    assert client.ask(url, "/a", method="POST", timeout_s=9) == b"POST /a "


def test_another_status_is_told_apart_from_no_answer(url: str) -> None:
    assert client.request(url, "/teapot", timeout_s=9).status == 418
    with pytest.raises(EngineUnreachableError, match="/teapot: status 418: b'GET /teapot '"):
        client.ask(url, "/teapot", timeout_s=9)


def test_an_answer_that_breaks_off_is_none(url: str) -> None:
    with pytest.raises(EngineUnreachableError, match="/short"):
        client.request(url, "/short", timeout_s=9)


def test_nobody_there_is_told_with_the_path() -> None:
    with pytest.raises(EngineUnreachableError, match=r"/x: .*refused"):
        client.request("http://127.0.0.1:9", "/x", timeout_s=9)


@pytest.mark.parametrize(
    ("content", "value"),
    [(b'{"a": 1}', {"a": 1}), (b"a 1\n", "a 1\n"), (b"\xff", "\ufffd"), (b"[" * 100_000, "[" * 100_000)],
)
def test_an_answer_is_json_or_else_text(content: bytes, value: Any) -> None:
    assert client.Answer(200, content).value == value
