from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleetbench_collectors import tables
from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.quality import suite, tasks
from fleetbench_collectors.quality.run import run

ITEMS = 6
Reply = tuple[int, Any] | None
"""Status and JSON; None closes the connection without a word."""

RIGHT = {i.prompt_ids: i.answer_ids for i in suite.embedded(ITEMS, 0)}
UNIFORM = [{"id": i, "logprob": -math.log(tasks.VOCAB_SIZE)} for i in range(tasks.VOCAB_SIZE)]


def good(path: str, body: Any) -> Reply:
    """An engine that knows every answer and has a uniform distribution."""
    if path == "/props":
        return 200, {"total_slots": 2, "default_generation_settings": {"n_ctx": 1024}}
    if path == "/detokenize":
        return 200, {"content": tasks.decode(body["tokens"])}
    if "n_probs" in body:
        return 200, {"completion_probabilities": [{"top_logprobs": UNIFORM}]}
    return 200, {"tokens": RIGHT[tuple(body["prompt"])]}


@contextmanager
def serving(answer: Callable[[str, Any], Reply]) -> Iterator[tuple[str, list[Any]]]:
    """A real server on a port of its own; its address and the completions that it was asked for."""
    asked: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _reply(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(size)) if size else None
            if self.path == "/completion":
                asked.append(body)
            reply = answer(self.path, body)
            if reply is None:
                self.close_connection = True
                return
            data = reply[1] if isinstance(reply[1], bytes) else json.dumps(reply[1]).encode()
            self.send_response(reply[0])
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _reply  # noqa: N815 -- the names that http.server calls

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def spec(base_url: str, out: Path, **change: Any) -> dict[str, Any]:
    return {
        "kind": "quality",
        "base_url": base_url,
        "suite": "embedded",
        "items": ITEMS,
        "seed": 0,
        "parallel": 8,
        "positions": 50,
        "request_timeout_s": 20,
        "run_id": "r",
        "trial_id": "t",
        "attempt": 1,
        "out": str(out),
    } | change


def test_an_engine_that_knows_all_answers_gets_all_right(tmp_path: Path) -> None:
    with serving(good) as (url, _):
        answer = run(spec(url, tmp_path))
    summary = answer["summary"]
    assert summary["items"] == summary["answered"] == summary["correct"] == 6 * ITEMS
    assert summary["categories"]["needle"] == {"items": ITEMS, "answered": ITEMS, "correct": ITEMS}
    assert (summary["positions"], summary["positions_refused"], summary["suite"]) == (50, None, "embedded/1")
    items, forced = answer["tables"]["quality_items"], answer["tables"]["quality_positions"]
    assert items.schema.equals(tables.QUALITY_ITEMS, check_metadata=True)
    assert items["item_id"].to_pylist() == [i.item_id for i in suite.embedded(ITEMS, 0)]
    assert set(items["attempt"].to_pylist()) == {1}
    assert forced.schema.equals(tables.QUALITY_POSITIONS, check_metadata=True)
    assert forced["ids"][0].as_py() == list(range(tasks.VOCAB_SIZE))


def test_the_cache_is_used_on_one_haystack_and_slot_only(tmp_path: Path) -> None:
    with serving(good) as (url, asked):
        run(spec(url, tmp_path, positions=0))
    assert {body["id_slot"] for body in asked} <= {0, 1}
    by_slot: dict[int, list[dict[str, Any]]] = {0: [], 1: []}
    for body in asked:
        by_slot[body["id_slot"]].append(body)
    for bodies in by_slot.values():
        for before, body in zip([None, *bodies], bodies, strict=False):
            if body["cache_prompt"]:
                assert before is not None
                assert before["prompt"][:-1] == body["prompt"][:-1]
    assert any(body["cache_prompt"] for body in asked)


def test_a_refused_item_has_no_answer_and_is_not_wrong(tmp_path: Path) -> None:
    def refuses_needles(path: str, body: Any) -> Reply:
        if path == "/completion" and len(body["prompt"]) > 100:
            return 400, {"error": {"message": "too long"}}
        return good(path, body)

    with serving(refuses_needles) as (url, _):
        answer = run(spec(url, tmp_path))
    assert answer["summary"]["categories"]["needle"] == {"items": ITEMS, "answered": 0, "correct": 0}
    assert "too long" in answer["summary"]["first_refusal"]
    rows = [r for r in answer["tables"]["quality_items"].to_pylist() if r["category"] == "needle"]
    assert all(r["correct"] is None and r["answer"] is None for r in rows)


def test_probabilities_that_do_not_add_up_are_refused_with_the_reason(tmp_path: Path) -> None:
    def truncated(path: str, body: Any) -> Reply:
        if path == "/completion" and "n_probs" in body:
            return 200, {"completion_probabilities": [{"top_logprobs": UNIFORM[:40]}]}
        return good(path, body)

    with serving(truncated) as (url, _):
        answer = run(spec(url, tmp_path))
    assert answer["summary"]["positions"] == 0
    assert "0.3125" in answer["summary"]["positions_refused"]
    assert answer["tables"]["quality_positions"].num_rows == 0
    assert answer["summary"]["correct"] == 6 * ITEMS


def _silent_on(path_of_silence: str, reply: Reply) -> Callable[[str, Any], Reply]:
    return lambda path, body: reply if path == path_of_silence else good(path, body)


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (_silent_on("/completion", None), "engine_gone", "went away during /completion"),
        (_silent_on("/completion", (200, b"<html>")), "protocol", "answered no JSON"),
        (_silent_on("/completion", (500, {"error": "broken"})), "protocol", "answered no item"),
        (_silent_on("/completion", (200, {})), "protocol", "no tokens in the reply"),
        (_silent_on("/props", (404, {})), "protocol", "refused its own properties"),
        (_silent_on("/props", (200, [])), "protocol", "lack a field"),
        (_silent_on("/detokenize", (200, {"content": "other"})), "bad_model", "vocabulary"),
        (
            _silent_on("/props", (200, {"total_slots": 1, "default_generation_settings": {"n_ctx": 512}})),
            "bad_spec",
            "holds 512 tokens",
        ),
    ],
)
def test_an_engine_that_fails_is_a_typed_failure(
    answer: Callable[[str, Any], Reply], kind: str, said: str, tmp_path: Path
) -> None:
    with serving(answer) as (url, _), pytest.raises(WorkerFailure, match=said) as failure:
        run(spec(url, tmp_path))
    assert failure.value.kind == kind


def test_an_engine_that_never_answers_is_a_timeout(tmp_path: Path) -> None:
    release = threading.Event()

    def stuck(path: str, body: Any) -> Reply:
        if path == "/completion":
            release.wait()
        return good(path, body)

    with serving(stuck) as (url, _):
        try:
            with pytest.raises(WorkerFailure, match=r"no answer to /completion within 0\.2 s") as failure:
                run(spec(url, tmp_path, request_timeout_s=0.2))
        finally:
            release.set()
    assert failure.value.kind == "timeout"


def test_nobody_at_the_address_is_an_engine_that_is_gone(tmp_path: Path) -> None:
    with serving(good) as (url, _):
        pass
    with pytest.raises(WorkerFailure, match="went away") as failure:
        run(spec(url, tmp_path))
    assert failure.value.kind == "engine_gone"


@pytest.mark.parametrize("url", ["", "127.0.0.1:80", "https://x:1", "http://x:port", "http://[::1"])
def test_an_address_that_is_none_is_a_bad_specification(url: str, tmp_path: Path) -> None:
    with pytest.raises(WorkerFailure, match="base_url") as failure:
        run(spec(url, tmp_path))
    assert failure.value.kind == "bad_spec"


@pytest.mark.engine
def test_the_trained_model_answers_as_it_was_trained_to(tiny_url: str, tmp_path: Path) -> None:
    answer = run(spec(tiny_url, tmp_path, items=100, parallel=4, positions=100))
    summary = answer["summary"]
    assert (summary["items"], summary["answered"]) == (600, 600)
    share = {name: count["correct"] / count["items"] for name, count in summary["categories"].items()}
    least = {"facts": 0.8, "addition": 0.95, "json": 0.9, "tool_call": 0.9, "copy": 0.85, "needle": 0.8}
    assert all(share[name] >= bound for name, bound in least.items()), share
    assert (summary["positions"], summary["positions_refused"]) == (100, None)
    forced = answer["tables"]["quality_positions"].to_pylist()
    right = [row["logprobs"][row["token"]] for row in forced]
    assert sum(logprob > math.log(0.5) for logprob in right) >= 0.9 * len(right)
