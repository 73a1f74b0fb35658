"""The forms that engines send, by what their sources and documents say."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetbench_collectors.load import dialect
from fleetbench_collectors.load.dialect import Chunks, Said, counts, error, said, spread_over


def completion(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "text": text, "finish_reason": None, **more}]}


def chat(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}


def used(event: dict[str, Any], output_tok: int) -> dict[str, Any]:
    return {**event, "usage": {"prompt_tokens": 5, "completion_tokens": output_tok}}


def added(*events: dict[str, Any]) -> Chunks:
    """Of events that came at 0, 1, 2 ... ns."""
    found = Chunks()
    for stamp, event in enumerate(events):
        found.add(event, stamp)
    return found


def arrivals(*events: dict[str, Any]) -> tuple[int | None, list[int], list[int] | None]:
    chunks, token_ns, chunk_tok = added(*events).arrivals()
    return chunks, list(token_ns), None if chunk_tok is None else list(chunk_tok)


# What the fields of Said are: text alone, sure, blank, role, ids, last.
FORMS = {
    "completions, every engine": (completion(" the"), Said("text", True, False, False, None, False)),
    "vLLM completions: half of a character, or a control token": (
        completion(""),
        Said(None, False, True, False, None, False),
    ),
    "vLLM completions, the last chunk": (
        completion("", finish_reason="length"),
        Said(None, False, False, False, None, True),
    ),
    "vLLM completions, return_token_ids": (
        completion("ab", token_ids=[4, 5]),
        Said(None, True, False, False, 2, False),
    ),
    "vLLM, return_token_ids: the end of the sequence": (
        completion("", token_ids=[2], finish_reason="stop"),
        Said(None, True, False, False, 1, True),
    ),
    "TGI completions (router/src/server.rs): an empty finish_reason in every chunk but the last": (
        completion(" the", finish_reason=""),
        Said("text", True, False, False, None, False),
    ),
    "vLLM chat, the first chunk": (
        chat({"role": "assistant", "content": ""}),
        Said(None, False, False, True, None, False),
    ),
    "llama.cpp chat, the first chunk": (
        chat({"role": "assistant", "content": None}),
        Said(None, False, False, True, None, False),
    ),
    "TensorRT-LLM chat, the first chunk: null fields are left out": (
        chat({"role": "assistant"}),
        Said(None, False, False, True, None, False),
    ),
    "chat, every engine": (chat({"content": " the"}), Said("content", True, False, False, None, False)),
    "TGI chat (router/src/chat.rs): the role in every chunk": (
        chat({"role": "assistant", "content": " the"}),
        Said("content", True, False, True, None, False),
    ),
    "SGLang chat: all fields in every chunk": (
        chat({"role": None, "content": " the", "reasoning_content": None, "tool_calls": None}),
        Said("content", True, False, False, None, False),
    ),
    "SGLang, llama.cpp, TensorRT-LLM: reasoning": (
        chat({"content": None, "reasoning_content": "hm"}),
        Said("reasoning_content", True, False, False, None, False),
    ),
    "vLLM: reasoning under its newer name": (
        chat({"reasoning": "hm"}),
        Said("reasoning", True, False, False, None, False),
    ),
    "TensorRT-LLM chat: a token whose text is held back": (
        chat({"content": "", "reasoning_content": ""}),
        Said(None, False, True, False, None, False),
    ),
    "tool calls: the name": (
        chat({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
        Said(None, True, False, False, None, False),
    ),
    "tool calls: arguments": (
        chat({"tool_calls": [{"index": 0, "function": {"arguments": '{"a'}}]}),
        Said(None, True, False, False, None, False),
    ),
    "tool calls: nothing of one yet": (
        chat({"tool_calls": [{"index": 0, "function": {"name": None, "arguments": ""}}]}),
        Said(None, False, False, False, None, False),
    ),
    "llama.cpp and transformers serve: the last chunk has an empty delta": (
        chat({}, finish_reason="stop"),
        Said(None, False, False, False, None, True),
    ),
}


@pytest.mark.parametrize(("event", "meaning"), FORMS.values(), ids=FORMS.keys())
def test_a_chunk_is_understood(event: dict[str, Any], meaning: Said) -> None:
    assert said(event) == meaning


@pytest.mark.parametrize("event", [{}, {"choices": []}, {"choices": None}, {"choices": [None]}, {"choices": {}}])
def test_an_event_without_a_choice_says_nothing(event: dict[str, Any]) -> None:
    assert said(event) is None


COUNTS = {
    "vLLM, SGLang: a chunk of its own": (
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}},
        (9, 4, None),
    ),
    "vLLM with prompt_tokens_details": (
        {"usage": {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}},
        (9, 4, 8),
    ),
    "TensorRT-LLM, vLLM: null until the last chunk": ({"usage": None}, None),
    "llama.cpp timings (tools/server): prompt_n is without the cache": (
        {"timings": {"cache_n": 6, "prompt_n": 3, "predicted_n": 4}},
        (9, 4, 6),
    ),
    "llama.cpp before it told of the cache: the prompt's length is unknown": (
        {"timings": {"prompt_n": 3, "predicted_n": 4}},
        (None, 4, None),
    ),
    "llama.cpp with both": (
        {
            "usage": {"prompt_tokens": 9, "completion_tokens": 4},
            "timings": {"cache_n": 6, "prompt_n": 3, "predicted_n": 4},
        },
        (9, 4, 6),
    ),
    "numbers that are none": ({"usage": {"prompt_tokens": -1, "completion_tokens": True}}, (None, None, None)),
}


@pytest.mark.parametrize(("event", "expected"), COUNTS.values(), ids=COUNTS.keys())
def test_the_servers_counts_are_found(event: dict[str, Any], expected: tuple[int | None, ...] | None) -> None:
    assert counts(event) == expected


ERRORS = {
    "vLLM, SGLang, llama.cpp": ({"error": {"message": "no memory", "code": 500}}, "no memory"),
    "vLLM before the error was nested": ({"object": "error", "message": "no memory", "code": 500}, "no memory"),
    "TGI": ({"error": "no memory", "error_type": "generation"}, "generation"),
}


@pytest.mark.parametrize(("event", "words"), ERRORS.values(), ids=ERRORS.keys())
def test_an_error_within_the_stream_is_found(event: dict[str, Any], words: str) -> None:
    assert words in (error(event) or "")


def test_a_chunk_without_an_error_has_none() -> None:
    assert error({"error": None, "object": "text_completion", **completion("x")}) is None


def test_json_may_have_white_space_around_it() -> None:
    """TensorRT-LLM's chat ends each event with a space."""
    assert dialect.event(b' {"a": 1} ') == {"a": 1}


@pytest.mark.parametrize("data", [b"{", b"{} {}", b"\xff{}", b"", json.dumps("x" * 9).encode()])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="an event that is no"):
        dialect.event(data)


def test_running_counts_say_how_many_tokens_a_chunk_has() -> None:
    """vLLM and SGLang with continuous_usage_stats, as in speculative decoding."""
    events = [used(completion("ab"), 3), used(completion("c"), 4), used(completion("de", finish_reason="length"), 9)]
    assert arrivals(*events) == (3, [0, 1, 2], [3, 1, 5])


def test_a_chunk_without_a_text_that_raises_the_count_brought_a_token() -> None:
    first = used(chat({"role": "assistant", "content": ""}), 0)
    events = [
        first,
        used(chat({"content": ""}), 1),
        used(chat({"content": "é"}), 2),
        used(chat({}, finish_reason="stop"), 3),
    ]
    assert arrivals(*events) == (3, [1, 2, 3], [1, 1, 1])


def test_a_count_in_the_last_chunk_only_is_no_token_of_that_chunk() -> None:
    assert arrivals(completion("a"), completion("b"), used(completion("", finish_reason="length"), 2)) == (
        2,
        [0, 1],
        None,
    )
    assert arrivals(used(completion("", finish_reason="length"), 2)) == (None, [], None)


def test_running_counts_that_do_not_add_up_are_not_believed() -> None:
    events = [used(completion("a"), 1), used(completion("b"), 1), used({"choices": []}, 8)]
    assert arrivals(*events) == (2, [0, 1], None)


def test_the_chunk_that_names_the_role_is_no_token_even_where_blanks_are_counted() -> None:
    events = [chat({"role": "assistant", "content": ""}), chat({"content": ""}), chat({"content": "a"})]
    assert arrivals(*events, used({"choices": []}, 2)) == (2, [1, 2], None)


def test_llama_cpp_timings_in_every_chunk_are_running_counts() -> None:
    events = [{**chat({"content": "a"}), "timings": {"predicted_n": n}} for n in (2, 4)]
    assert arrivals(*events) == (2, [0, 1], [2, 2])


def test_a_later_event_without_a_count_leaves_the_earlier_one() -> None:
    found = added(used(completion("a"), 1), {"choices": [], "usage": {}})
    assert (found.prompt_tok, found.output_tok, found.cached_tok) == (5, 1, None)


def test_tokens_spread_by_the_chunks_of_each_arrival() -> None:
    assert spread_over(8, [2, 1, 1]) == [4, 2, 2]
    assert spread_over(None, [2, 1]) == spread_over(2, [2, 1]) == [2, 1]
    assert spread_over(4, []) == []
