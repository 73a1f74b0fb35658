from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.client import Ending, Exchange
from fleetbench_collectors.load.parse import Reply, reply

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def token(text: str = "x", **more: Any) -> bytes:
    return event({"choices": [{"text": text, "index": 0, "finish_reason": None, **more}]})


def usage(prompt: int, output: int, cached: int = 0) -> bytes:
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return event({"choices": [{"text": "", "finish_reason": "length"}], "usage": counts})


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def said(reads: list[bytes], ending: Ending = Ending.COMPLETE, error: str | None = None) -> Reply:
    """The reply of reads that came at 10, 20, 30 ... ns."""
    stamped = [(10 * (index + 1), data) for index, data in enumerate(reads)]
    return reply(Exchange(request=0, start_ns=0, reads=stamped, ending=ending, error=error))


def test_a_stream_gives_its_tokens_stamps_and_the_servers_counts() -> None:
    reads = [CHUNKED, chunk(token()), chunk(token()), chunk(usage(8, 2)), chunk(DONE), b"0\r\n\r\n"]
    result = said(reads)
    assert (result.outcome, result.error) == ("ok", None)
    assert result.token_ns == [20, 30]
    assert (result.first_byte_ns, result.end_ns) == (20, 60)
    assert (result.prompt_tok, result.output_tok, result.cached_tok) == (8, 2, 0)
    assert result.chunk_tok is None


@given(cuts=st.lists(st.integers(1, 1000), max_size=40), line=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_chunk_is_stamped_with_the_read_that_completed_its_event(cuts: list[int], line: bytes) -> None:
    events = [token("é"), token("[DONE]"), b": a comment\n\n" + token("c"), usage(5, 3), DONE]
    pieces = [CHUNKED, *(chunk(one.replace(b"\n", line)) for one in events), b"0\r\n\r\n"]
    raw = b"".join(pieces)
    marks = sorted({0, len(raw), *(cut % len(raw) for cut in cuts)})
    reads = [raw[left:right] for left, right in pairwise(marks)]
    result = said(reads)
    assert result.outcome == "ok"
    ends = [len(b"".join(pieces[: index + 1])) - 2 for index in (1, 2, 3)]
    completed = [next(10 * n for n, mark in enumerate(marks) if mark >= end) for end in ends]
    assert result.token_ns == sorted(set(completed))
    assert result.chunks == 3
    if len(result.token_ns) < 3:
        assert result.chunk_tok == [completed.count(stamp) for stamp in result.token_ns]


def test_an_event_whose_data_are_several_lines_is_one() -> None:
    body = b'data: {"choices":\ndata: [{"text": "x", "finish_reason": null}]}\n\n'
    result = said([CHUNKED + chunk(body + usage(1, 1) + DONE) + b"0\r\n\r\n"])
    assert (result.outcome, len(result.token_ns)) == ("ok", 1)


def test_a_token_without_a_text_counts_where_the_server_counted_it() -> None:
    body = token("") + token("a") + token("") + usage(1, 3) + DONE
    assert said([CHUNKED + chunk(body) + b"0\r\n\r\n"]).chunks == 3


def test_a_chunk_without_text_and_token_is_not_the_first_token() -> None:
    reads = [CHUNKED, chunk(token("")), chunk(token("a")), chunk(usage(1, 1) + DONE) + b"0\r\n\r\n"]
    assert said(reads).token_ns == [30]


def test_token_ids_say_how_many_tokens_a_chunk_has() -> None:
    first = chunk(token("ab", token_ids=[1, 2]) + token("", token_ids=[]))
    result = said([CHUNKED, first, chunk(token("c", token_ids=[3]) + usage(1, 3) + DONE) + b"0\r\n\r\n"])
    assert result.chunk_tok == [2, 1]


def test_chunks_that_one_read_brought_are_one_arrival() -> None:
    """The time between them cannot be seen, so it is no latency of 0."""
    reads = [CHUNKED, chunk(token("a") + token("b")), chunk(token("c") + usage(1, 3) + DONE) + b"0\r\n\r\n"]
    result = said(reads)
    assert (result.chunks, result.token_ns, result.chunk_tok) == (3, [20, 30], [2, 1])
    assert len(result.gaps_us()) == 1


def test_token_ids_that_contradict_the_usage_are_not_believed() -> None:
    body = token("ab", token_ids=[1, 2]) + usage(1, 3) + DONE
    assert said([CHUNKED + chunk(body) + b"0\r\n\r\n"]).chunk_tok is None


def test_no_usage_means_no_counts_not_zero() -> None:
    result = said([CHUNKED + chunk(token() + DONE) + b"0\r\n\r\n"])
    assert (result.outcome, result.prompt_tok, result.output_tok) == ("ok", None, None)


def test_gaps_are_microseconds_and_fit_the_column() -> None:
    result = Reply(token_ns=[0, 1_499, 3_000_000, 10**16])
    assert result.gaps_us() == [1, 2_999, 2**32 - 1]


@pytest.mark.parametrize(
    ("raw", "ending", "outcome", "words"),
    [
        (b"", Ending.TRANSPORT, "transport_error", "gone"),
        (b"", Ending.TIMEOUT, "timeout", "gone"),
        (b"", Ending.CLOSED, "transport_error", "gone"),
        (CHUNKED, Ending.TIMEOUT, "timeout", "gone"),
        (CHUNKED + chunk(token()), Ending.CLOSED, "transport_error", "in the middle of the response"),
        (CHUNKED + chunk(token() + usage(1, 1)), Ending.TOO_LARGE, "protocol_error", "gone"),
        (b"SMTP ready\r\n\r\n", Ending.FRAMING, "protocol_error", "not an HTTP response"),
        (CHUNKED + b"zz\r\n", Ending.FRAMING, "protocol_error", "chunk's size"),
        (CHUNKED + b"0\r\n\r\n", Ending.COMPLETE, "protocol_error", "without its last event"),
        (CHUNKED + chunk(token()) + b"0\r\n\r\n", Ending.COMPLETE, "protocol_error", "without its last event"),
        (CHUNKED + chunk(b"data: {nonsense\n\n") + b"0\r\n\r\n", Ending.COMPLETE, "protocol_error", "no JSON"),
        (CHUNKED + chunk(b"data: [1]\n\n") + b"0\r\n\r\n", Ending.COMPLETE, "protocol_error", "no object"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", Ending.COMPLETE, "http_error", "HTTP 503: busy"),
        (
            CHUNKED + chunk(token() + event({"error": {"message": "out of memory"}})) + b"0\r\n\r\n",
            Ending.COMPLETE,
            "http_error",
            "out of memory",
        ),
        (CHUNKED + chunk(b'error: {"code": 500}\n\n') + b"0\r\n\r\n", Ending.COMPLETE, "http_error", "500"),
    ],
)
def test_what_went_wrong_is_an_outcome_with_its_reason(raw: bytes, ending: Ending, outcome: str, words: str) -> None:
    result = said([raw] if raw else [], ending, None if ending is Ending.COMPLETE else "gone")
    assert result.outcome == outcome
    assert words in (result.error or "")


def test_a_long_error_is_cut() -> None:
    raw = b"HTTP/1.1 500 Oops\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000
    assert len(said([raw]).error or "") == 500


def test_a_body_that_ends_with_the_connection_is_whole_then() -> None:
    result = said([CLOSING + token(), usage(1, 1) + DONE], Ending.CLOSED, "closed")
    assert (result.outcome, result.end_ns) == ("ok", 20)


def test_what_came_before_a_failure_is_kept() -> None:
    result = said([CHUNKED, chunk(token()), chunk(token())], Ending.TIMEOUT, "too long")
    assert (result.outcome, result.token_ns, result.end_ns) == ("timeout", [20, 30], None)


@given(raw=st.binary(max_size=300), ending=st.sampled_from(list(Ending)))
def test_any_bytes_come_to_an_outcome(raw: bytes, ending: Ending) -> None:
    for data in (raw, CLOSING + raw, CLOSING + b"data: " + raw + b"\n\n", CHUNKED + chunk(raw or b"x")):
        assert said([data], ending).outcome


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["choices", "usage", "text", "finish_reason", "token_ids", "completion_tokens", "error"]),
            inner,
            max_size=4,
        )
    ),
)


@given(value=NESTED)
def test_any_json_comes_to_an_outcome(value: object) -> None:
    assert said([CLOSING + event(value) + DONE], Ending.CLOSED).outcome
