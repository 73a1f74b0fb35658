from __future__ import annotations

import io
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench_collectors.load.parse import Reply
from fleetbench_collectors.load.record import NUMBERS, OUTCOMES, PHASES, UNKNOWN, Records, gaps_us
from tests.collectors.load.conftest import ask

NS = st.integers(min_value=0, max_value=2**62)
TOK = st.none() | st.integers(min_value=0, max_value=2**31 - 1)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    stamps = sorted(draw(st.lists(NS, max_size=6)))
    counted = draw(st.booleans())
    tokens = draw(st.lists(st.integers(1, 99), min_size=len(stamps), max_size=len(stamps)))
    return Reply(
        outcome=draw(st.sampled_from(OUTCOMES)),
        error=draw(st.none() | st.text(max_size=20)),
        first_byte_ns=draw(st.none() | NS),
        end_ns=draw(st.none() | NS),
        chunks=len(stamps) or None,
        token_ns=array("q", stamps),
        chunk_tok=array("I", tokens) if counted else None,
        prompt_tok=draw(TOK),
        output_tok=draw(TOK),
        cached_tok=draw(TOK),
    )


def records(found: list[Reply]) -> Records:
    made = Records()
    for number, reply in enumerate(found):
        made.add(ask(number), PHASES[number % 2], intended_ns=number, start_ns=number + 1, reply=reply)
    return made


def contents(found: Records) -> tuple[object, ...]:
    return found.numbers, found.gaps_us, found.chunk_tok, found.errors


@given(st.lists(replies(), max_size=4))
@settings(max_examples=60)
def test_what_was_written_is_read_back_and_nothing_after_it(found: list[Reply]) -> None:
    made, sink = records(found), io.BytesIO()
    made.write(sink)
    sink.write(b"what follows")
    sink.seek(0)
    assert contents(Records.read(sink)) == contents(made)
    assert sink.read() == b"what follows"


@given(st.lists(st.lists(replies(), max_size=4), max_size=4))
@settings(max_examples=60)
def test_rows_of_several_processes_are_those_of_one(parts: list[list[Reply]]) -> None:
    whole, merged = Records(), Records()
    for part in parts:
        merged.extend(records(part))
        for number, reply in enumerate(part):
            whole.add(ask(number), PHASES[number % 2], intended_ns=number, start_ns=number + 1, reply=reply)
    assert contents(merged) == contents(whole)
    assert len(merged.gaps_us) == sum(max(n, 0) for n in merged.numbers["gaps_n"])
    assert len(merged.chunk_tok) == sum(max(n, 0) for n in merged.numbers["chunk_tok_n"])


def test_what_is_cut_short_is_no_record() -> None:
    reply = Reply(error="e", outcome="timeout", token_ns=array("q", [1, 5_000]), chunk_tok=array("I", [1, 2]))
    sink = io.BytesIO()
    records([reply] * 2).write(sink)
    data = sink.getvalue()
    for size in range(len(data)):
        with pytest.raises(EOFError):
            Records.read(io.BytesIO(data[:size]))


def test_a_row_says_what_is_known_and_no_more() -> None:
    stamps = array("q", [1_000, 2_000_400, 3_000_600])
    reply = Reply(first_byte_ns=900, end_ns=4_000_000, chunks=3, token_ns=stamps, prompt_tok=3, output_tok=3)
    made = records([Reply(outcome="timeout", error="late"), reply])
    known = {"number", "phase", "outcome", "intended_ns", "start_ns", "asked_prompt_tok", "asked_output_tok"}
    assert {name for name, value in made.row(0).items() if value != UNKNOWN} == known
    assert made.errors == {0: "late"}
    row = made.row(1)
    assert tuple(row) == NUMBERS
    assert (row["first_token_ns"], row["last_token_ns"], row["gaps_n"]) == (1_000, 3_000_600, 2)
    assert (row["chunk_tok_n"], row["cached_tok"]) == (UNKNOWN, UNKNOWN)
    assert list(made.gaps_us) == [1_999, 1_000]


def test_gaps_are_rounded_and_the_longest_are_cut() -> None:
    assert list(gaps_us([])) == list(gaps_us([5])) == []
    assert list(gaps_us([0, 499, 999, 2_000, 2**60])) == [0, 1, 1, 2**32 - 1]
