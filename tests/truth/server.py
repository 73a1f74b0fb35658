"""The server of server.c in Python, for machines without gcc: the same knobs, the same answers, the same log."""

from __future__ import annotations

import argparse
import gc
import heapq
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from itertools import count
from pathlib import Path
from typing import Any

READ_BYTES = 1 << 18
TURNS = 64
ENDLESS_BYTES = 1 << 16
_NO_TIME_TO_LINGER = b"\1\0\0\0\0\0\0\0"
_CLOSE = {True: "connection: close\r\n", False: ""}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "usage": ("final", "continuous", "none"),
    "framing": ("chunked", "length", "close"),
    "fault": ("none", "stall", "pause", "reset", "close", "garbage", "error", "endless-line", "status"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Knobs:
    """The command line, `_` for `-`; README.md says what each does."""

    port: int = 0
    stdin: int = 0
    log: str = ""
    model: str = ""
    ttft_us: int = 0
    itl_us: int = 0
    jitter_us: int = 0
    slow_start_us: int = 0
    stall_us: int = 0
    spin_us: int = 200
    tokens_per_chunk: int = 1
    events_per_write: int = 1
    split: int = 0
    output_tok: int = -1
    prompt_extra: int = 0
    prompt_fixed: int = -1
    cached: int = -1
    role_chunk: int = 0
    empty_chunks: int = 0
    reasoning: int = 0
    tool_calls: int = 0
    usage: str = "final"
    done: int = 1
    framing: str = "chunked"
    keep_alive: int = 1
    head_early: int = 1
    fault: str = "none"
    fault_after: int = 0
    fault_every: int = 1
    status: int = 500
    metrics: int = 1


class Phase(Enum):
    IDLE = auto()
    HEAD = auto()
    TOKENS = auto()
    ENDLESS_LINE = auto()
    STALLED = auto()
    END = auto()


@dataclass(slots=True, kw_only=True)
class Request:
    """One answer in progress; times on the monotonic clock."""

    received_ns: int
    chat: bool
    connection: int
    status: int = 200
    why: str = ""
    prompt_tok: int = 0
    total_tok: int = 16
    sent_tok: int = 0
    want_usage: bool = False
    faulty: bool = False
    headed: bool = False
    base_ns: int = 0
    """When the first token is due."""
    head_ns: int = 0
    end_ns: int = 0
    send_ns: array[int] = field(default_factory=lambda: array("q"))
    tok: array[int] = field(default_factory=lambda: array("q"))


class Wire:
    """The bytes of answers."""

    _DELTAS: Mapping[str, str] = {
        "completion": '"text":"%s"',
        "content": '"delta":{"content":"%s"}',
        "reasoning": '"delta":{"reasoning_content":"%s"}',
        "tool": '"delta":{"tool_calls":[{"index":0,"function":{"arguments":"%s"}}]}',
        "role": '"delta":{"role":"assistant","content":"%s"}',
    }

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.model = knobs.model or "truth"
        self.ready = {
            (kind, tok): self.event(kind, tok) for kind in self._DELTAS for tok in range(knobs.tokens_per_chunk + 1)
        }

    def chunk(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self.knobs.framing == "chunked" else data

    def line(self, data: str) -> bytes:
        return self.chunk(f"data: {data}\n\n".encode())

    def event(self, kind: str, tok: int, *, finish: str = "null", usage: str = "") -> bytes:
        delta = self._DELTAS[kind] % (" tok" * tok)
        choice = f'{{"index":0,{delta},"logprobs":null,"finish_reason":{finish}}}'
        return self.line(f'{self._opening(chat=kind != "completion")}"choices":[{choice}]{usage and "," + usage}}}')

    def usage(self, request: Request) -> str:
        details = "null" if self.knobs.cached < 0 else f'{{"cached_tokens":{self.knobs.cached}}}'
        total = request.prompt_tok + request.sent_tok
        return (
            f'"usage":{{"prompt_tokens":{request.prompt_tok},"total_tokens":{total},'
            f'"completion_tokens":{request.sent_tok},"prompt_tokens_details":{details}}}'
        )

    def tail(self, request: Request) -> bytes:
        continuous = self.knobs.usage == "continuous"
        usage = self.usage(request)
        kind = "content" if request.chat else "completion"
        parts = [self.event(kind, 0, finish='"length"', usage=usage if continuous else "")]
        if continuous or (self.knobs.usage == "final" and request.want_usage):
            parts.append(self.line(f'{self._opening(chat=request.chat)}"choices":[],{usage}}}'))
        return b"".join(parts) + self.done()

    def done(self) -> bytes:
        done = self.line("[DONE]") if self.knobs.done else b""
        return done + (b"0\r\n\r\n" if self.knobs.framing == "chunked" else b"")

    def head(self, *, closing: bool, length: int) -> bytes:
        framing = {"chunked": "transfer-encoding: chunked\r\n", "length": f"content-length: {length}\r\n"}
        return (
            "HTTP/1.1 200 OK\r\nserver: truth\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
            f"{_CLOSE[closing]}{framing.get(self.knobs.framing, '')}\r\n"
        ).encode()

    def answer(self, status: int, kind: str, body: str, *, closing: bool) -> bytes:
        return (
            f"HTTP/1.1 {status} {'OK' if status == 200 else 'Error'}\r\nserver: truth\r\n"
            f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n{_CLOSE[closing]}\r\n{body}"
        ).encode()

    def error(self, status: int, why: str, *, closing: bool) -> bytes:
        return self.answer(status, "application/json", error_json(status, why), closing=closing)

    def _opening(self, *, chat: bool) -> str:
        name, kind = ("chatcmpl", "chat.completion.chunk") if chat else ("cmpl", "text_completion")
        return f'{{"id":"{name}-7f3c0d5e8a914b26b1d4","object":"{kind}","created":1760000000,"model":"{self.model}",'


class Connection:
    __slots__ = ("closing", "due_ns", "inbound", "number", "outbound", "phase", "request", "sock", "ticket")

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock: socket.socket | None = sock
        self.number = number
        self.inbound = bytearray()
        self.outbound = b""
        self.phase = Phase.IDLE
        self.closing = False
        self.request: Request | None = None
        self.due_ns = 0
        self.ticket = -1
        """Of its place in the heap; another entry of the heap is out of date."""


class Server:
    """Streams wait in a heap by due time; what is due stands in a ring, and each turn is one write of one stream."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self.wire = Wire(knobs)
        self.selector = selectors.DefaultSelector()
        self.heap: list[tuple[int, int, Connection]] = []
        self.ring: deque[Connection] = deque()
        self.tickets = count()
        self.log: list[Request] = []
        self.counts = {"requests": 0, "events": 0, "tokens": 0, "connections": 0}
        self.prompt_tok = self.hit_tok = 0
        self.random = 1
        self.ended = False
        self.listener = socket.create_server(("127.0.0.1", knobs.port), backlog=4096)
        self.listener.setblocking(False)
        self.watch(self.listener.fileno(), self.accept)

    def watch(self, file: int, act: Callable[[], object]) -> None:
        self.selector.register(file, selectors.EVENT_READ, act)

    def end(self) -> None:
        self.ended = True

    def hear(self) -> None:
        self.ended = not os.read(sys.stdin.fileno(), 256)

    def run(self) -> None:
        while not self.ended:
            self.turn()
            for key, mask in self.selector.select(self.wait_s()):
                if not isinstance(key.data, Connection):
                    key.data()
                elif mask & selectors.EVENT_WRITE:
                    self.flush(key.data)
                else:
                    self.receive(key.data)

    def wait_s(self) -> float | None:
        """To the next due time, less --spin-us and up to 2 ms: `select` rounds up to whole ms, and epoll once more."""
        if self.ring:
            return 0
        if not self.heap:
            return None
        left_ns = self.heap[0][0] - time.monotonic_ns() - self.knobs.spin_us * 1000
        return max(0.0, left_ns // 1_000_000 - 1.5) / 1e3

    def turn(self) -> None:
        now_ns = time.monotonic_ns()
        while self.heap and self.heap[0][0] <= now_ns:
            _, ticket, connection = heapq.heappop(self.heap)
            if ticket == connection.ticket:
                self.ring.append(connection)
        for _ in range(min(TURNS, len(self.ring))):
            connection = self.ring.popleft()
            if connection.sock is not None and connection.request is not None:
                self.step(connection, connection.request)

    def schedule(self, connection: Connection, at_ns: int) -> None:
        """Puts the connection where its `due_ns` says; not while bytes are unsent, for then the flush does."""
        if connection.sock is None or connection.outbound:
            return
        if connection.due_ns <= at_ns:
            self.ring.append(connection)
        else:
            connection.ticket = next(self.tickets)
            heapq.heappush(self.heap, (connection.due_ns, connection.ticket, connection))

    def accept(self) -> None:
        with suppress(BlockingIOError):
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection = Connection(sock, self.counts["connections"])
                self.counts["connections"] += 1
                self.selector.register(sock, selectors.EVENT_READ, connection)

    def drop(self, connection: Connection) -> None:
        if connection.sock is not None:
            self.selector.unregister(connection.sock)
            connection.sock.close()
        connection.sock = None
        connection.ticket = -1

    def send_pieces(self, connection: Connection, data: bytes) -> bytes:
        """Sends pieces of at most --split bytes; what the kernel did not take."""
        if connection.sock is None:
            return b""
        view = memoryview(data)
        try:
            while view:
                view = view[connection.sock.send(view[: self.knobs.split or len(view)]) :]
        except BlockingIOError:
            return bytes(view)
        except OSError:
            self.drop(connection)
        return b""

    def transmit(self, connection: Connection, data: bytes) -> None:
        if connection.outbound:
            connection.outbound += data
            return
        connection.outbound = self.send_pieces(connection, data)
        if connection.outbound and connection.sock is not None:
            self.selector.modify(connection.sock, selectors.EVENT_READ | selectors.EVENT_WRITE, connection)

    def flush(self, connection: Connection) -> None:
        connection.outbound = self.send_pieces(connection, connection.outbound)
        if connection.outbound or connection.sock is None:
            return
        self.selector.modify(connection.sock, selectors.EVENT_READ, connection)
        if connection.phase is Phase.END:
            self.finish(connection)
        elif connection.phase not in (Phase.STALLED, Phase.IDLE):
            self.schedule(connection, time.monotonic_ns())

    def close_answer(self, connection: Connection, data: bytes) -> None:
        """Sends the last bytes of an answer."""
        self.transmit(connection, data)
        connection.phase = Phase.END
        if not connection.outbound:
            self.finish(connection)

    def finish(self, connection: Connection) -> None:
        """The answer's last byte is with the kernel."""
        if connection.sock is None:
            return
        if connection.request is not None:
            connection.request.end_ns = time.monotonic_ns()
        connection.request = None
        connection.phase = Phase.IDLE
        if connection.closing:
            self.drop(connection)
        else:
            self.take_request(connection)

    def receive(self, connection: Connection) -> None:
        if connection.sock is None:
            return
        try:
            data = connection.sock.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(connection)
            return
        connection.inbound += data
        if connection.phase is Phase.IDLE:
            self.take_request(connection)

    def take_request(self, connection: Connection) -> None:
        """Begins the next request if all of it is here."""
        end = connection.inbound.find(b"\r\n\r\n") + 4
        if end < len(b"\r\n\r\n"):
            return
        first, *lines = bytes(connection.inbound[: end - 4]).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        stop = end + int(headers.get("content-length", "0"))
        if len(connection.inbound) < stop:
            return
        body = bytes(connection.inbound[end:stop])
        del connection.inbound[:stop]
        connection.closing = (
            not self.knobs.keep_alive
            or self.knobs.framing == "close"
            or headers.get("connection", "").lower().startswith("close")
        )
        method, _, target = first.partition(" ")
        path = target.partition(" ")[0].partition("?")[0]
        if method == "POST" and path.endswith("/completions"):
            self.begin(connection, body, chat=path.endswith("/chat/completions"))
        else:
            self.close_answer(connection, self.other(f"{method} {path}", closing=connection.closing))

    def other(self, target: str, *, closing: bool) -> bytes:
        """The answer to a request that is no completion."""
        if target == "GET /health":
            return self.wire.answer(200, "text/plain", "", closing=closing)
        if target == "GET /v1/models":
            model = {"id": self.wire.model, "object": "model", "created": 1760000000, "owned_by": "truth"}
            body = json.dumps({"object": "list", "data": [model]}, separators=(",", ":"))
            return self.wire.answer(200, "application/json", body, closing=closing)
        if target == "GET /metrics" and self.knobs.metrics:
            return self.wire.answer(200, "text/plain; version=0.0.4", self.metrics(), closing=closing)
        return self.wire.error(404, "no such path", closing=closing)

    def metrics(self) -> str:
        counters = {
            "prompt_tokens": self.prompt_tok,
            "generation_tokens": self.counts["tokens"],
            "prefix_cache_queries": self.prompt_tok,
            "prefix_cache_hits": self.hit_tok,
        }
        labels = f'engine="0",model_name="{self.wire.model}"'
        return "".join(
            f"# TYPE vllm:{name}_total counter\nvllm:{name}_total{{{labels}}} {value}.0\n"
            for name, value in counters.items()
        )

    def begin(self, connection: Connection, body: bytes, *, chat: bool) -> None:
        knobs = self.knobs
        request = Request(received_ns=time.monotonic_ns(), chat=chat, connection=connection.number)
        self.counts["requests"] += 1
        chosen = knobs.fault != "none" and self.counts["requests"] % knobs.fault_every == 0
        request.faulty = chosen and knobs.framing != "length"
        self.understand(request, body)
        connection.closing |= request.status == 400
        if request.status == 200 and chosen and knobs.fault == "status":
            request.status, request.why = knobs.status, "truth: asked to fail"
        if knobs.output_tok >= 0:
            request.total_tok = knobs.output_tok
        request.prompt_tok = knobs.prompt_fixed if knobs.prompt_fixed >= 0 else request.prompt_tok + knobs.prompt_extra
        request.base_ns = request.received_ns + knobs.ttft_us * 1000
        connection.due_ns = request.received_ns + knobs.slow_start_us * 1000
        if request.status == 200:
            self.prompt_tok += request.prompt_tok
            self.hit_tok += max(0, knobs.cached)
            if knobs.framing == "length":
                before = max(0, request.total_tok - 1) // knobs.tokens_per_chunk * knobs.tokens_per_chunk
                connection.due_ns = max(connection.due_ns, request.base_ns + before * knobs.itl_us * 1000)
        if knobs.log:
            self.log.append(request)
        connection.request, connection.phase = request, Phase.HEAD
        self.schedule(connection, request.received_ns)

    def understand(self, request: Request, body: bytes) -> None:
        """Reads what the answer depends on."""
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            request.status, request.why = 400, "the body is no JSON object"
            return
        if self.knobs.model and asked.get("model") != self.knobs.model:
            request.status, request.why = 404, "The model does not exist."
        request.prompt_tok = prompt_tokens(asked.get("prompt")) + prompt_tokens(asked.get("messages"))
        request.want_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
        for name in ("max_tokens", "max_completion_tokens"):
            if asked.get(name) is not None:
                request.total_tok = asked[name]

    def step(self, connection: Connection, request: Request) -> None:
        """The stream's next write. The stamp is taken before send(): see server.c."""
        at_ns = time.monotonic_ns()
        if connection.phase is Phase.HEAD:
            self.send_head(connection, request, at_ns)
        elif connection.phase is Phase.ENDLESS_LINE:
            self.transmit(connection, self.wire.chunk(b"x" * ENDLESS_BYTES))
            connection.due_ns = at_ns
            self.schedule(connection, at_ns)
        elif self.fault_due(request):
            self.fail(connection, request, at_ns)
        else:
            self.send_tokens(connection, request, at_ns)

    def send_head(self, connection: Connection, request: Request, at_ns: int) -> None:
        """The head, and the events that carry no token; or an answer that is no stream."""
        if request.status != 200:
            request.head_ns = at_ns
            self.close_answer(connection, self.wire.error(request.status, request.why, closing=connection.closing))
            return
        empty = self.wire.ready["content" if request.chat else "completion", 0]
        parts = [self.wire.ready["role", 0]] if request.chat and self.knobs.role_chunk else []
        parts += [empty] * self.knobs.empty_chunks
        if self.knobs.framing == "length":
            parts += [*self.token_events(request, at_ns, request.total_tok), self.wire.tail(request)]
            whole = b"".join(parts)
            self.close_answer(connection, self.head(connection, request, at_ns, length=len(whole)) + whole)
            return
        if self.knobs.head_early or parts:
            head = self.head(connection, request, at_ns)
            parts = [head, *parts] if self.knobs.head_early else [head + parts[0], *parts[1:]]
        for part in parts:
            self.transmit(connection, part)
        connection.phase = Phase.TOKENS
        connection.due_ns = self.token_due_ns(request)
        self.schedule(connection, at_ns)

    def send_tokens(self, connection: Connection, request: Request, at_ns: int) -> None:
        head = self.head(connection, request, at_ns)
        if request.sent_tok >= request.total_tok:
            self.close_answer(connection, head + self.wire.tail(request))
            return
        data = head + b"".join(self.token_events(request, at_ns, self.knobs.events_per_write))
        connection.due_ns = self.token_due_ns(request) if request.sent_tok < request.total_tok else at_ns
        self.transmit(connection, data)
        self.schedule(connection, at_ns)

    def head(self, connection: Connection, request: Request, at_ns: int, *, length: int = 0) -> bytes:
        """The response's head where it is still to be sent."""
        if request.headed:
            return b""
        request.headed, request.head_ns = True, at_ns
        return self.wire.head(closing=connection.closing, length=length)

    def token_events(self, request: Request, at_ns: int, most: int) -> Iterator[bytes]:
        """At most `most` of the events with tokens that come next, written down as sent at `at_ns`."""
        knobs = self.knobs
        for _ in range(most):
            if request.sent_tok >= request.total_tok or self.fault_due(request):
                return
            kind = ("tool" if knobs.tool_calls else "content") if request.chat else "completion"
            tok = min(knobs.tokens_per_chunk, request.total_tok - request.sent_tok)
            if request.chat and request.sent_tok < knobs.reasoning:
                kind, tok = "reasoning", min(tok, knobs.reasoning - request.sent_tok)
            if request.faulty and request.sent_tok < knobs.fault_after:
                tok = min(tok, knobs.fault_after - request.sent_tok)
            request.sent_tok += tok
            self.counts["events"] += 1
            self.counts["tokens"] += tok
            if knobs.log:
                request.send_ns.append(at_ns)
                request.tok.append(tok)
            continuous = knobs.usage == "continuous"
            yield (
                self.wire.event(kind, tok, usage=self.wire.usage(request)) if continuous else self.wire.ready[kind, tok]
            )

    def token_due_ns(self, request: Request) -> int:
        due_ns = request.base_ns + request.sent_tok * self.knobs.itl_us * 1000
        if not self.knobs.jitter_us:
            return due_ns
        self.random = (self.random * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return due_ns + (self.random >> 33) % (self.knobs.jitter_us * 1000 + 1)

    def fault_due(self, request: Request) -> bool:
        return request.faulty and request.sent_tok == self.knobs.fault_after

    def fail(self, connection: Connection, request: Request, at_ns: int) -> None:
        """What comes in place of the event after --fault-after tokens."""
        head, fault = self.head(connection, request, at_ns), self.knobs.fault
        request.faulty = False
        if fault in ("reset", "close"):
            if fault == "reset" and connection.sock is not None:
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_TIME_TO_LINGER)
            self.drop(connection)
            return
        if fault == "error":
            error = self.wire.line(error_json(500, "truth: asked to fail"))
            self.close_answer(connection, head + error + self.wire.done())
            return
        if fault == "garbage":
            head += self.wire.line('{"id":"cmpl-7f3c0d","choices":[{"text":"\\ud8')
        elif fault == "stall":
            connection.phase = Phase.STALLED
        elif fault == "endless-line":
            connection.phase = Phase.ENDLESS_LINE
        else:
            request.base_ns += self.knobs.stall_us * 1000
            connection.due_ns = self.token_due_ns(request)
        self.transmit(connection, head)
        if fault != "stall":
            self.schedule(connection, at_ns)

    def write_log(self) -> None:
        """The layout is server.c's."""
        rows = array("q", [len(self.log)])
        stamps, toks = array("q"), array("q")
        for entry in self.log:
            output_tok = entry.total_tok if entry.status == 200 else 0
            rows.extend((entry.received_ns, entry.status, entry.prompt_tok, output_tok, entry.connection))
            rows.extend((entry.head_ns, entry.end_ns, len(entry.send_ns)))
            stamps.extend(entry.send_ns)
            toks.extend(entry.tok)
        columns = (rows, stamps, toks)
        if sys.byteorder == "big":
            for column in columns:
                column.byteswap()
        Path(self.knobs.log).write_bytes(b"".join(column.tobytes() for column in columns))


def error_json(status: int, why: str) -> str:
    name = "NotFoundError" if status == 404 else "BadRequestError" if status < 500 else "InternalServerError"
    error = {"message": why, "type": name, "param": None, "code": status}
    return json.dumps({"error": error}, separators=(",", ":"))


def prompt_tokens(value: Any) -> int:
    """One for each id, and for each word of a text or of a message's content."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(prompt_tokens(entry) for entry in value)
    if isinstance(value, dict):
        return prompt_tokens(value.get("content")) + prompt_tokens(value.get("text"))
    return int(isinstance(value, int))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    for knob in fields(Knobs):
        name = "--" + knob.name.replace("_", "-")
        parser.add_argument(name, default=knob.default, type=type(knob.default), choices=_CHOICES.get(knob.name))
    knobs = Knobs(**vars(parser.parse_args()))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    gc.disable()
    server = Server(knobs)
    woken, waker = socket.socketpair()
    waker.setblocking(False)
    signal.set_wakeup_fd(waker.fileno())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    server.watch(woken.fileno(), server.end)
    if knobs.stdin:
        server.watch(sys.stdin.fileno(), server.hear)
    print(server.listener.getsockname()[1], flush=True)  # noqa: T201 - the caller reads it
    server.run()
    if knobs.log:
        server.write_log()
    print(json.dumps(server.counts))  # noqa: T201 - as above


if __name__ == "__main__":
    main()
