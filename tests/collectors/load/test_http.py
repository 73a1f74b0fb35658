from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetbench_collectors.load.http import Chunks, FramingError, ResponseEnd, head

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TRICKY = st.sampled_from([b"0\r\n\r\n", b"\r\n\r\n", b"\r\n", b"a", b"data: 0\r\n\r\n"])
BODIES = st.lists(st.one_of(TRICKY, st.binary(min_size=1, max_size=40)), max_size=8)
CUTS = st.lists(st.integers(0, 10_000), max_size=30)


def chunked(bodies: list[bytes], trailer: bytes = b"") -> bytes:
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(body), body) for body in bodies) + b"0\r\n" + trailer + b"\r\n"


def split(raw: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[left:right] for left, right in pairwise(marks)]


@given(bodies=BODIES, cuts=CUTS, trailer=st.sampled_from([b"", b"Checksum: 1\r\n"]))
@example(bodies=[b"data: 0\r\n\r\n"], cuts=list(range(200)), trailer=b"")
def test_a_chunked_response_is_whole_at_its_last_byte_however_it_is_split(
    bodies: list[bytes], cuts: list[int], trailer: bytes
) -> None:
    end = ResponseEnd()
    told = [end.feed(part) for part in split(CHUNKED + chunked(bodies, trailer), cuts)]
    assert told == [False] * (len(told) - 1) + [True]


@given(body=st.binary(max_size=60), cuts=CUTS)
def test_a_response_of_known_length_is_whole_at_its_last_byte(body: bytes, cuts: list[int]) -> None:
    raw = b"HTTP/1.1 500 Oops\r\ncontent-length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body)
    end = ResponseEnd()
    told = [end.feed(part) for part in split(raw, cuts)]
    assert told == [False] * (len(told) - 1) + [True]
    assert end.head is not None
    assert (end.head.status, end.head.keep_alive) == (500, False)


@given(bodies=BODIES, cuts=CUTS)
def test_the_pieces_of_a_chunked_body_are_its_data(bodies: list[bytes], cuts: list[int]) -> None:
    raw = chunked(bodies)
    chunks = Chunks(0)
    for part in split(raw, cuts):
        chunks.feed(part)
    assert b"".join(raw[piece.raw : piece.raw + piece.size] for piece in chunks.pieces) == b"".join(bodies)
    assert chunks.body == len(b"".join(bodies))


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        CHUNKED + b"zz\r\n\r\n\r\n",
        CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
        CHUNKED + b"0\r\n\r\n0\r\n\r\n",
        CHUNKED + b"1" * 2000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000,
    ],
)
def test_what_is_no_response_is_refused(raw: bytes) -> None:
    with pytest.raises(FramingError):
        ResponseEnd().feed(raw)


@given(st.binary(max_size=200))
def test_any_bytes_are_framed_or_refused(raw: bytes) -> None:
    for data in (raw, CHUNKED + raw):
        with contextlib.suppress(FramingError):
            ResponseEnd().feed(data)


def test_a_head_without_an_end_is_not_yet_one() -> None:
    assert head(b"HT") is None
    assert head(b"HTTP/1.1 200 OK\r\nServer: x\r\n") is None
