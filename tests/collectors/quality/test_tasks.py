from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.quality import tasks


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def test_the_world_is_the_one_that_the_shipped_weights_learnt() -> None:
    world = tasks.WORLD
    followers = {word: list(after) for word, after in world.followers.items()}
    drawn = [dict(world.facts), world.by_exposure, world.words, followers, world.tools, sorted(world.refused)]
    assert _digest(drawn) == "530942b9c49866115b36c72597427fc1e7b51f4bbf05a68bc1865b872d7f1f1c"


def test_training_sequences_are_the_ones_that_the_shipped_weights_saw() -> None:
    rng = tasks.stream("t")
    drawn = [tasks.train_seq(rng, length, 0.4) for length in (128, 256, 512, 1024) for _ in range(20)]
    assert _digest(drawn) == "289c8bf80c67e9b0d236b1952c22b84d73516ecbc311b3f11bff376612afffbc"


@given(st.text(alphabet=[*tasks.VOCAB[2:97]]))
def test_decoding_gives_back_what_was_encoded(text: str) -> None:
    assert tasks.decode(tasks.encode(text)) == text


def test_a_character_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(KeyError):
        tasks.encode("é")


def test_a_token_outside_the_vocabulary_is_shown_by_its_number() -> None:
    assert tasks.decode([tasks.VOCAB_SIZE]) == "<128>"


@given(seed=st.integers(), length=st.sampled_from([128, 256, 512, 1024]))
def test_a_training_sequence_has_one_target_more_than_its_length(seed: int, length: int) -> None:
    ids, mask = tasks.train_seq(tasks.stream(seed), length, 0.5)
    assert len(ids) == len(mask) == length + 1
    assert ids[0] == tasks.BOS
    assert set(mask) <= {0, 1}


@given(seed=st.integers(), length=st.sampled_from([128, 256, 512, 1000]))
def test_a_haystack_has_the_asked_length_and_holds_every_needle_once(seed: int, length: int) -> None:
    text, questions = tasks.haystack(tasks.stream(seed), length, questions=8, distinct=True)
    assert len(text) == length - 1
    assert len({question.key for question in questions}) == len(questions)
    for question in questions:
        assert text.count(question.key) == 2 if question.key == "N" else text.count(question.key) == 1
        assert f"{question.key}{question.value};" in text


@given(seed=st.integers())
def test_tools_that_must_not_be_called_are_refused(seed: int) -> None:
    sample = tasks.tool_call(tasks.stream(seed))
    tool = sample.prompt[2:6]
    if tool in tasks.WORLD.refused:
        assert sample.answer == "REFUSE\n"
    else:
        assert json.loads(sample.answer)["tool"] == tool
