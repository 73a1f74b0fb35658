from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.sse import EVENT_MAX_BYTES, Counted, Splitter, Template

EVENT = b'data: {"id":"a","choices":[{"text":" x","index":0}],"created":17}\n\n'


def texts(*values: bytes, id_: bytes = b"a") -> list[bytes]:
    return [EVENT.replace(b" x", value).replace(b'"a"', b'"%s"' % id_) for value in values]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def template() -> Template:
    found = Template.learn(EVENT, "text")
    assert found is not None
    return found


def counts(found: Counted | None) -> tuple[list[int], list[int] | None, int] | None:
    return None if found is None else (found.texts, found.blanks, found.size_bytes)


def events(*reads: bytes) -> list[bytes]:
    splitter = Splitter()
    return [data for read in reads for data in splitter.feed(read)] + list(splitter.rest())


LINES = st.lists(
    st.sampled_from(
        ["data: {1}", "data:{2}", "data: 3", "data", "data:", "", "", ": comment", "id: 7", "error: {}", "{4}"]
    ),
    max_size=12,
)


@given(lines=LINES, end=st.sampled_from(["\n", "\r\n", "\r"]), data=st.data())
def test_events_are_the_same_however_they_are_split_and_their_lines_end(
    lines: list[str], end: str, data: st.DataObject
) -> None:
    raw = "".join(line + end for line in lines).encode()
    cuts = data.draw(st.lists(st.integers(0, len(raw)), max_size=10))
    splitter = Splitter()
    found: list[bytes] = []
    for left, right in pairwise(sorted({0, len(raw), *cuts})):
        if splitter.held and raw[left : left + 1] != b"\n":
            found += splitter.settle()
        found += splitter.feed(raw[left:right])
    assert found + list(splitter.rest()) == events("".join(line + "\n" for line in lines).encode())


def test_an_event_is_its_data_lines_up_to_an_empty_one() -> None:
    assert events(b'data: {"a":\ndata:1}\nid: 4\n\n', b": ping\n\ndata: 2\n\n") == [b'{"a":\n1}', b"2"]


def test_an_event_without_data_is_none() -> None:
    assert events(b"data:\n\ndata: \n\nevent: ping\n\n\n\n") == []


def test_done_and_an_error_line_need_no_empty_line_but_other_data_do() -> None:
    assert events(b"data: [DONE]\n") == [b"[DONE]"]
    assert events(b'error: {"code": 5}\n') == [b'{"error": {"code": 5}}']
    assert events(b'error: {"co') == []
    assert events(b"data: 1\n") == []


def test_an_event_that_ends_in_cr_is_there_before_the_next_bytes() -> None:
    splitter = Splitter()
    assert list(splitter.feed(b"data: 1\r\r")) == []
    assert splitter.held
    assert list(splitter.settle()) == [b"1"]


@pytest.mark.parametrize("size", [EVENT_MAX_BYTES - 6, EVENT_MAX_BYTES - 5])
@pytest.mark.parametrize("step", [100_000, 2_000_000])
def test_an_event_may_have_as_many_bytes_as_are_kept_and_no_more(size: int, step: int) -> None:
    raw = b"data: 1\n\ndata: " + b"x" * size + b"\n\n"
    splitter = Splitter()
    found: list[bytes] = []

    def feed() -> None:
        for at in range(0, len(raw), step):
            found.extend(splitter.feed(raw[at : at + step]))

    if size + len("data: ") <= EVENT_MAX_BYTES:
        feed()
        assert found == [b"1", b"x" * size]
    else:
        with pytest.raises(ValueError, match="an event of more than 1048576 bytes"):
            feed()
        assert found == [b"1"]


@pytest.mark.parametrize("text", [b"y", b"\\n\\n", b'\\"', b"\\\\", b'\\":1,\\"created\\":', b"data: {", b"\xc3\xa9"])
def test_events_that_differ_in_the_text_are_counted(text: bytes) -> None:
    reads = texts(b"a", text, text)
    assert counts(template().count(reads, framed=False)) == ([1, 1, 1], None, sum(map(len, reads)))
    reads = list(map(chunk, reads))
    assert counts(template().count(reads, framed=True)) == ([1, 1, 1], None, sum(map(len, reads)))


def test_events_belong_to_the_piece_that_brings_their_last_byte() -> None:
    raw = b"".join(texts(b"a", b"b", b"c"))
    size = len(EVENT) - 1
    pieces = [raw[: size - 1], raw[size - 1 : size], raw[size : 3 * size - 1], raw[3 * size - 1 :]]
    assert counts(template().count(pieces, framed=False)) == ([0, 1, 1, 1], None, len(raw))


def test_events_without_a_text_are_counted_apart() -> None:
    assert counts(template().count(texts(b"a", b"", b"c"), framed=False)) == ([1, 0, 1], [0, 1, 0], 3 * len(EVENT) - 4)


def test_an_event_without_its_end_is_left_over() -> None:
    pieces = [*texts(b"a", b"b"), EVENT[:-1]]
    assert counts(template().count(pieces, framed=False)) == ([1, 1], None, 2 * len(EVENT) - 2)
    framed = [chunk(EVENT), chunk(EVENT)[:-2]]
    assert counts(template().count(framed, framed=True)) == ([1], None, len(chunk(EVENT)))


@pytest.mark.parametrize("ids", [[b"a", b"bb", b"c"], [b"b", b"b", b"b"]])
def test_an_id_may_change(ids: list[bytes]) -> None:
    pieces = [texts(b"y", id_=one)[0] for one in ids]
    assert counts(template().count(pieces, framed=False)) == ([1, 1, 1], None, sum(map(len, pieces)))


@pytest.mark.parametrize(
    "other",
    [
        b": ping\n\n",
        b"\n",
        b"data: [DONE]\n\n",
        EVENT.replace(b'"index":0', b'"index":1'),
        EVENT.replace(b'"a"', b'"b","usage":{}'),
        EVENT.replace(b'"a"', b'"b","error":"x"'),
        EVENT.replace(b" x", b'","role":"assistant'),
        EVENT.replace(b"17", b"17,\n"),
    ],
)
def test_any_other_event_among_them_is_refused(other: bytes) -> None:
    pieces = [EVENT, other, EVENT]
    assert template().count(pieces, framed=False) is None
    assert template().count(list(map(chunk, pieces)), framed=True) is None


def test_chunks_that_do_not_hold_one_event_each_are_refused() -> None:
    assert template().count([chunk(EVENT + EVENT)], framed=True) is None
    assert template().count([chunk(EVENT[:30]) + chunk(EVENT[30:])], framed=True) is None
    assert template().count([chunk(EVENT[:30]) + chunk(EVENT[30:] + EVENT), chunk(EVENT)], framed=True) is None


@pytest.mark.parametrize(
    "unclear",
    [
        EVENT.replace(b" x", b""),
        EVENT.replace(b'"index":0', b'"more":{"text":"y"}'),
        EVENT.replace(b"\n", b"\r\n"),
        b"id: 1\n" + EVENT,
        b": " + EVENT,
        EVENT[:-1],
        EVENT + EVENT,
    ],
)
def test_nothing_is_learnt_from_an_event_that_is_not_clear(unclear: bytes) -> None:
    assert Template.learn(unclear, "text") is None
