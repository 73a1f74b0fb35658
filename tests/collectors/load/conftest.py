"""A real socket server that answers completions as a test's script says, and stamps what it sends."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class Turn:
    """One request that the server got: `number` in the order of arrival, its body, and the way to answer."""

    number: int
    body: dict[str, Any]
    sock: socket.socket
    over: Callable[[], None]
    sent_ns: list[int] = field(default_factory=list)

    def send(self, data: bytes) -> None:
        self.sent_ns.append(time.monotonic_ns())
        self.sock.sendall(data)

    def head(self) -> None:
        self.sock.sendall(HEAD)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%s\r\n" % (len(data), data))

    def event(self, value: object) -> None:
        self.chunk(b"data: " + json.dumps(value).encode() + b"\n\n")

    def token(self, text: str = "x") -> None:
        self.event({"choices": [{"text": text, "index": 0, "finish_reason": None}]})

    def end(self, *, prompt_tok: int | None = None, output_tok: int | None = None) -> None:
        usage = {
            "prompt_tokens": len(self.body["prompt"]) if prompt_tok is None else prompt_tok,
            "completion_tokens": self.body["max_tokens"] if output_tok is None else output_tok,
            "prompt_tokens_details": {"cached_tokens": 0},
        }
        self.event({"choices": [{"text": "", "finish_reason": "length"}], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.over()
        self.sock.sendall(b"0\r\n\r\n")

    def answer(self) -> None:
        """All that was asked for, at once."""
        self.head()
        for _ in range(self.body["max_tokens"]):
            self.token()
        self.end()

    def reset(self) -> None:
        """Ends the connection with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


class Engine:
    """Listens on loopback; every connection has a thread that hands its requests to the script."""

    def __init__(self, script: Callable[[Turn], None]) -> None:
        self.turns: list[Turn] = []
        self.connections = 0
        self.most_active = 0
        self._active = 0
        self._script = script
        self._lock = threading.Lock()
        self._socks: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._listener.getsockname()
        return str(host), int(port)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for sock in self._socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()
        for sock in self._socks:
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._socks.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), sock.makefile("rb") as source:
            while line := source.readline():
                assert line == b"POST /v1/completions HTTP/1.1\r\n"
                length = 0
                while (header := source.readline()) != b"\r\n":
                    name, _, value = header.partition(b":")
                    length = int(value) if name.lower() == b"content-length" else length
                self._turn(sock, json.loads(source.read(length)))

    def _turn(self, sock: socket.socket, body: dict[str, Any]) -> None:
        with self._lock:
            turn = Turn(number=len(self.turns), body=body, sock=sock, over=self.over)
            self.turns.append(turn)
            self._active += 1
            self.most_active = max(self.most_active, self._active)
        self._script(turn)

    def over(self) -> None:
        """To be called before a turn's last bytes: the client may start the next request as soon as it has them."""
        with self._lock:
            self._active -= 1


@pytest.fixture
def engine() -> Iterator[Callable[[Callable[[Turn], None]], Engine]]:
    """Starts servers of a script; all are stopped after the test."""
    started: list[Engine] = []

    def start(script: Callable[[Turn], None]) -> Engine:
        started.append(Engine(script))
        return started[-1]

    yield start
    for server in started:
        server.stop()
