from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.quality.general import suite
from fleetbench_collectors.quality.run import run

ITEMS, SEED, CONTEXT_TOK = 6, 3, 4096
OF_PROMPT = {item.prompt: item for item in suite.general(ITEMS, SEED, CONTEXT_TOK)}
Answer = Callable[[str, Any], tuple[int, Any]]


def chat(text: str, calls: Any = (), **more: Any) -> tuple[int, Any]:
    made = [{"function": {"name": name, "arguments": json.dumps(arguments)}} for name, arguments in calls]
    message = {"content": text, "tool_calls": made}
    return 200, {"choices": [{"message": message, **more}], "usage": {"prompt_tokens": 77}}


def oracle(path: str, body: Any) -> tuple[int, Any]:
    """An engine that knows every answer."""
    if path == "/v1/models":
        return 200, {"data": [{"id": "sage", "max_model_len": CONTEXT_TOK}]}
    if path != "/v1/chat/completions":
        return 404, {"error": "no such path"}
    item = OF_PROMPT.get(body["messages"][0]["content"])
    if item is None:
        return chat("yes")
    if item.tools:
        return chat("" if item.want else "The first.", item.want)
    return chat(item.expected)


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            status, said = answer(self.path, json.loads(self.rfile.read(size)) if size else None)
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _reply  # noqa: N815 -- the names that http.server calls

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def ask(answer: Answer, out: Path, **change: Any) -> dict[str, Any]:
    with serving(answer) as base_url:
        given = {"base_url": base_url, "suite": "general", "items": ITEMS, "seed": SEED, "out": str(out)}
        return run({"kind": "quality", "run_id": "r", "trial_id": "t", "attempt": 1} | given | change)


def test_an_engine_that_knows_all_is_right_in_every_category(tmp_path: Path) -> None:
    found = ask(oracle, tmp_path)
    all_right = {"items": ITEMS, "answered": ITEMS, "correct": ITEMS}
    assert found["summary"]["categories"] == dict.fromkeys(suite.CATEGORIES, all_right)
    assert found["summary"]["degenerate"] == {}


def test_rows_have_the_counted_prompt_tokens_and_the_items_own_order(tmp_path: Path) -> None:
    rows = ask(oracle, tmp_path)["tables"]["quality_items"].to_pylist()
    assert [row["item_id"] for row in rows] == [item.item_id for item in OF_PROMPT.values()]
    assert {row["context_tok"] for row in rows} == {77}


def test_a_later_answer_first_changes_no_row(tmp_path: Path) -> None:
    """The first item waits until another one was answered."""
    other = threading.Event()
    first = max(OF_PROMPT.values(), key=lambda item: item.prompt_tok).prompt

    def scrambled(path: str, body: Any) -> tuple[int, Any]:
        prompt = body["messages"][0]["content"] if body else ""
        if prompt == first:
            assert other.wait(20)
        elif prompt in OF_PROMPT:
            other.set()
        return oracle(path, body)

    assert ask(scrambled, tmp_path)["tables"] == ask(oracle, tmp_path)["tables"]


def test_a_refused_request_is_an_unanswered_item(tmp_path: Path) -> None:
    def faulty(path: str, body: Any) -> tuple[int, Any]:
        item = OF_PROMPT.get(body["messages"][0]["content"]) if body else None
        return (500, "out of luck") if item and item.category == "language" else oracle(path, body)

    found = ask(faulty, tmp_path)
    assert found["summary"]["categories"]["language"] == {"items": ITEMS, "answered": 0, "correct": 0}
    assert "out of luck" in found["summary"]["first_refusal"]
    assert found["summary"]["answered"] == ITEMS * (len(suite.CATEGORIES) - 1)


def test_log_probabilities_that_are_no_numbers_reach_the_rows(tmp_path: Path) -> None:
    def broken(path: str, body: Any) -> tuple[int, Any]:
        if body and body.get("logprobs"):
            return chat("1", logprobs={"content": [{"logprob": float("nan")}]})
        return oracle(path, body)

    rows = ask(broken, tmp_path)["tables"]["quality_items"].to_pylist()
    assert {row["degenerate"] for row in rows if row["category"] != "tool_call"} == {"nan"}


def small(path: str, body: Any) -> tuple[int, Any]:
    return (200, {"data": [{"id": "sage", "max_model_len": 512}]}) if path == "/v1/models" else oracle(path, body)


def silent(path: str, body: Any) -> tuple[int, Any]:
    return (503, "busy") if body and body["messages"][0]["content"] in OF_PROMPT else oracle(path, body)


def without_chat(path: str, body: Any) -> tuple[int, Any]:
    return oracle(path, body) if path == "/v1/models" else (404, "nothing here")


def of_unknown_context(path: str, body: Any) -> tuple[int, Any]:
    return (200, {"data": [{"id": "sage"}]}) if path == "/v1/models" else oracle(path, body)


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (small, "a context of 512 tokens; the general suite needs 1024"),
        (silent, "answered no item; the first refusal: 503"),
        (without_chat, "has no /v1/chat/completions"),
        (of_unknown_context, "says what context it holds"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_words(engine: Answer, why: str, tmp_path: Path) -> None:
    with pytest.raises(WorkerFailure, match=why):
        ask(engine, tmp_path)
