from __future__ import annotations

import time

import pytest

from fleetbench_collectors.load import response
from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.exchange import Ending
from fleetbench_collectors.load.http import FramingError
from fleetbench_collectors.load.response import Exchange, Pile
from tests.collectors.load.conftest import Start, Turn, ask, asks, client, errors, outcomes, rows, send

TOKEN = b'data: {"choices": [{"text": "x", "index": 0, "finish_reason": null}]}\n\n'
LAST = b'data: {"choices": [{"text": "", "index": 0, "finish_reason": "length"}]}\n\n'
DONE = b"data: [DONE]\n\n"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


def chunks(*data: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in data)


def crlf(data: bytes) -> bytes:
    return data.replace(b"\n", b"\r\n")


WHOLE = {
    "done": CHUNKED + chunks(TOKEN, LAST, DONE) + b"0\r\n\r\n",
    "no done": CHUNKED + chunks(TOKEN, LAST) + b"0\r\n\r\n",
    "lines end with CR LF": CHUNKED + chunks(crlf(TOKEN), crlf(LAST), crlf(DONE)) + b"0\r\n\r\n",
    "one chunk": CHUNKED + chunks(TOKEN + LAST + DONE) + b"0\r\n\r\n",
    "trailers": CHUNKED + chunks(TOKEN, LAST, DONE) + b"0\r\nServer-Timing: total;dur=12\r\nX-Y: 0\r\n\r\n",
    "extension": CHUNKED + chunks(TOKEN, LAST, DONE) + b"0;a=b\r\n\r\n",
    "zeros": CHUNKED + chunks(TOKEN, LAST, DONE) + b"0000\r\n\r\n",
    "length": OK + b"Content-Length: %d\r\n\r\n" % len(TOKEN + LAST + DONE) + TOKEN + LAST + DONE,
}
CLOSE = OK + b"Connection: close\r\n\r\n" + TOKEN + LAST + DONE


def seen_bytes(loop: Client) -> int:
    return sum(place.exchange.size_bytes for place in list(loop._flying.values()) if place.exchange)


def in_reads(turn: Turn, loop: Client, reads: list[bytes]) -> None:
    """Sends each part when the client has read those before it."""
    sent_bytes = 0
    for read in reads[:-1]:
        turn.sock.sendall(read)
        sent_bytes += len(read)
        while loop.in_flight and seen_bytes(loop) < sent_bytes:
            time.sleep(0)
    turn.over()
    turn.sock.sendall(reads[-1])


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("form", WHOLE)
def test_the_end_is_found_wherever_it_is_split_and_the_connection_is_kept(
    engine: Start, form: str, *, kernel: bool
) -> None:
    whole = WHOLE[form]
    last = range(len(whole) - 24, len(whole))
    ways = [[whole[:at], whole[at:]] for at in last]
    ways += [[whole[: last[0]], *(whole[at : at + 1] for at in last)], [whole]]
    loops: list[Client] = []
    server = engine(lambda turn: in_reads(turn, loops[0], ways[turn.number]))
    with client(server.url, kernel=kernel) as loop:
        loops.append(loop)
        send(loop, asks(len(ways)))
    assert errors(loop) == []
    assert outcomes(loop) == ["ok"] * len(ways)
    assert {row["chunks"] for row in rows(loop)} == {1}
    assert server.connections == 1


def test_an_answer_that_ends_with_its_connection_is_whole(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        turn.sock.sendall(CLOSE)
        turn.close()

    server = engine(script)
    with client(server.url) as loop:
        send(loop, asks(3))
    assert outcomes(loop) == ["ok"] * 3
    assert (server.connections, loop.progress.resent) == (3, 0)


def test_an_answer_of_http_1_0_is_whole(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        turn.sock.sendall(CLOSE.replace(b"HTTP/1.1", b"HTTP/1.0"))
        turn.close()

    with client(engine(script).url) as loop:
        send(loop, asks(2))
    assert outcomes(loop) == ["ok"] * 2


@pytest.mark.parametrize("form", ["done", "length"])
def test_bytes_after_the_end_are_no_answer(engine: Start, form: str) -> None:
    def script(turn: Turn) -> None:
        turn.over()
        turn.sock.sendall(WHOLE[form] + b"0\r\n\r\n")

    with client(engine(script).url) as loop:
        send(loop, asks(1))
    assert outcomes(loop) == ["protocol_error"]
    assert "bytes after the end" in errors(loop)[0]


@pytest.mark.parametrize(
    "head",
    [b"Transfer-Encoding: chunked", b"Content-Length: 1000000000000", b"X: ends with the connection"],
    ids=["chunked", "length", "close"],
)
@pytest.mark.parametrize("line", [b"x" * 0x4000, TOKEN * 300], ids=["one-line", "events"])
def test_a_response_without_an_end_is_cut_off(engine: Start, head: bytes, line: bytes) -> None:
    def script(turn: Turn) -> None:
        turn.sock.sendall(OK + head + b"\r\n\r\n")
        while True:
            turn.sock.sendall(chunks(line) if b"chunked" in head else line)

    with client(engine(script).url, response_max_bytes=20_000_000) as loop:
        send(loop, asks(1))
    (exchange,) = loop.pile._over
    assert 20_000_000 < exchange.size_bytes < 20_000_000 + 131_072
    # What was understood is let go of while more comes.
    assert sum(map(len, exchange.reads)) <= 262_144
    assert outcomes(loop) == ["protocol_error"]


@pytest.mark.parametrize("form", ["chunked", "length", "close"])
def test_a_long_response_is_understood_while_it_comes(
    engine: Start, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(response, "KEPT_BYTES", 1 << 30)
    event = TOKEN.replace(b'"x"', b'"%s"' % (b"x" * 5_000))
    size = 10_000 * len(event) + len(LAST + DONE)
    framing = {"chunked": b"Transfer-Encoding: chunked", "length": b"Content-Length: %d" % size, "close": b"X: y"}

    def script(turn: Turn) -> None:
        many = (chunks(event) if form == "chunked" else event) * 50
        turn.sock.sendall(OK + framing[form] + b"\r\n\r\n")
        for _ in range(200):
            turn.sock.sendall(many)
        turn.over()
        turn.sock.sendall(chunks(LAST, DONE) + b"0\r\n\r\n" if form == "chunked" else LAST + DONE)
        if form == "close":
            turn.close()

    with client(engine(script).url, response_max_bytes=60_000_000) as loop:
        send(loop, asks(1))
    (exchange,) = loop.pile._over
    assert exchange.size_bytes > 50_000_000
    assert sum(map(len, exchange.reads)) <= 262_144
    assert errors(loop) == []
    assert rows(loop)[0]["chunks"] == 10_000
    assert sum(loop.pile.records.chunk_tok) == 10_000


def test_whole_responses_are_understood_before_they_fill_the_memory(
    engine: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(response, "KEPT_BYTES", 4_000)
    server = engine(lambda turn: turn.answer())
    with client(server.url, places=8) as loop:
        send(loop, asks(80))
        assert sum(exchange.size_bytes for exchange in loop.pile._over) <= 4_000
        assert len(loop.pile.records) > 70
    assert outcomes(loop) == ["ok"] * 80


def read_to(exchange: Exchange, data: bytes) -> bool:
    exchange.reads.append(data)
    exchange.size_bytes += len(data)
    exchange.stamp(time.monotonic_ns())
    return exchange.whole()


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(ask(0), phase="measure", intended_ns=None, begun_ns=1, offset_ns=0)


def test_a_long_exchange_waits_for_its_folding_once(exchange: Exchange) -> None:
    pile = Pile()
    assert not read_to(exchange, CHUNKED + chunks(TOKEN))
    for _ in range(3):
        pile.fold_soon(exchange)
    assert len(pile._long) == 1
    pile.relieve()
    assert not pile._long
    assert not exchange.reads
    pile.fold_soon(exchange)
    assert len(pile._long) == 1


def test_long_exchanges_wait_a_few_batches_at_the_most() -> None:
    pile, waited = Pile(), 0
    for number in range(100):
        pile.fold_soon(Exchange(ask(number), phase="measure", intended_ns=None, begun_ns=1, offset_ns=0))
    while pile._long:
        pile.relieve()
        waited += 1
    assert waited < 40


def test_an_exchange_that_was_never_sent_is_a_row_all_the_same(exchange: Exchange) -> None:
    pile = Pile()
    exchange.ending, exchange.error = Ending.TRANSPORT, "no connection"
    pile.add(exchange)
    assert pile.understand()
    assert not pile.understand()
    row = pile.records.row(0)
    assert (row["start_ns"], row["intended_ns"], row["end_ns"]) == (1, 1, -1)


def test_a_head_without_an_end_is_none(exchange: Exchange) -> None:
    assert not read_to(exchange, b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(FramingError, match="no end of the response's head"):
        read_to(exchange, b"X: y\r\n" * 20_000)
