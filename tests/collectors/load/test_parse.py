from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fleetbench_collectors.load import dialect
from fleetbench_collectors.load.exchange import Ending
from fleetbench_collectors.load.http import FramingError
from fleetbench_collectors.load.parse import Reply, Stream, spread

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
DONE = b"data: [DONE]\n\n"
LAST = b"0\r\n\r\n"


class OneByOne(Stream):
    """Parses every event, and counts none."""

    _lessons = 0


def event(value: object) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def token(text: str = "x", **more: Any) -> bytes:
    return event({"id": "c1", "choices": [{"index": 0, "text": text, "finish_reason": None, **more}]})


def usage(prompt: int, output: int, cached: int = 0) -> bytes:
    counts = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": cached},
    }
    return event({"choices": [{"text": "", "finish_reason": "length"}], "usage": counts})


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def said(
    reads: Sequence[bytes],
    ending: Ending = Ending.COMPLETE,
    why: str | None = None,
    kind: type[Stream] = Stream,
    goes: int = 1,
) -> Reply:
    """The reply of reads that came at 10, 20, 30 ... ns, fed in several goes."""
    stream, stamps = kind(), [10 * (index + 1) for index in range(len(reads))]
    bounds = [len(reads) * go // goes for go in range(goes + 1)]
    for left, right in pairwise(bounds):
        stream.feed(reads[left:right], stamps[left:right])
    return stream.finish(ending, why)


def split(raw: bytes, cuts: Sequence[int]) -> list[bytes]:
    marks = sorted({0, len(raw), *(cut % len(raw) for cut in cuts)})
    return [raw[left:right] for left, right in pairwise(marks)]


def test_a_stream_gives_its_tokens_stamps_and_the_servers_counts() -> None:
    result = said([CHUNKED, chunk(token()), chunk(token()), chunk(usage(8, 2)), chunk(DONE), LAST])
    assert (result.outcome, result.error) == ("ok", None)
    assert result.token_ns == array("q", [20, 30])
    assert (result.first_byte_ns, result.end_ns) == (20, 60)
    assert (result.prompt_tok, result.output_tok, result.cached_tok) == (8, 2, 0)
    assert result.chunk_tok is None


@given(cuts=st.lists(st.integers(1, 1000), max_size=40), line=st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_a_chunk_is_stamped_with_the_read_that_completed_its_event(cuts: list[int], line: bytes) -> None:
    events = [token("é"), token("[DONE]"), b": a comment\n\n" + token("c"), usage(5, 3), DONE]
    pieces = [CHUNKED, *(chunk(one.replace(b"\n", line)) for one in events), LAST]
    raw = b"".join(pieces)
    reads = split(raw, cuts)
    result = said(reads)
    assert result.outcome == "ok"
    marks = [len(b"".join(reads[: index + 1])) for index in range(len(reads))]
    ends = [len(b"".join(pieces[: index + 1])) - 2 for index in (1, 2, 3)]
    completed = [next(10 * (n + 1) for n, mark in enumerate(marks) if mark >= end) for end in ends]
    assert list(result.token_ns) == sorted(set(completed))
    assert result.chunks == 3
    if len(result.token_ns) < 3:
        assert list(result.chunk_tok or ()) == [completed.count(stamp) for stamp in result.token_ns]


TEXTS = st.sampled_from(
    [" the", "é", "\n", '"', '\\"', "a\\", ' "id": 1,"text":"', "data: {", '","index":0', "[DONE]", "€"]
)
ODD = st.sampled_from(
    [
        token(""),
        token("", finish_reason="stop"),
        token("two", token_ids=[1, 2]),
        token("last", finish_reason="length"),
        b": ping\n\n",
        b"\n",
        b"event: message\n" + token("named"),
        b'data: {"choices":\ndata: [{"text": "x"}]}\n\n',
        event({"id": "c1", "choices": [{"delta": {"role": "assistant", "content": ""}}]}),
        event({"id": "c1", "choices": [{"delta": {"content": "chat"}}]}),
        event({"id": "c1", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 9}}),
        token("counted").replace(b"]}", b'],"usage":{"prompt_tokens":1,"completion_tokens":2}}'),
        token("other").replace(b'"c1"', b'"c2"'),
        token("").replace(b'"text":""', b'"text":"","text_offset":"x"'),
        token("spaced").replace(b"\n\n", b" \n\n"),
        token("held").replace(b"\n", b"\r\n"),
    ]
)
EVENTS = st.lists(TEXTS.map(token), max_size=30).flatmap(
    lambda plain: st.lists(st.tuples(st.integers(0, 30), ODD), max_size=3).map(lambda odd: mixed(plain, odd))
)


def mixed(plain: list[bytes], odd: list[tuple[int, bytes]]) -> list[bytes]:
    events = list(plain)
    for at, one in odd:
        events.insert(at % (len(events) + 1), one)
    return events


def renamed(events: list[bytes], ids: str) -> list[bytes]:
    """Another id in every event, or from the half of the stream on."""
    numbers = {
        "one": [1] * len(events),
        "each": list(range(len(events))),
        "half": [2 * index // len(events) for index in range(len(events))],
    }
    return [one.replace(b'"c1"', b'"c%d"' % number) for number, one in zip(numbers[ids], events, strict=True)]


FRAMINGS = st.sampled_from(["event", "random", "length", "close"])


def framed(events: list[bytes], framing: str, cuts: list[int]) -> bytes:
    body = b"".join(events)
    if framing == "event":
        return CHUNKED + b"".join(map(chunk, events)) + LAST
    if framing == "random":
        return CHUNKED + b"".join(map(chunk, split(body, cuts))) + LAST
    if framing == "length":
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    return CLOSING + body


CUTS = st.lists(st.integers(1, 8000), max_size=30)


@settings(max_examples=300, deadline=None)
@given(
    events=EVENTS,
    output_tok=st.integers(0, 40),
    ids=st.sampled_from(["one", "each", "half"]),
    framing=FRAMINGS,
    boundaries=CUTS,
    cuts=st.one_of(CUTS, st.none()),
    goes=st.integers(1, 4),
)
@example(
    events=[token()] * 30,
    output_tok=30,
    ids="each",
    framing="random",
    boundaries=list(range(0, 8000, 7)),
    cuts=[],
    goes=1,
)
def test_counting_events_gives_the_same_as_parsing_each(
    *,
    events: list[bytes],
    output_tok: int,
    ids: str,
    framing: str,
    boundaries: list[int],
    cuts: list[int] | None,
    goes: int,
) -> None:
    events = [*renamed(events, ids), usage(7, output_tok), DONE]
    raw = framed(events, framing, boundaries)
    reads = [CHUNKED, *map(chunk, events), LAST] if cuts is None else split(raw, cuts)
    ending = Ending.CLOSED if framing == "close" else Ending.COMPLETE
    assert said(reads, ending, "closed", goes=goes) == said(reads, ending, "closed", OneByOne)


@pytest.mark.parametrize("framing", ["event", "random", "length", "close"])
@pytest.mark.parametrize("reads_of", [0, 700, 4096])
@pytest.mark.parametrize("ids", ["one", "each"])
def test_alike_events_are_counted_and_not_parsed(
    framing: str, reads_of: int, ids: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    parse = dialect.event

    def spy(data: bytes) -> dict[str, Any]:
        parsed.append(data)
        return parse(data)

    monkeypatch.setattr(dialect, "event", spy)
    events = [*renamed([token(f" {index}") for index in range(1000)], ids), usage(7, 1000), DONE]
    raw = framed(events, framing, list(range(3000, 90_000, 3000)))
    reads = [raw[at : at + reads_of] for at in range(0, len(raw), reads_of)] if reads_of else [raw]
    result = said(reads, Ending.CLOSED if framing == "close" else Ending.COMPLETE)
    assert (result.chunks, result.output_tok) == (1000, 1000)
    assert len(parsed) < 150


def test_an_event_whose_data_are_several_lines_is_one() -> None:
    body = b'data: {"choices":\ndata: [{"text": "x", "finish_reason": null}]}\n\n'
    result = said([CHUNKED + chunk(body + usage(1, 1) + DONE) + LAST])
    assert (result.outcome, len(result.token_ns)) == ("ok", 1)


def test_a_token_without_a_text_counts_where_the_server_counted_it() -> None:
    body = token("") + token("a") + token("") + usage(1, 3) + DONE
    assert said([CHUNKED + chunk(body) + LAST]).chunks == 3


def test_a_chunk_without_text_and_token_is_not_the_first_token() -> None:
    reads = [CHUNKED, chunk(token("")), chunk(token("a")), chunk(usage(1, 1) + DONE) + LAST]
    assert list(said(reads).token_ns) == [30]


def test_token_ids_say_how_many_tokens_a_chunk_has() -> None:
    first = chunk(token("ab", token_ids=[1, 2]) + token("", token_ids=[]))
    result = said([CHUNKED, first, chunk(token("c", token_ids=[3]) + usage(1, 3) + DONE) + LAST])
    assert list(result.chunk_tok or ()) == [2, 1]


def test_chunks_that_one_read_brought_are_one_arrival() -> None:
    """The time between them cannot be seen, so it is no latency of 0."""
    reads = [CHUNKED, chunk(token("a") + token("b")), chunk(token("c") + usage(1, 3) + DONE) + LAST]
    result = said(reads)
    assert (result.chunks, list(result.token_ns), list(result.chunk_tok or ())) == (3, [20, 30], [2, 1])


def test_several_tokens_a_chunk_spread_evenly_where_nothing_says_better() -> None:
    reads = [CHUNKED, chunk(token("a") + token("b")), chunk(token("c") + usage(1, 12) + DONE) + LAST]
    assert list(said(reads).chunk_tok or ()) == [8, 4]
    assert spread(10, 4) == [2, 3, 2, 3]
    assert spread(None, 2) == spread(1, 2) == [1, 1]


def test_token_ids_that_contradict_the_usage_are_not_believed() -> None:
    body = token("ab", token_ids=[1, 2]) + usage(1, 3) + DONE
    assert said([CHUNKED + chunk(body) + LAST]).chunk_tok is None


def test_no_usage_means_no_counts_not_zero() -> None:
    result = said([CHUNKED + chunk(token() + DONE) + LAST])
    assert (result.outcome, result.prompt_tok, result.output_tok) == ("ok", None, None)


def test_a_stream_that_only_names_its_last_chunk_is_finished() -> None:
    assert said([CHUNKED + chunk(token() + token("", finish_reason="stop")) + LAST]).outcome == "ok"


def test_a_stamp_that_runs_backwards_counts_as_the_one_before_it() -> None:
    stream = Stream()
    stream.feed([CHUNKED, chunk(token()), chunk(token()), chunk(token())], [10, 30, 20, 40])
    stream.feed([chunk(DONE) + LAST], [35])
    result = stream.finish(Ending.COMPLETE, None)
    assert (list(result.token_ns), list(result.chunk_tok or ()), result.end_ns) == ([30, 40], [2, 1], 40)


@pytest.mark.parametrize(
    ("raw", "ending", "outcome", "words"),
    [
        (b"", Ending.TRANSPORT, "transport_error", "gone"),
        (b"", Ending.TIMEOUT, "timeout", "gone"),
        (b"", Ending.CLOSED, "transport_error", "gone"),
        (b"", Ending.CANCELLED, "cancelled", "gone"),
        (CHUNKED, Ending.TIMEOUT, "timeout", "gone"),
        (CHUNKED + chunk(token()), Ending.CLOSED, "transport_error", "in the middle of the response"),
        (CHUNKED + chunk(token() + usage(1, 1)), Ending.TOO_LARGE, "protocol_error", "gone"),
        (b"SMTP ready\r\n\r\n", Ending.FRAMING, "protocol_error", "not an HTTP response"),
        (CHUNKED + b"zz\r\n", Ending.FRAMING, "protocol_error", "chunk's size"),
        (CHUNKED + LAST, Ending.COMPLETE, "protocol_error", "without its last event"),
        (CHUNKED + chunk(token()) + LAST, Ending.COMPLETE, "protocol_error", "without its last event"),
        (CHUNKED + chunk(DONE) + LAST, Ending.COMPLETE, "protocol_error", "the stream had no token"),
        (CHUNKED + chunk(usage(1, 0) + DONE) + LAST, Ending.COMPLETE, "protocol_error", "the stream had no token"),
        (CHUNKED + chunk(token("") + DONE) + LAST, Ending.COMPLETE, "protocol_error", "the stream had no token"),
        (CHUNKED + chunk(b"data: {nonsense\n\n") + LAST, Ending.COMPLETE, "protocol_error", "no JSON"),
        (CHUNKED + chunk(b"data: " + b"[" * 9000 + b"\n\n") + LAST, Ending.COMPLETE, "protocol_error", "no JSON"),
        (CHUNKED + chunk(b"data: [1]\n\n") + LAST, Ending.COMPLETE, "protocol_error", "no object"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", Ending.COMPLETE, "http_error", "HTTP 503: busy"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", Ending.COMPLETE, "http_error", "HTTP 503"),
        (
            b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"choices":[]}',
            Ending.COMPLETE,
            "protocol_error",
            'one JSON answer where a stream of events was asked for: {"choices":[]}',
        ),
        (
            CHUNKED + chunk(token() + event({"error": {"message": "out of memory"}})) + LAST,
            Ending.COMPLETE,
            "http_error",
            "out of memory",
        ),
        (CHUNKED + chunk(b'error: {"code": 500}\n\n') + LAST, Ending.COMPLETE, "http_error", "500"),
        (CHUNKED + chunk(b'error: {"code": 500}\n') + LAST, Ending.COMPLETE, "http_error", "500"),
    ],
)
def test_what_went_wrong_is_an_outcome_with_its_reason(raw: bytes, ending: Ending, outcome: str, words: str) -> None:
    result = said([raw] if raw else [], ending, None if ending is Ending.COMPLETE else "gone")
    assert result.outcome == outcome
    assert words in (result.error or "")


def test_an_answer_without_a_text_is_one_where_the_server_counted_its_token() -> None:
    assert said([CHUNKED + chunk(usage(1, 1) + DONE) + LAST]).outcome == "ok"


def test_a_long_error_is_cut() -> None:
    raw = b"HTTP/1.1 500 Oops\r\nContent-Length: 9000\r\n\r\n" + b"x" * 9000
    assert len(said([raw]).error or "") == 500


def test_a_body_that_ends_with_the_connection_is_whole_then() -> None:
    result = said([CLOSING + token(), usage(1, 1) + DONE], Ending.CLOSED, "closed")
    assert (result.outcome, result.end_ns) == ("ok", 20)


def test_an_interim_response_is_none() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED + chunk(token() + DONE) + LAST
    assert said([raw[:30], raw[30:]]).outcome == "ok"


@pytest.mark.parametrize("ending", [Ending.TIMEOUT, Ending.CANCELLED])
def test_what_came_before_the_end_is_kept(ending: Ending) -> None:
    result = said([CHUNKED, chunk(token()), chunk(token())], ending, "too long")
    assert (list(result.token_ns), result.end_ns) == ([20, 30], None)


def test_what_came_before_an_error_is_kept_and_what_follows_it_is_not() -> None:
    result = said([CHUNKED, chunk(token()), chunk(b"data: nonsense\n\n"), chunk(token()) * 20 + LAST])
    assert (result.outcome, list(result.token_ns), result.first_byte_ns) == ("protocol_error", [20], 20)


def test_a_chunked_response_is_whole_when_its_last_byte_came_even_after_an_error() -> None:
    for body in (chunk(token() + DONE), chunk(token()) * 50, chunk(b"data: nonsense\n\n") * 9, chunk(b"{}" * 5000)):
        stream, raw = Stream(), CHUNKED + body + LAST
        for at in range(0, len(raw) - 1, 300):
            stream.feed([raw[at : min(at + 300, len(raw) - 1)]], [1])
            assert not stream.whole
        stream.feed([raw[-1:]], [2])
        assert stream.whole


def test_bytes_that_are_no_response_are_never_whole() -> None:
    stream = Stream()
    stream.feed([CHUNKED, b"zz\r\n"], [1, 2])
    with pytest.raises(FramingError, match="chunk's size"):
        _ = stream.whole


@pytest.mark.parametrize("start", [b"data: ", b"", b"data: x\n"])
def test_an_event_without_an_end_is_given_up_and_its_bytes_are_not_kept(start: bytes) -> None:
    stream = Stream()
    stream.feed([CLOSING + start], [1])
    for _ in range(40):
        stream.feed([b"y" * 65_536], [2])
    assert len(stream._events._splitter._carry) <= 1_048_578
    result = stream.finish(Ending.CLOSED, "closed")
    assert (result.outcome, result.error) == ("protocol_error", "an event of more than 1048576 bytes")


def test_only_the_start_of_an_answer_that_is_no_stream_is_kept() -> None:
    for start in (b"HTTP/1.1 400 Bad\r\n\r\n", CLOSING + b" {"):
        stream = Stream()
        stream.feed([start, *[b"y" * 65_536] * 40], list(range(41)))
        assert len(stream._excerpt or b"") == 2000
        assert stream.finish(Ending.CLOSED, "closed").outcome in ("http_error", "protocol_error")


@given(raw=st.binary(max_size=300), ending=st.sampled_from(list(Ending)))
def test_any_bytes_come_to_an_outcome(raw: bytes, ending: Ending) -> None:
    for data in (raw, CLOSING + raw, CLOSING + b"data: " + raw + b"\n\n", CHUNKED + chunk(raw or b"x")):
        assert said([data], ending).outcome


KEYS = ["choices", "delta", "usage", "text", "finish_reason", "token_ids", "completion_tokens", "error", "content"]
KEYS += ["tool_calls", "function", "timings", "predicted_n", "role", "object"]
NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
)


@given(values=st.lists(NESTED, max_size=4))
def test_any_json_comes_to_an_outcome(values: list[object]) -> None:
    assert said([CLOSING + b"".join(map(event, values)) + DONE], Ending.CLOSED).outcome
