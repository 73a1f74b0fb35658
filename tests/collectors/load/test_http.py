from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetbench_collectors.load.http import Dechunker, FramingError, Pieces, head

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TRICKY = st.sampled_from([b"0\r\n\r\n", b"\r\n\r\n", b"\r\n", b"a", b"data: 0\r\n\r\n"])
BODIES = st.lists(st.one_of(TRICKY, st.binary(min_size=1, max_size=40)), max_size=8)
CUTS = st.lists(st.integers(0, 10_000), max_size=30)
TRAILERS = st.sampled_from([b"", b"Checksum: 1\r\n"])


def chunked(bodies: list[bytes], trailer: bytes = b"") -> bytes:
    return b"".join(b"%x;x=y\r\n%s\r\n" % (len(body), body) for body in bodies) + b"0\r\n" + trailer + b"\r\n"


def feed(dechunker: Dechunker, parts: list[bytes]) -> None:
    for part in parts:
        dechunker.feed(part)


def split(raw: bytes, cuts: list[int]) -> list[bytes]:
    marks = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    return [raw[left:right] for left, right in pairwise(marks)]


@given(bodies=BODIES, cuts=CUTS, trailer=TRAILERS)
@example(bodies=[b"data: 0\r\n\r\n"], cuts=list(range(200)), trailer=b"")
def test_a_body_is_what_the_chunks_hold_and_whole_at_its_last_byte(
    bodies: list[bytes], cuts: list[int], trailer: bytes
) -> None:
    dechunker, body, told = Dechunker(), b"", []
    for part in split(chunked(bodies, trailer), cuts):
        body += dechunker.feed(part)
        told.append(dechunker.whole)
    assert body == b"".join(bodies)
    assert told == [False] * (len(told) - 1) + [True]


@given(bodies=BODIES)
def test_the_next_byte_begins_a_chunk_where_one_has_ended(bodies: list[bytes]) -> None:
    dechunker, told = Dechunker(), []
    for body in bodies:
        raw = chunked([body])[: -len(b"0\r\n\r\n")]
        for part in (raw[:-1], raw[-1:]):
            dechunker.feed(part)
            told.append(dechunker.idle)
    assert told == [False, True] * len(bodies)


def test_a_head_says_how_its_body_ends() -> None:
    found = head(b"HTTP/1.1 500 Oops\r\ncontent-length: 3\r\nConnection: close\r\n\r\nabc")
    assert found is not None
    assert (found.status, found.length, found.chunked, found.keep_alive) == (500, 3, False, False)
    found = head(CHUNKED)
    assert found is not None
    assert (found.status, found.length, found.chunked, found.keep_alive) == (200, None, True, True)
    found = head(b"HTTP/1.0 204 No Content\r\n\r\n")
    assert found is not None
    assert (found.length, found.keep_alive) == (0, False)


def test_interim_heads_are_skipped() -> None:
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    assert head(interim) is None
    assert head(interim + b"HTTP/1.1 20") is None
    found = head(interim + CHUNKED)
    assert found is not None
    assert (found.status, found.size_bytes) == (200, len(interim + CHUNKED))


def test_a_head_without_an_end_is_not_yet_one() -> None:
    assert head(b"HT") is None
    assert head(b"HTTP/1.1 200 OK\r\nServer: x\r\n") is None


def with_head(*lines: bytes) -> bytes:
    return b"\r\n".join([b"HTTP/1.1 200 OK", *lines, b"", b""])


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "not an HTTP response"),
        (b"HTTP/1.1 abc\r\n\r\n", "not an HTTP response"),
        (b"HTTP/2 200\r\n\r\n", "not an HTTP response"),
        (b"HTTP/1.1 100 Continue\r\n\r\nSSH-2.0", "not an HTTP response"),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "left HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000, "no end of the response's head"),
        (with_head(b"Content-Length: -1"), "Content-Length of b'-1'"),
        (with_head(b"Content-Length: 1" + b"0" * 5000), "Content-Length of b'1000"),
        (with_head(b"Content-Length: 2000000000000"), "Content-Length of b'2000"),
        (with_head(b"Content-Length: 1", b"Content-Length: 2"), "several Content-Lengths"),
        (with_head(b"Content-Length: 1", b"Transfer-Encoding: chunked"), "chunks at once"),
        (with_head(b"Transfer-Encoding: gzip, chunked"), "Transfer-Encoding of b'gzip, chunked'"),
        (with_head(b"Transfer-Encoding: identity"), "Transfer-Encoding of b'identity'"),
    ],
)
def test_what_is_no_head_is_refused(raw: bytes, words: str) -> None:
    with pytest.raises(FramingError, match=words):
        head(raw)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"zz\r\n", "chunk's size of b'zz'"),
        (b"\r\n", "chunk's size of b''"),
        (b"-5\r\n", "chunk's size of b'-5'"),
        (b"0x5\r\n", "chunk's size of b'0x5'"),
        (b"400000000000000000\r\n", "more than 1099511627776 bytes"),
        (b"10000000001\r\n", "more than 1099511627776 bytes"),
        (b"1\r\nab\r\n0\r\n\r\n", "longer than it said"),
        (b"0\r\n\r\nHTTP/1.1 200 OK\r\n", "bytes after the end"),
        (b"1" * 2000 + b"\r\n", "line of more than 1024 bytes"),
        (CHUNKED, "chunk's size of b'HTTP/1.1 200 OK'"),
    ],
)
def test_chunks_that_make_no_sense_are_refused_however_they_are_split(raw: bytes, words: str) -> None:
    for size in (1, 7, len(raw)):
        with pytest.raises(FramingError, match=words):
            feed(Dechunker(), [raw[at : at + size] for at in range(0, len(raw), size)])


def test_pieces_are_walked_by_bytes() -> None:
    pieces = Pieces([b"ab", b"", b"cdef", b"g"], [1, 2, 3, 4])
    assert pieces.block(6) == ([b"ab", b"", b"cdef"], [1, 2, 3])
    pieces.skip(3)
    assert pieces.block(2) == ([b"de"], [3])
    assert (*pieces.step(2, b"e"), pieces.left_bytes) == ([b"de"], [3], 2)
    assert (*pieces.step(9, b"!"), pieces.left_bytes) == ([b"f", b"g"], [3, 4], 0)


def test_a_step_goes_on_to_the_next_end_where_the_first_bytes_have_none() -> None:
    pieces = Pieces([b"abcd|ef|g"], [1])
    assert pieces.step(2, b"|") == ([b"abcd|"], [1])
    assert pieces.step(9, b"|") == ([b"ef|"], [1])


@given(st.binary(max_size=200))
def test_any_bytes_are_framed_or_refused(raw: bytes) -> None:
    with contextlib.suppress(FramingError):
        found = head(raw)
        assert found is None or raw.startswith(b"HTTP/1.")
    with contextlib.suppress(FramingError):
        assert len(Dechunker().feed(raw)) <= len(raw)
