from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.engine.protocol import Session
from fleetbench_collectors.load.calibrate import CONSTANT, NO_USAGE, Planner, plan_text, plan_tokens
from fleetbench_collectors.load.prompts import TokenPrompts, WordPrompts
from fleetbench_collectors.load.wire import Endpoint, Wire
from fleetbench_collectors.load.words import WORDS, Calibration

Tokenizer = Callable[[str], int]
_PIECE = re.compile(r" ?[a-z]+| ?[0-9]| ?[^\sa-z0-9]+|\s")


def by_space(text: str) -> int:
    return len(text.split())


def by_byte(text: str) -> int:
    return len(text.encode())


def by_pieces(dear: set[str]) -> Tokenizer:
    """Like BPE: a word with its space is one token, or two where it is dear; a row of punctuation is one."""
    return lambda text: sum(2 if piece.strip() in dear else 1 for piece in _PIECE.findall(text))


def drive(planner: Planner, count: Callable[[bytes], int | None]) -> Calibration:
    probe = next(planner)
    while True:
        try:
            probe = planner.send(count(probe.prompt))
        except StopIteration as done:
            plan: Calibration = done.value
            return plan


def counted(prompt: bytes, endpoint: Endpoint, tokenizer: Tokenizer) -> int:
    value = json.loads(prompt)
    return tokenizer(value if endpoint == "completions" else value[0]["content"])


def text_plan(
    tokenizer: Tokenizer,
    *,
    overhead: int = 0,
    endpoint: Endpoint = "completions",
    target_tok: int = 256,
    words: tuple[str, ...] = WORDS,
) -> Calibration:
    return drive(
        plan_text(words, endpoint=endpoint, target_tok=target_tok),
        lambda prompt: overhead + counted(prompt, endpoint, tokenizer),
    )


def check_lengths(plan: Calibration, tokenizer: Tokenizer, overhead: int, endpoint: Endpoint, longest: int) -> None:
    """Prompts of every length that the plan has come out exactly."""
    source = WordPrompts(plan, endpoint=endpoint, seed=1, nonce="n", longest_tok=longest)
    for context_tok in range(plan.shortest_tok, longest, 1 + longest // 100):
        assert overhead + counted(source.prompt(context_tok % 3, context_tok), endpoint, tokenizer) == context_tok


@settings(max_examples=20)
@given(
    tokenizer=st.sampled_from([by_space, by_pieces(set())]),
    overhead=st.integers(0, 40),
    endpoint=st.sampled_from(["completions", "chat"]),
    target_tok=st.integers(45, 4_000),
)
def test_words_of_one_token_take_three_probes(
    tokenizer: Tokenizer, overhead: int, endpoint: Endpoint, target_tok: int
) -> None:
    plan = text_plan(tokenizer, overhead=overhead, endpoint=endpoint, target_tok=target_tok)
    assert plan.verified
    assert (plan.off_tok, plan.cost_tok, plan.probes, plan.reason) == (0, 1, 3, None)
    assert plan.overhead_tok == overhead + 1
    check_lengths(plan, tokenizer, overhead, endpoint, 300)


@settings(max_examples=20)
@given(dear=st.sets(st.sampled_from(WORDS), min_size=1), overhead=st.integers(0, 40), target_tok=st.integers(60, 300))
def test_words_of_two_tokens_are_found_and_avoided_or_filled_up(dear: set[str], overhead: int, target_tok: int) -> None:
    tokenizer = by_pieces(dear)
    plan = text_plan(tokenizer, overhead=overhead, endpoint="chat", target_tok=target_tok)
    assert plan.verified, plan.reason
    assert plan.probes <= 96
    assert len({word in dear for word in plan.words}) == 1
    check_lengths(plan, tokenizer, overhead, "chat", 300)


@pytest.mark.parametrize("target_tok", [16, 17, 128, 1_001, 1_002, 1_003, 1_004])
def test_where_each_character_is_a_token_words_of_one_length_are_filled_up(target_tok: int) -> None:
    plan = text_plan(by_byte, overhead=1, target_tok=target_tok)
    assert plan.verified
    assert plan.probes <= 96
    assert plan.filler == "."
    assert {1 + len(word) for word in plan.words} == {plan.cost_tok}
    check_lengths(plan, by_byte, 1, "completions", 200)


def test_without_a_text_of_one_token_the_nearest_length_is_said_to_be_off() -> None:
    plan = text_plan(lambda text: 5 * by_space(text), overhead=3, target_tok=101)
    assert not plan.verified
    assert (plan.overhead_tok, plan.cost_tok, plan.filler) == (8, 5, None)
    assert plan.off_tok == 2
    assert plan.reason == (
        "the server counts 103 tokens where 101 were asked for: words have 5 tokens, and no text has only one"
    )
    assert text_plan(lambda text: 5 * by_space(text), overhead=3, target_tok=103).verified


@given(count=st.integers(0, 5_000), target_tok=st.integers(1, 5_000))
@settings(max_examples=20)
def test_a_count_that_is_always_the_same_verifies_nothing(count: int, target_tok: int) -> None:
    plan = drive(plan_text(WORDS, endpoint="chat", target_tok=target_tok), lambda _: count)
    assert not plan.verified
    assert plan.reason == CONSTANT
    assert plan.off_tok is None
    assert plan.words
    plan = drive(plan_tokens(range(100), target_tok=target_tok), lambda _: count)
    if count != target_tok:
        assert not plan.verified
        assert plan.reason == CONSTANT


def test_a_server_that_counts_nothing_verifies_nothing() -> None:
    for planner in (
        plan_text(WORDS, endpoint="completions", target_tok=64),
        plan_tokens(range(100), target_tok=64),
    ):
        plan = drive(planner, lambda _: None)
        assert not plan.verified
        assert (plan.reason, plan.off_tok) == (NO_USAGE, None)
        assert plan.probes <= 2


@pytest.mark.parametrize("tokenizer", [by_space, by_byte])
def test_a_server_that_refuses_the_long_probes_is_asked_with_short_ones(tokenizer: Tokenizer) -> None:
    def small(prompt: bytes) -> int | None:
        n = counted(prompt, "completions", tokenizer)
        return n if n <= 100 else None

    plan = drive(plan_text(WORDS, endpoint="completions", target_tok=96), small)
    assert plan.verified
    check_lengths(plan, tokenizer, 0, "completions", 96)


def test_a_server_that_counts_some_probes_only_is_told_from_one_that_counts_none() -> None:
    answers = iter([65, None])
    plan = drive(plan_text(WORDS, endpoint="completions", target_tok=96), lambda _: next(answers, None))
    assert plan.reason == "the server did not count the prompt tokens of every probe"


def test_a_server_that_cuts_prompts_is_found_out() -> None:
    plan = text_plan(lambda text: min(by_space(text), 100), target_tok=512)
    assert plan.reason == "the server counts no more than 100 tokens however long the prompt is"
    plan = text_plan(lambda text: min(by_space(text), 300), target_tok=4_000, words=WORDS)
    assert plan.off_tok == 300 - 4_000
    assert plan.reason == "the server counts 300 tokens where 4000 were asked for"


def test_a_target_below_the_shortest_prompt_is_named() -> None:
    plan = text_plan(by_space, overhead=40, target_tok=30)
    assert not plan.verified
    assert plan.reason == "the shortest prompt of this server has 42 tokens, not 30"


def test_a_rare_miscount_by_the_first_two_texts_is_corrected() -> None:
    def late(text: str) -> int:
        """Long texts have two tokens more."""
        return by_space(text) + 2 * (by_space(text) > 300)

    plan = text_plan(late, target_tok=512)
    assert plan.verified
    assert plan.probes == 5


def test_a_server_that_counts_at_random_gets_its_closest_plan() -> None:
    counts: Iterator[int] = iter([65, 129, *(510, 515, 505, 520)])
    plan = drive(plan_text(WORDS[:64], endpoint="chat", target_tok=512), lambda _: next(counts))
    assert not plan.verified
    assert plan.off_tok == -2
    assert plan.reason == "the server counts 510 tokens where 512 were asked for"


@given(counts=st.lists(st.none() | st.integers(0, 2_000), min_size=100, max_size=100), target_tok=st.integers(1, 2_000))
@settings(max_examples=30)
def test_whatever_a_server_counts_there_is_an_end_and_an_answer(counts: list[int | None], target_tok: int) -> None:
    for planner in (
        plan_text(WORDS, endpoint="completions", target_tok=target_tok),
        plan_tokens(range(100), target_tok=target_tok),
    ):
        answers = iter(counts)
        plan = drive(planner, lambda _, answers=answers: next(answers))  # type: ignore[misc]
        assert plan.verified == (plan.reason is None)
        assert plan.verified == (plan.off_tok == 0)


@given(overhead=st.integers(0, 20), target_tok=st.integers(1, 300))
def test_token_ids_are_fewer_by_what_the_server_adds(overhead: int, target_tok: int) -> None:
    plan = drive(plan_tokens(range(500), target_tok=target_tok), lambda prompt: overhead + len(json.loads(prompt)))
    if target_tok <= overhead:
        assert plan.reason == f"the shortest prompt of this server has {overhead + 1} tokens, not {target_tok}"
        return
    assert plan.verified
    assert plan.probes == (1 if overhead == 0 else 2 if overhead < target_tok else 3)
    source = TokenPrompts(range(500), seed=0, nonce="n", longest_tok=300, overhead_tok=plan.overhead_tok)
    assert overhead + len(json.loads(source.prompt(7, 300))) == 300


def test_token_ids_that_a_server_counts_otherwise_are_said_to_be_off() -> None:
    plan = drive(plan_tokens(range(500), target_tok=100), lambda prompt: 3 * len(json.loads(prompt)) // 2)
    assert (plan.verified, plan.off_tok) == (False, -25)
    plan = drive(plan_tokens(range(500), target_tok=100), lambda prompt: min(len(json.loads(prompt)), 40))
    assert (plan.verified, plan.off_tok) == (False, -60)
    assert plan.reason == "the server counts 40 tokens where 100 were asked for"


@pytest.mark.engine
@pytest.mark.parametrize(("endpoint", "target_tok"), [("completions", 64), ("completions", 301), ("chat", 257)])
def test_a_real_engine_counts_texts_as_planned(tiny_session: Session, endpoint: Endpoint, target_tok: int) -> None:
    url = urlsplit(tiny_session.receipt.base_url)
    wire = Wire(host_header=url.netloc, path_prefix=url.path, endpoint=endpoint, model="tiny", seed=0)

    def count(prompt: bytes) -> int | None:
        with socket.create_connection((url.hostname or "", url.port or 80), timeout=30) as sock:
            sock.sendall(wire.payload(prompt, 1))
            with sock.makefile("rb") as source:
                while line := source.readline():
                    if found := re.search(rb'"prompt_tokens":(\d+)', line):
                        return int(found[1])
                    if line.startswith(b"HTTP/1.1 4"):
                        return None
        return None

    plan = drive(plan_text(WORDS, endpoint=endpoint, target_tok=target_tok), count)
    assert plan.verified, plan.reason
    source = WordPrompts(plan, endpoint=endpoint, seed=0, nonce="n", longest_tok=400)
    assert [count(source.prompt(number, 395 + number)) for number in range(5)] == [395, 396, 397, 398, 399]


def test_a_plan_without_words_or_length_is_refused() -> None:
    with pytest.raises(ValueError, match="no words"):
        next(plan_text([], endpoint="chat", target_tok=10))
    with pytest.raises(ValueError, match="at least one token, not 0"):
        next(plan_tokens(range(5), target_tok=0))
