from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.datasets import Sample
from fleetbench_collectors.load.prompts import (
    PLACES,
    BlockPrompts,
    Prompts,
    SamplePrompts,
    TokenPrompts,
    WordPrompts,
)
from fleetbench_collectors.load.traces import BLOCK_TOK
from fleetbench_collectors.load.words import WORDS, Calibration


def tokens(
    *, ids: Sequence[int] = range(3, 98), seed: int = 0, nonce: str = "n", longest_tok: int = 1_200, **other: int
) -> TokenPrompts:
    return TokenPrompts(ids, seed=seed, nonce=nonce, longest_tok=longest_tok, **other)


def plan(*, overhead_tok: int = 1, cost_tok: int = 1, filler: str | None = None) -> Calibration:
    return Calibration(
        overhead_tok=overhead_tok,
        cost_tok=cost_tok,
        words=WORDS,
        filler=filler,
        verified=True,
        off_tok=0,
        probes=3,
        reason=None,
    )


def made(source: Prompts, n: int, context_tok: int) -> list[Any]:
    return [json.loads(source.prompt(number, context_tok)) for number in range(n)]


def words(text: str) -> tuple[str, ...]:
    first, *others = text.split(" ")
    assert first == "a"
    return tuple(others)


@given(
    n=st.integers(0, 200),
    context_tok=st.integers(1, 40),
    first=st.integers(0, 5_000),
    count=st.integers(1, 130),
    as_list=st.booleans(),
    seed=st.integers(),
    nonce=st.text(max_size=8),
)
def test_token_prompts_have_the_exact_length_and_all_differ(
    *, n: int, context_tok: int, first: int, count: int, as_list: bool, seed: int, nonce: str
) -> None:
    ids: Sequence[int] = range(first, first + count)
    source = tokens(ids=list(ids)[::-1] if as_list else ids, seed=seed, nonce=nonce, longest_tok=40)
    if n > source.reach(context_tok):
        assert count**context_tok < n
        with pytest.raises(ValueError, match="cannot all differ"):
            source.prompt(n - 1, context_tok)
        return
    prompts = made(source, n, context_tok)
    assert {len(prompt) for prompt in prompts} <= {context_tok}
    assert len({tuple(prompt) for prompt in prompts}) == n
    assert all(token in ids for prompt in prompts for token in prompt)
    heads = [prompt[0] for prompt in prompts]
    assert all(len(set(heads[i : i + count])) == len(heads[i : i + count]) for i in range(n))


@given(numbers=st.sets(st.integers(0, 2**63 - 1), min_size=2, max_size=40), context_tok=st.integers(10, 20))
def test_far_apart_numbers_differ_in_their_first_tokens(numbers: set[int], context_tok: int) -> None:
    source = tokens()
    heads = {tuple(json.loads(source.prompt(number, context_tok))[:10]) for number in numbers}
    assert len(heads) == len(numbers)


def test_the_same_arguments_give_the_same_prompts_and_any_other_give_others() -> None:
    asked = made(tokens(seed=7, nonce="trial"), 20, 64)
    assert made(tokens(seed=7, nonce="trial"), 20, 64) == asked
    for other in (tokens(seed=8, nonce="trial"), tokens(seed=7, nonce="other")):
        blocks = {tuple(prompt[:16]) for prompt in made(other, 20, 64)}
        assert not blocks & {tuple(prompt[:16]) for prompt in asked}


def test_a_prompt_does_not_depend_on_the_longest_one_nor_on_those_made_before() -> None:
    longer = tokens(longest_tok=50_000)
    longer.prompt(3, 50_000)
    assert longer.prompt(9, 1_000) == tokens().prompt(9, 1_000)


def test_prompts_do_not_change_from_version_to_version() -> None:
    source = tokens(nonce="golden", shared_tok=8)
    digest = hashlib.sha256(b"".join(source.prompt(number, 64) for number in range(100)))
    assert digest.hexdigest()[:16] == "6cb43163cea4a492"


def test_the_tokens_are_drawn_evenly() -> None:
    prompt = json.loads(tokens(ids=range(10), longest_tok=100_000).prompt(0, 100_000))
    counts = [prompt.count(token) for token in range(10)]
    assert min(counts) > 9_500
    assert max(counts) < 10_500


def test_bodies_begin_at_other_places_until_all_have_had_their_turn() -> None:
    source = tokens(ids=range(100_000), longest_tok=40)
    bodies = {source.prompt(number, 40).split(b",", 4)[-1] for number in range(PLACES)}
    assert len(bodies) == PLACES


@given(shared_tok=st.integers(1, 60), context_tok=st.integers(62, 200))
def test_shared_tokens_are_those_of_all_prompts_and_no_more(shared_tok: int, context_tok: int) -> None:
    prompts = made(tokens(shared_tok=shared_tok, longest_tok=200), 20, context_tok)
    assert {len(prompt) for prompt in prompts} == {context_tok}
    assert len({tuple(prompt[:shared_tok]) for prompt in prompts}) == 1
    assert len({prompt[shared_tok] for prompt in prompts}) == 20


def test_what_the_server_adds_is_left_out_of_the_ids() -> None:
    assert [len(prompt) for prompt in made(tokens(overhead_tok=1), 3, 64)] == [63, 63, 63]


@pytest.mark.parametrize(
    ("source", "number", "context_tok", "sentence"),
    [
        (tokens(overhead_tok=2), 0, 2, "the shortest prompt of this server has 3 tokens"),
        (tokens(shared_tok=8), 0, 8, "8 shared tokens leave a prompt of 8 none of its own"),
        (tokens(), 95, 1, "96 prompts of 1 tokens out of 95 cannot all differ"),
        (tokens(longest_tok=10), 0, 11, "prompts of up to 10 tokens are prepared, not of 11"),
        (tokens(), -1, 10, "cannot all differ"),
    ],
)
def test_a_prompt_that_there_is_not_is_refused(
    source: TokenPrompts, number: int, context_tok: int, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        source.prompt(number, context_tok)


@pytest.mark.parametrize(("ids", "sentence"), [([], "no token ids"), ([1, 2, 1], "stand in the list twice")])
def test_ids_that_cannot_make_prompts_differ_are_refused(ids: list[int], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        tokens(ids=ids)


@given(n=st.integers(1, 150), context_tok=st.integers(13, 60), shared_tok=st.integers(0, 8))
def test_word_prompts_have_the_exact_number_of_words_and_all_differ(n: int, context_tok: int, shared_tok: int) -> None:
    source = WordPrompts(
        plan(overhead_tok=3), endpoint="completions", seed=0, nonce="n", longest_tok=60, shared_tok=shared_tok
    )
    texts = [words(text) for text in made(source, n, context_tok)]
    assert {len(text) for text in texts} == {context_tok - 3}
    assert len(set(texts)) == n
    assert len({text[:shared_tok] for text in texts}) == 1
    assert {word for text in texts for word in text} <= set(WORDS)


def test_words_of_several_tokens_are_filled_up_with_fillers() -> None:
    source = WordPrompts(
        plan(overhead_tok=4, cost_tok=3, filler='."'), endpoint="completions", seed=0, nonce="n", longest_tok=60
    )
    for context_tok in range(7, 60):
        text = json.loads(source.prompt(0, context_tok))
        assert text.endswith('."' * ((context_tok - 4) % 3))
        assert len(text.replace('."', "").split()) == 1 + (context_tok - 4) // 3


def test_without_a_filler_the_nearest_length_is_made() -> None:
    source = WordPrompts(plan(overhead_tok=2, cost_tok=3), endpoint="completions", seed=0, nonce="n", longest_tok=60)
    lengths = [2 + 3 * len(words(json.loads(source.prompt(0, context_tok)))) for context_tok in range(11, 18)]
    assert lengths == [11, 11, 14, 14, 14, 17, 17]


def test_a_chat_prompt_is_one_user_message() -> None:
    source = WordPrompts(plan(), endpoint="chat", seed=0, nonce="n", longest_tok=60)
    text = WordPrompts(plan(), endpoint="completions", seed=0, nonce="n", longest_tok=60)
    assert json.loads(source.prompt(5, 40)) == [{"role": "user", "content": json.loads(text.prompt(5, 40))}]


@pytest.mark.parametrize(
    ("shared_tok", "context_tok", "sentence"),
    [
        (0, 4, "the shortest prompt of this server has 5 tokens, not 4"),
        (8, 12, "8 shared tokens leave a prompt of 12 none of its own"),
        (0, 5, "129 prompts of 1 tokens out of 128 cannot all differ"),
    ],
)
def test_a_text_that_there_is_not_is_refused(shared_tok: int, context_tok: int, sentence: str) -> None:
    source = WordPrompts(
        plan(overhead_tok=4), endpoint="chat", seed=0, nonce="n", longest_tok=60, shared_tok=shared_tok
    )
    with pytest.raises(ValueError, match=sentence):
        source.prompt(128, context_tok)


def test_samples_come_in_turn_and_as_they_are() -> None:
    chat = (("system", 'Say "yes".'), ("user", "Größe?"))
    samples = [
        Sample(text="one\ntwo", output_tok=None, messages=None),
        Sample(text='Say "yes".\nGröße?', output_tok=3, messages=chat),
    ]
    assert made(SamplePrompts(samples, endpoint="completions"), 3, 0) == ["one\ntwo", samples[1].text, "one\ntwo"]
    assert made(SamplePrompts(samples, endpoint="chat"), 2, 0) == [
        [{"role": "user", "content": "one\ntwo"}],
        [{"role": role, "content": content} for role, content in chat],
    ]


def test_samples_differ_where_that_is_asked_for() -> None:
    samples = [Sample(text="same", output_tok=None, messages=(("user", "same"),))]
    source = SamplePrompts(samples, endpoint="chat", unique="n7")
    assert [turns[0]["content"] for turns in made(source, 2, 0)] == ["n7 0\nsame", "n7 1\nsame"]


def test_no_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="no prompts"):
        SamplePrompts([], endpoint="chat")


def blocks(*trace: tuple[int, ...] | None, nonce: str = "n", overhead_tok: int = 0) -> BlockPrompts:
    return BlockPrompts(range(1_000), trace, seed=0, nonce=nonce, longest_tok=2_000, overhead_tok=overhead_tok)


def test_equal_blocks_of_a_trace_have_equal_tokens_and_others_differ_at_once() -> None:
    source = blocks((0, 1, 2), (0, 1, 7), (2**63 - 1, 1))
    first, second, third = (json.loads(source.prompt(number, 1_100)) for number in range(3))
    assert {len(first), len(second), len(third)} == {1_100}
    assert first[: 2 * BLOCK_TOK] == second[: 2 * BLOCK_TOK]
    assert first[2 * BLOCK_TOK :][:7] != second[2 * BLOCK_TOK :][:7]
    assert first[:7] != third[:7]
    assert first[BLOCK_TOK : 2 * BLOCK_TOK] == third[BLOCK_TOK : 2 * BLOCK_TOK]
    assert json.loads(source.prompt(0, 600)) == first[:600]
    assert json.loads(source.prompt(0, 3)) == first[:3]


def test_behind_its_blocks_a_prompt_is_its_own() -> None:
    prompts = made(blocks((0,), (0,), None, ()), 4, 700)
    assert {len(prompt) for prompt in prompts} == {700}
    assert prompts[0][:BLOCK_TOK] == prompts[1][:BLOCK_TOK]
    assert prompts[0][BLOCK_TOK] != prompts[1][BLOCK_TOK]
    assert prompts[2][0] != prompts[3][0]


def test_blocks_of_another_trial_have_other_tokens() -> None:
    assert made(blocks((0,)), 1, 16) != made(blocks((0,), nonce="other"), 1, 16)


def test_a_trace_prompt_shorter_than_what_the_server_adds_has_one_id() -> None:
    assert [len(json.loads(blocks((0,), overhead_tok=4).prompt(0, n))) for n in (1, 5, 6)] == [1, 1, 2]


def test_a_request_that_the_trace_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="the trace has 1 requests, none with the number 1"):
        blocks((0,)).prompt(1, 16)
