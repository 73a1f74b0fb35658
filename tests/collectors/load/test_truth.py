"""The client's rows against what a server of known timings says that it sent."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pytest

from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.latency import summarise
from fleetbench_collectors.load.record import UNKNOWN, Records
from fleetbench_collectors.load.wire import Endpoint
from tests.collectors.load.conftest import ask, client, errors, outcomes, send
from tests.truth.run import Truth, TruthRequest, serve

linux = pytest.mark.skipif(sys.platform != "linux", reason="no kernel receive stamps")

CHAT = {"endpoint": "chat"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A request's numbers, its arrivals in ns, and the tokens of each where they are known."""

    numbers: dict[str, int]
    arrivals: list[int]
    chunk_tok: list[int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """rows and log: by the requests' numbers."""

    loop: Client
    rows: list[Row]
    log: list[TruthRequest]
    truth: Truth


def trial(
    command: Sequence[str],
    *,
    requests: int = 6,
    places: int = 3,
    output_tok: int = 8,
    endpoint: Endpoint = "completions",
    kernel: bool = True,
    timeout_s: float = 30.0,
    **knobs: Any,
) -> Trial:
    """Sends requests whose prompts tell them apart by their lengths to a server of its own."""
    asked = (ask(number, prompt=range(number), output_tok=output_tok, endpoint=endpoint) for number in range(requests))
    with (
        serve(command, **knobs) as server,
        client(server.url, places=places, kernel=kernel, timeout_s=timeout_s) as loop,
    ):
        loop.warm(places)
        send(loop, asked)
        loop.pile.understand_all()
        truth = server.stop()
    rows = sorted(_rows(loop.pile.records), key=lambda row: row.numbers["number"])
    log = sorted(truth.log, key=lambda request: request.prompt_tok)
    return Trial(loop=loop, rows=rows, log=log, truth=truth)


def _rows(records: Records) -> list[Row]:
    found: list[Row] = []
    gap = tok = 0
    for index in range(len(records)):
        row = records.row(index)
        gaps = records.gaps_us[gap : gap + max(row["gaps_n"], 0)]
        counted = records.chunk_tok[tok : tok + max(row["chunk_tok_n"], 0)]
        arrivals = accumulate((us * 1_000 for us in gaps), initial=row["first_token_ns"])
        found.append(
            Row(numbers=row, arrivals=list(arrivals), chunk_tok=list(counted) if row["chunk_tok_n"] >= 0 else None)
        )
        gap, tok = gap + len(gaps), tok + len(counted)
    return found


def last_event(row: Row, through: int, sent: TruthRequest) -> int:
    """Position of the last event that had come when `through` tokens had, or chunks where tokens are unknown."""
    if row.chunk_tok is None or row.numbers["output_tok"] == UNKNOWN:
        return through - 1
    return sum(events <= through for events in accumulate(sent.tok)) - 1


def check_times(row: Row, sent: TruthRequest) -> None:
    """Nothing came before it was sent, nothing was sent before it was asked for, and all came in order."""
    said = row.numbers
    assert sent.head_ns is not None
    assert said["start_ns"] <= sent.received_ns <= sent.head_ns <= said["first_byte_ns"]
    assert sent.send_ns[0] <= said["first_token_ns"]
    assert sent.send_ns[-1] <= said["last_token_ns"]
    assert said["first_byte_ns"] <= said["first_token_ns"] <= said["last_token_ns"] <= said["end_ns"]
    through = accumulate(row.chunk_tok or [1] * len(row.arrivals))
    for at, (arrival_ns, reached) in enumerate(zip(row.arrivals, through, strict=True)):
        # Each gap was rounded to a whole microsecond.
        assert arrival_ns + 500 * at >= sent.send_ns[last_event(row, reached, sent)]


@pytest.mark.parametrize("kernel", [pytest.param(True, id="kernel"), pytest.param(False, id="user")])
@pytest.mark.parametrize("tokens_per_chunk", [1, 4])
def test_64_streams_are_what_the_server_says_that_it_sent(
    truth: list[str], tokens_per_chunk: int, *, kernel: bool
) -> None:
    found = trial(
        truth,
        requests=128,
        places=64,
        output_tok=16,
        kernel=kernel,
        ttft_us=20_000,
        itl_us=2_000,
        jitter_us=500,
        tokens_per_chunk=tokens_per_chunk,
    )
    assert outcomes(found.loop) == ["ok"] * 128
    assert (found.truth.requests, found.truth.connections) == (128, 64)
    assert (found.truth.tokens, found.truth.events) == (128 * 16, 128 * 16 // tokens_per_chunk)
    assert sum(row.numbers["chunks"] for row in found.rows) == found.truth.events
    assert {sum(row.chunk_tok) for row in found.rows if row.chunk_tok is not None} <= {16}
    for row, sent in zip(found.rows, found.log, strict=True):
        assert (row.numbers["prompt_tok"], row.numbers["output_tok"]) == (sent.prompt_tok, sent.output_tok)
        check_times(row, sent)
    if sys.platform == "linux":
        assert (found.loop.reading.user_stamps == 0) is kernel
    assert found.loop.progress.resent == 0


def test_latencies_have_a_sample_for_each_token_and_none_is_below_the_truth(truth: list[str]) -> None:
    found = trial(
        truth, requests=32, places=8, output_tok=16, ttft_us=5_000, itl_us=1_000, jitter_us=800, tokens_per_chunk=4
    )
    summary = summarise(found.loop.pile.records, asked_requests=32)
    # Tokens after the first arrival, which on a busy machine may be two chunks.
    assert summary["itl_n"] == sum(16 - (row.chunk_tok or [4])[0] for row in found.rows)
    ttft_ms = sorted((sent.send_ns[0] - sent.received_ns) / 1e6 for sent in found.log)
    assert summary["ttft_p50_ms"] >= (ttft_ms[15] + ttft_ms[16]) / 2
    for row, sent in zip(found.rows, found.log, strict=True):
        assert row.numbers["last_token_ns"] - row.numbers["start_ns"] >= sent.send_ns[-1] - sent.received_ns


def late_ns(found: Trial) -> list[int]:
    """How long after the server sent it each arrival was stamped, over all requests."""
    return sorted(
        arrival_ns - sent.send_ns[last_event(row, reached, sent)]
        for row, sent in zip(found.rows, found.log, strict=True)
        for arrival_ns, reached in zip(row.arrivals, accumulate(row.chunk_tok or [1] * len(row.arrivals)), strict=True)
    )


def own_ratio(found: Trial) -> float:
    """Of all arrivals, those stamped before the server sent the next event of their stream."""
    own = []
    for row, sent in zip(found.rows, found.log, strict=True):
        through = accumulate(row.chunk_tok or [1] * len(row.arrivals))
        for arrival_ns, reached in zip(row.arrivals, through, strict=True):
            following = last_event(row, reached, sent) + 1
            own.append(following == len(sent.send_ns) or arrival_ns < sent.send_ns[following])
    return sum(own) / len(own)


@linux
def test_arrivals_are_stamped_when_they_came_and_not_when_they_were_read(truth: list[str]) -> None:
    found = trial(truth, requests=128, places=64, output_tok=16, ttft_us=20_000, itl_us=10_000)
    assert outcomes(found.loop) == ["ok"] * 128
    assert statistics.median(late_ns(found)) < 2_000_000
    assert own_ratio(found) >= 0.9


def first_token_error_ms(found: Trial) -> float:
    """By how much the median reported is above 1.2 times the true one.

    The truth counts from the client's start: how soon the server reads is not the client's doing.
    """
    true_ms = statistics.median(
        (sent.send_ns[0] - row.numbers["start_ns"]) / 1e6 for row, sent in zip(found.rows, found.log, strict=True)
    )
    reported_ms: float = summarise(found.loop.pile.records, asked_requests=len(found.rows))["ttft_p50_ms"]
    assert reported_ms >= true_ms
    return reported_ms - 1.2 * true_ms


@linux
def test_500_streams_that_start_at_once_have_their_own_times_to_first_token(truth: list[str]) -> None:
    # A busy machine may hold the client up once, but not again and again.
    assert any(
        first_token_error_ms(trial(truth, requests=500, places=500, output_tok=4, ttft_us=2_000, itl_us=10_000)) <= 1
        for _ in range(3)
    )


def read_early(found: Trial) -> int:
    """Answers that were read before the last request was sent."""
    last_start_ns = max(row.numbers["start_ns"] for row in found.rows)
    return sum(row.numbers["first_byte_ns"] < last_start_ns for row in found.rows)


def test_answers_are_read_while_a_burst_of_requests_is_still_being_sent(truth: list[str]) -> None:
    """Else the first chunks wait for the last start, and are read together with the next ones."""
    # A busy machine may not let the server answer meanwhile.
    assert any(read_early(trial(truth, requests=500, places=500, output_tok=2, kernel=False)) for _ in range(5))


FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "a role first": CHAT | {"role_chunk": 1},
    "empty chunks first": {"empty_chunks": 2},
    "a role and empty chunks first": CHAT | {"role_chunk": 1, "empty_chunks": 2, "head_early": 0},
    "reasoning": CHAT | {"reasoning": 4},
    "reasoning only": CHAT | {"reasoning": 8, "role_chunk": 1},
    "tool calls": CHAT | {"tool_calls": 1, "role_chunk": 1},
    "tokens in pairs": {"tokens_per_chunk": 2},
    "all tokens in one chunk": {"tokens_per_chunk": 8},
    "byte by byte": {"split": 1},
    "7 bytes at a time": CHAT | {"split": 7, "role_chunk": 1, "tokens_per_chunk": 2},
    "several events in a write": {"events_per_write": 4},
    "all events in a write": CHAT | {"events_per_write": 100, "itl_us": 0},
    "usage in every event": {"usage": "continuous", "tokens_per_chunk": 2},
    "usage nowhere": {"usage": "none"},
    "pairs of tokens that nobody counts": {"usage": "none", "tokens_per_chunk": 2},
    "no [DONE]": {"done": 0},
    "no [DONE], 5 bytes at a time": {"done": 0, "split": 5},
    "content-length": {"framing": "length"},
    "ends with the connection": {"framing": "close"},
    "ends with the connection, no [DONE]": {"framing": "close", "done": 0, "split": 3},
    "one request a connection": {"keep_alive": 0},
    "the head with the first token": {"head_early": 0},
    "a slow head": {"slow_start_us": 3_000},
    "a cache": {"cached": 1},
    "as fast as it goes": {"itl_us": 0, "ttft_us": 0},
}


@pytest.mark.parametrize("form", FORMS)
def test_whatever_its_form_a_stream_is_what_was_sent(truth: list[str], form: str) -> None:
    asked = {"ttft_us": 2_000, "itl_us": 300} | FORMS[form]
    found = trial(truth, **asked)
    assert errors(found.loop) == []
    kept = asked.get("keep_alive", 1) and asked.get("framing") != "close"
    assert found.truth.connections == (3 if kept else 6)
    assert (found.truth.requests, found.loop.progress.resent) == (6, 0)
    counted = asked.get("usage") != "none"
    for row, sent in zip(found.rows, found.log, strict=True):
        said = row.numbers
        assert said["chunks"] == len(sent.tok)
        assert said["output_tok"] == (sum(sent.tok) if counted else UNKNOWN)
        assert said["prompt_tok"] == (sent.prompt_tok if counted else UNKNOWN)
        assert said["cached_tok"] == asked.get("cached", UNKNOWN)
        if row.chunk_tok is not None:
            assert sum(row.chunk_tok) == (sum(sent.tok) if counted else len(sent.tok))
        check_times(row, sent)


FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "reset": ("transport_error", {"fault": "reset"}),
    "close": ("transport_error", {"fault": "close"}),
    "close instead of the last event": ("protocol_error", {"fault": "close", "framing": "close"}),
    "stall": ("timeout", {"fault": "stall", "timeout_s": 0.2}),
    "pause": ("ok", {"fault": "pause", "stall_us": 5_000}),
    "garbage": ("protocol_error", {"fault": "garbage"}),
    "garbage, 7 bytes at a time": ("protocol_error", {"fault": "garbage", "split": 7}),
    "error": ("http_error", {"fault": "error"}),
    "error without [DONE]": ("http_error", {"fault": "error", "done": 0}),
    "endless line": ("protocol_error", {"fault": "endless-line"}),
    "status 500": ("http_error", {"fault": "status"}),
    "status 429": ("http_error", {"fault": "status", "status": 429, "keep_alive": 0}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails_its_request_and_no_other(truth: list[str], fault: str) -> None:
    outcome, knobs = FAULTS[fault]
    found = trial(truth, places=1, fault_every=3, fault_after=4, itl_us=100, **knobs)
    assert outcomes(found.loop) == ["ok", "ok", outcome] * 2
    assert (found.truth.requests, found.loop.progress.resent) == (6, 0)
    for row, sent in zip(found.rows, found.log, strict=True):
        seen = max(row.numbers["chunks"], 0)
        assert seen == len(sent.tok) or (outcome != "ok" and seen <= 4)
    assert len(errors(found.loop)) == (0 if outcome == "ok" else 2)


@pytest.mark.parametrize("fault", ["close", "reset"])
@pytest.mark.parametrize("places", [1, 4])
def test_a_request_that_the_server_has_read_is_never_sent_again(truth: list[str], fault: str, places: int) -> None:
    found = trial(truth, requests=24, places=places, fault=fault, fault_after=0, fault_every=3, head_early=0)
    assert found.truth.requests == 24
    assert len({sent.prompt_tok for sent in found.log}) == 24
    assert outcomes(found.loop).count("transport_error") == 8
    assert outcomes(found.loop).count("ok") == 16
    assert found.loop.progress.resent == 0


def test_a_stopped_trial_accounts_for_every_request(truth: list[str]) -> None:
    with serve(truth, itl_us=1_000_000) as server, client(server.url, places=4) as loop:
        send(
            loop,
            (ask(number, prompt=range(number)) for number in range(100)),
            watch=lambda loop: loop.progress.reads < 8,
        )
        received = server.stop().requests
    assert outcomes(loop) == ["cancelled"] * 4
    assert received == loop.progress.started == 4
