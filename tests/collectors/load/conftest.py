"""A real socket server that answers completions as a test's script says, and stamps what it sends."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any

import pytest

from fleetbench_collectors.load import lengths
from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.record import OUTCOMES
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.wire import Endpoint, Wire
from fleetbench_collectors.load.workload import Ids, Workload
from tests.truth.run import build

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(slots=True, kw_only=True)
class Turn:
    """One request that the server got: `number` in the order of arrival, its head and body, and the way to answer."""

    number: int
    line: str
    headers: dict[str, str]
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

    def __init__(self, script: Callable[[Turn], None], context: ssl.SSLContext | None = None) -> None:
        self._context = context
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
        return "{}://{}:{}".format("https" if self._context else "http", *self.address)

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
        with contextlib.suppress(OSError, ValueError):
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
                self._socks.append(sock)
            with sock.makefile("rb") as source:
                while line := source.readline():
                    headers = _headers(source)
                    body = json.loads(source.read(int(headers["content-length"])))
                    self._turn(sock, line.decode().strip(), headers, body)

    def _turn(self, sock: socket.socket, line: str, headers: dict[str, str], body: dict[str, Any]) -> None:
        with self._lock:
            turn = Turn(number=len(self.turns), line=line, headers=headers, body=body, sock=sock, over=self.over)
            self.turns.append(turn)
            self._active += 1
            self.most_active = max(self.most_active, self._active)
        self._script(turn)

    def over(self) -> None:
        """To be called before a turn's last bytes: the client may start the next request as soon as it has them."""
        with self._lock:
            self._active -= 1


def _headers(source: IO[bytes]) -> dict[str, str]:
    """By their names in lower case."""
    lines = iter(source.readline, b"\r\n")
    pairs = (line.decode().partition(":") for line in lines)
    return {name.lower(): value.strip() for name, _, value in pairs}


Script = Callable[[Turn], None]
Start = Callable[..., Engine]
"""Called with a `Script`, and with a context for TLS where it is to speak that."""


@pytest.fixture
def engine() -> Iterator[Start]:
    """Starts servers of a script; all are stopped after the test."""
    started: list[Engine] = []

    def start(script: Script, context: ssl.SSLContext | None = None) -> Engine:
        started.append(Engine(script, context))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Command line of the truth server: the C one where there is a compiler."""
    return build(tmp_path_factory.mktemp("truth"))


def ask(
    number: int,
    *,
    prompt: Sequence[int] = (1, 2, 3),
    output_tok: int = 3,
    at_ns: int | None = None,
    endpoint: Endpoint = "completions",
    absolute: str | None = None,
) -> Request:
    """A request whose prompt begins with its number."""
    wire = Wire(host_header="engine:1", path_prefix="", endpoint=endpoint, model="m", seed=0, absolute=absolute)
    ids = [number, *prompt]
    value = ids if endpoint == "completions" else [{"role": "user", "content": " ".join(map(str, ids))}]
    return Request(
        number=number,
        payload=wire.payload(json.dumps(value).encode(), output_tok),
        prompt_tok=len(ids),
        output_tok=output_tok,
        at_ns=at_ns,
    )


def asks(n: int, *, first: int = 0) -> Iterator[Request]:
    return (ask(number) for number in range(first, first + n))


def number_of(turn: Turn) -> int:
    return int(turn.body["prompt"][0])


def client(
    target: str | Target,
    *,
    places: int = 1,
    timeout_s: float = 30.0,
    response_max_bytes: int = 1 << 20,
    kernel: bool = True,
) -> Client:
    return Client(
        Target.parse(target) if isinstance(target, str) else target,
        places=places,
        timeout_s=timeout_s,
        response_max_bytes=response_max_bytes,
        kernel=kernel,
    )


def send(
    loop: Client,
    requests: Iterable[Request],
    *,
    zero_ns: int | None = None,
    until_ns: int | None = None,
    watch: Callable[[Client], bool] | None = None,
) -> None:
    """Sends requests, from now on where no other time is given."""
    zero_ns = time.monotonic_ns() if zero_ns is None else zero_ns
    loop.run(iter(requests), phase="measure", zero_ns=zero_ns, until_ns=until_ns, watch=watch)


def rows(loop: Client) -> list[dict[str, int]]:
    """What came of the requests, by their numbers."""
    loop.pile.understand_all()
    records = loop.pile.records
    return sorted((records.row(index) for index in range(len(records))), key=lambda row: row["number"])


def outcomes(loop: Client) -> list[str]:
    """By the requests' numbers."""
    return [OUTCOMES[row["outcome"]] for row in rows(loop)]


def errors(loop: Client) -> list[str]:
    """What is said of the failures, in the order of their ends."""
    loop.pile.understand_all()
    return list(loop.pile.records.errors.values())


def workload(**more: Any) -> Workload:
    """A small load in a closed loop; what is given stands instead."""
    values = {
        "target": Target.parse("http://127.0.0.1:1"),
        "endpoint": "completions",
        "model": "m",
        "places": 2,
        "arrivals": None,
        "requests": 4,
        "seconds": None,
        "context": lengths.parse("8"),
        "output": lengths.parse("4"),
        "prompts": Ids(ids=range(3, 98)),
        "seed": 0,
        "nonce": "n",
        "request_timeout_s": 30.0,
    }
    return Workload(**{**values, **more})


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> str:
    """File of a key and a certificate of 127.0.0.1 and localhost, signed by itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl")
    folder = tmp_path_factory.mktemp("tls")
    key, made = folder / "key.pem", folder / "certificate.pem"
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=engine", "-addext", names, "-keyout", str(key), "-out", str(made)]
    subprocess.run(command, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text(key.read_text() + made.read_text())
    return str(both)


@pytest.fixture(scope="session")
def tls(certificate: str) -> ssl.SSLContext:
    """What an engine with that certificate speaks."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context
