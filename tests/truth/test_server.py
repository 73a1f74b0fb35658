"""Both truth servers do what their knobs say, and say what they did."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import signal
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.truth.run import HERE, PYTHON, Server, build, serve
from tests.truth.server import Knobs

IDS: dict[str, Any] = {"prompt": [5, 6, 7], "max_tokens": 6, "stream": True, "stream_options": {"include_usage": True}}
TALK: dict[str, Any] = {
    "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"text": "one two\nthree"}]}],
    "max_completion_tokens": 6,
    "stream_options": {"include_usage": True},
}
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build(tmp_path_factory.mktemp("truth"))


@pytest.fixture(params=[pytest.param("c", marks=[pytest.mark.tool, needs_gcc]), "python"])
def command(request: pytest.FixtureRequest) -> Sequence[str]:
    found: Sequence[str] = request.getfixturevalue("binary") if request.param == "c" else PYTHON
    return found


def payload(body: Any, path: str = COMPLETIONS, *, close: bool = False) -> bytes:
    data = json.dumps(body).encode()
    closing = "Connection: close\r\n" if close else ""
    return f"POST {path} HTTP/1.1\r\nHost: truth\r\n{closing}Content-Length: {len(data)}\r\n\r\n".encode() + data


def rest(sock: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


def raw(server: Server, sent: bytes) -> bytes:
    with socket.create_connection(server.address, timeout=20) as sock:
        sock.sendall(sent)
        return rest(sock)


def ask(server: Server, body: Any = None, path: str = COMPLETIONS, method: str = "POST") -> tuple[int, str]:
    """The status and the body, unframed."""
    connection = http.client.HTTPConnection(*server.address, timeout=20)
    try:
        connection.request(method, path, json.dumps(IDS if body is None else body) if method == "POST" else None)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def events(text: str) -> list[Any]:
    return [json.loads(part.removeprefix("data: ")) for part in text.split("\n\n")[:-1] if part != "data: [DONE]"]


def read_until(sock: socket.socket, mark: bytes, times: int = 1) -> bytes:
    seen = b""
    while seen.count(mark) < times:
        data = sock.recv(1 << 16)
        assert data, seen
        seen += data
    return seen


def test_a_completion_is_tokens_then_finish_then_usage_then_done(command: Sequence[str]) -> None:
    with serve(command) as server:
        status, text = ask(server)
    *tokens, finish, usage = events(text)
    assert status == 200
    assert text.endswith("\n\ndata: [DONE]\n\n")
    assert [event["choices"][0]["text"] for event in tokens] == [" tok"] * 6
    assert {event["choices"][0]["finish_reason"] for event in tokens} == {None}
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 6,
        "total_tokens": 9,
        "prompt_tokens_details": None,
    }


def test_a_chat_sends_role_empty_reasoning_and_tool_deltas_in_order(command: Sequence[str]) -> None:
    with serve(command, role_chunk=1, empty_chunks=2, reasoning=3, tool_calls=1, tokens_per_chunk=2) as server:
        *deltas, finish, usage = events(ask(server, TALK, CHAT)[1])
    assert [event["choices"][0]["delta"] for event in deltas] == [
        {"role": "assistant", "content": ""},
        {"content": ""},
        {"content": ""},
        {"reasoning_content": " tok tok"},
        {"reasoning_content": " tok"},
        {"tool_calls": [{"index": 0, "function": {"arguments": " tok tok"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": " tok"}}]},
    ]
    assert finish["choices"][0]["finish_reason"] == "length"
    assert usage["usage"]["prompt_tokens"] == 5


def test_usage_is_in_every_event_or_at_the_end_or_nowhere(command: Sequence[str]) -> None:
    with serve(command, usage="continuous", cached=2, tokens_per_chunk=4) as server:
        counted = [event["usage"] for event in events(ask(server)[1])]
        assert [usage["completion_tokens"] for usage in counted] == [4, 6, 6, 6]
        assert counted[0]["prompt_tokens_details"] == {"cached_tokens": 2}
    with serve(command, usage="none") as server:
        assert not any("usage" in event for event in events(ask(server)[1]))
    with serve(command) as server:
        assert not any("usage" in event for event in events(ask(server, {"prompt": "a"})[1]))


@pytest.mark.parametrize(
    ("prompt", "tok"),
    [([], 0), ([1], 1), ([10, 200, 3000], 3), ("", 0), ("one", 1), (' one "two"\n\tthree\\ ', 3), ("w " * 5000, 5000)],
)
def test_a_prompt_counts_its_ids_or_its_words(command: Sequence[str], prompt: Any, tok: int) -> None:
    with serve(command, prompt_extra=7) as server:
        ask(server, {**IDS, "prompt": prompt, "user": '"max_tokens": 99, "prompt": [1, 2]'})
        assert server.stop().log[0].prompt_tok == tok + 7
        assert server.stop().log[0].output_tok == 6


def test_fixed_counts_win_over_the_request(command: Sequence[str]) -> None:
    with serve(command, prompt_fixed=11, output_tok=2, prompt_extra=5) as server:
        usage = events(ask(server)[1])[-1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (11, 2)


def test_another_model_is_not_found(command: Sequence[str]) -> None:
    with serve(command, model="m") as server:
        status, text = ask(server, {**IDS, "model": "other"})
        assert (status, json.loads(text)["error"]["code"]) == (404, 404)
        assert ask(server, {**IDS, "model": "m"})[0] == 200
        assert [entry.status for entry in server.stop().log] == [404, 200]


def test_what_is_no_completion_has_its_answers(command: Sequence[str]) -> None:
    with serve(command, metrics=0) as server:
        assert ask(server, method="GET", path="/health") == (200, "")
        assert json.loads(ask(server, method="GET", path="/v1/models")[1])["data"][0]["id"] == "truth"
        assert ask(server, method="GET", path="/metrics")[0] == 404
        assert ask(server, path="/v1/embeddings")[0] == 404
        for broken in (b"[]", b"", b'{"prompt": "a', b'{"prompt": [1, 2', b'{"max_tokens": 5', b"{]"):
            asked = b"POST /v1/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(broken), broken)
            assert raw(server, asked).startswith(b"HTTP/1.1 400 ")


def test_metrics_count_prompts_hits_and_tokens(command: Sequence[str]) -> None:
    with serve(command, cached=2) as server:
        ask(server)
        ask(server)
        found = dict(
            re.findall(r"^vllm:(\w+)\{.*\} (\S+)$", ask(server, method="GET", path="/metrics")[1], re.MULTILINE)
        )
    assert found == {
        "prompt_tokens_total": "6.0",
        "generation_tokens_total": "12.0",
        "prefix_cache_queries_total": "6.0",
        "prefix_cache_hits_total": "4.0",
    }


def test_a_connection_serves_one_request_after_the_other(command: Sequence[str]) -> None:
    with serve(command) as server, socket.create_connection(server.address, timeout=20) as sock:
        for _ in range(3):
            request = payload(IDS)
            for at in (0, 30, 90):
                sock.sendall(request[at : {0: 30, 30: 90}.get(at)])
            assert read_until(sock, b"0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")
        truth = server.stop()
    assert (truth.requests, truth.connections, truth.tokens, truth.events) == (3, 1, 18, 18)
    assert [entry.connection for entry in truth.log] == [0, 0, 0]


def test_the_answer_ends_as_its_framing_says(command: Sequence[str]) -> None:
    with serve(command, framing="close") as server:
        head, _, body = raw(server, payload(IDS)).partition(b"\r\n\r\n")
        assert b"content-length" not in head
        assert b"chunked" not in head
        assert body.endswith(b"\n\ndata: [DONE]\n\n")
    with serve(command, framing="length", keep_alive=0, done=0, itl_us=1000) as server:
        head, _, body = raw(server, payload(IDS)).partition(b"\r\n\r\n")
        assert f"content-length: {len(body)}\r\n".encode() in head + b"\r\n"
        assert b"[DONE]" not in body
        entry = server.stop().log[0]
    assert len(set(entry.send_ns)) == 1
    assert entry.send_ns[0] >= entry.received_ns + 5_000_000


def test_no_token_is_sent_before_it_is_due(command: Sequence[str]) -> None:
    with serve(command, ttft_us=5000, itl_us=2000, jitter_us=500, tokens_per_chunk=2) as server:
        ask(server)
        entry = server.stop().log[0]
    assert list(entry.tok) == [2, 2, 2]
    due = [entry.received_ns + 5_000_000 + 2_000_000 * before for before in (0, 2, 4)]
    assert all(sent >= at for sent, at in zip(entry.send_ns, due, strict=True))
    assert entry.end_ns is not None
    assert entry.end_ns > entry.send_ns[-1]


def test_no_token_arrives_before_its_stamp(command: Sequence[str]) -> None:
    with serve(command, itl_us=1000, ttft_us=1000) as server, socket.create_connection(server.address) as sock:
        sock.sendall(payload(IDS))
        seen = 0
        got: list[int] = []
        while seen < 6:
            seen += sock.recv(1 << 16).count(b'" tok"')
            got += [time.monotonic_ns()] * (seen - len(got))
        entry = server.stop().log[0]
    assert all(sent <= at for sent, at in zip(entry.send_ns, got, strict=True))


def test_events_that_share_a_write_share_its_stamp(command: Sequence[str]) -> None:
    with serve(command, events_per_write=4, itl_us=100) as server:
        assert len(events(ask(server)[1])) == 8
        stamps = server.stop().log[0].send_ns
    assert [stamps.count(stamp) for stamp in sorted(set(stamps))] == [4, 2]


def test_the_head_comes_early_late_or_with_the_first_token(command: Sequence[str]) -> None:
    with serve(command, ttft_us=3000, slow_start_us=1000) as server:
        ask(server)
        early = server.stop().log[0]
    with serve(command, ttft_us=3000, head_early=0) as server:
        ask(server)
        late = server.stop().log[0]
    assert early.head_ns is not None
    assert early.received_ns + 1_000_000 <= early.head_ns < early.send_ns[0]
    assert late.head_ns == late.send_ns[0]


def test_a_pause_shifts_what_follows(command: Sequence[str]) -> None:
    with serve(command, fault="pause", fault_after=2, stall_us=4000, itl_us=500) as server:
        assert len(events(ask(server)[1])) == 8
        entry = server.stop().log[0]
    assert entry.send_ns[2] >= entry.received_ns + 5_000_000
    assert entry.send_ns[5] >= entry.received_ns + 6_500_000


def test_a_stalled_answer_never_ends(command: Sequence[str]) -> None:
    stalling = serve(command, fault="stall", fault_after=4, tokens_per_chunk=3)
    with stalling as server, socket.create_connection(server.address, timeout=20) as sock:
        sock.sendall(payload(IDS))
        read_until(sock, b" tok", 4)
        entry = server.stop().log[0]
        assert sock.recv(1) == b""
    assert (list(entry.tok), entry.end_ns) == ([3, 1], None)


def test_a_connection_is_closed_or_reset_in_the_middle(command: Sequence[str]) -> None:
    with serve(command, fault="close", fault_after=2) as server:
        assert raw(server, payload(IDS)).count(b" tok") == 2
    with serve(command, fault="reset", fault_after=2) as server, pytest.raises(ConnectionResetError):
        raw(server, payload(IDS))


def test_events_in_the_middle_are_broken_or_errors(command: Sequence[str]) -> None:
    with serve(command, fault="garbage", fault_after=2) as server:
        parts = ask(server)[1].split("\n\n")
        with pytest.raises(json.JSONDecodeError):
            json.loads(parts[2].removeprefix("data: "))
        assert len(parts) == 6 + 1 + len(["finish", "usage", "done", "end"])
    with serve(command, fault="error", fault_after=2) as server:
        *tokens, error = events(ask(server)[1])
        assert (len(tokens), error["error"]["code"]) == (2, 500)


def test_an_endless_line_goes_on_until_the_client_leaves(command: Sequence[str]) -> None:
    with serve(command, fault="endless-line", fault_every=2) as server:
        assert ask(server)[0] == 200
        with socket.create_connection(server.address, timeout=20) as sock:
            sock.sendall(payload(IDS))
            body = read_until(sock, b"x" * 65536, 20)
        assert b"\n" not in re.sub(rb"\r\n(10000\r\n)?", b"", body.partition(b"\r\n\r\n")[2])
        assert ask(server)[0] == 200


def test_every_kth_request_gets_the_status(command: Sequence[str]) -> None:
    with serve(command, fault="status", status=503, fault_every=2) as server:
        answers = [ask(server) for _ in range(4)]
        log = server.stop().log
    assert [status for status, _ in answers] == [200, 503, 200, 503]
    assert json.loads(answers[1][1])["error"]["code"] == 503
    assert [(entry.status, entry.output_tok, len(entry.tok)) for entry in log] == [(200, 6, 6), (503, 0, 0)] * 2


def test_a_client_that_does_not_read_holds_up_no_other(command: Sequence[str]) -> None:
    tokens = 60_000
    with serve(command, events_per_write=100) as server, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(server.address)
        slow.sendall(payload({**IDS, "max_tokens": tokens}, close=True))
        read_until(slow, b" tok")
        assert len(events(ask(server)[1])) == 8
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        while slow.recv(1 << 20):
            pass
        truth = server.stop()
    assert (sum(truth.log[0].tok), truth.tokens) == (tokens, tokens + 6)
    assert truth.log[0].end_ns is not None


def test_many_streams_are_served_in_turns_and_some_may_leave(command: Sequence[str]) -> None:
    with serve(command, ttft_us=1000, itl_us=500) as server:
        socks = [socket.create_connection(server.address, timeout=20) for _ in range(100)]
        for sock in socks:
            sock.sendall(payload({**IDS, "max_tokens": 20}, close=True))
        for sock in socks[::10]:
            # With no time to linger it is reset, at whatever point the stream has reached.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        whole = [rest(sock) for sock in socks if sock.fileno() >= 0]
        for sock in socks:
            sock.close()
        truth = server.stop()
    assert [answer.count(b'" tok"') for answer in whole] == [20] * 90
    assert truth.connections == 100
    assert sum(entry.end_ns is not None for entry in truth.log) >= 90


def test_a_signal_ends_it_with_its_log(command: Sequence[str]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with serve(command) as server:
            ask(server)
            server.process.send_signal(number)
            assert len(server.stop().log) == 1


def test_without_a_log_only_the_counts_remain(command: Sequence[str]) -> None:
    with serve(command, log=False) as server:
        ask(server)
        truth = server.stop()
    assert (truth.requests, truth.tokens, truth.log) == (1, 6, ())


@pytest.mark.tool
@needs_gcc
@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"split": 7, "head_early": 0, "empty_chunks": 1, "cached": 0},
        {"usage": "continuous", "tokens_per_chunk": 4, "events_per_write": 3},
        {"role_chunk": 1, "reasoning": 2, "tool_calls": 1, "head_early": 0},
        {"framing": "length", "role_chunk": 1, "empty_chunks": 2, "fault": "close"},
        {"framing": "close", "done": 0, "model": "m"},
        {"fault": "garbage", "fault_after": 3, "tokens_per_chunk": 2},
        {"fault": "error", "fault_after": 6, "head_early": 0},
        {"fault": "status", "status": 429, "slow_start_us": 100},
        {"output_tok": 0},
    ],
    ids=str,
)
def test_the_two_servers_send_the_same_bytes(binary: list[str], knobs: dict[str, Any]) -> None:
    def answers(command: Sequence[str]) -> Iterator[bytes]:
        with serve(command, **knobs) as server:
            for model in ("m", "n"):
                yield raw(server, payload({**IDS, "model": model}, close=True))
                yield raw(server, payload({**TALK, "model": model}, CHAT, close=True))
            for path in ("health", "v1/models", "metrics", "nothing"):
                yield raw(server, f"GET /{path} HTTP/1.1\r\nConnection: close\r\n\r\n".encode())

    assert list(answers(binary)) == list(answers(PYTHON))


def test_both_servers_and_the_readme_know_the_same_knobs() -> None:
    names = [knob.name.replace("_", "-") for knob in fields(Knobs)]
    assert re.findall(r'^    \{"([a-z-]+)", ', (HERE / "server.c").read_text(), re.MULTILINE) == names
    documented = set(re.findall(r"`--([a-z-]+)", (HERE / "README.md").read_text()))
    assert documented == set(names)


def test_an_unknown_knob_or_value_is_refused(command: Sequence[str]) -> None:
    with pytest.raises(ValueError, match="no knob speed"), serve(command, speed=1):
        pass
    with pytest.raises(RuntimeError, match="fault sloth"), serve(command, fault="sloth"):
        pass


def test_without_a_compiler_the_python_server_serves(tmp_path: Path) -> None:
    assert build(tmp_path, compiler="no-such-compiler") == list(PYTHON)
