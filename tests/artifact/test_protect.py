from __future__ import annotations

import pytest

from fleetbench.artifact.protect import protected
from fleetbench.artifact.types import ArtifactError

NAMES = ["token_embd.weight", "output.weight", *(f"blk.{layer}.ffn_down.weight" for layer in range(12))]


def kept(*words: str, tied: bool = False) -> set[str]:
    holds = protected(words, layers=12, tied=tied)
    return {name for name in NAMES if holds(name)}


def test_no_word_keeps_nothing() -> None:
    assert kept() == set()


def test_the_ends_and_both_vocabulary_matrices_can_be_kept() -> None:
    assert kept("embeddings") == {"token_embd.weight"}
    assert kept("lm_head") == {"output.weight"}
    assert kept("first 1") == {"blk.0.ffn_down.weight"}
    assert kept("last 2", "lm_head") == {"blk.10.ffn_down.weight", "blk.11.ffn_down.weight", "output.weight"}
    assert kept("first 12", "embeddings", "lm_head") == set(NAMES)


def test_the_output_of_a_tied_model_is_its_embedding() -> None:
    assert kept("lm_head", tied=True) == {"token_embd.weight"}


@pytest.mark.parametrize("word", ["first", "first 0", "last -1", "first two", "mlp", "", "First 1", "last 1 2"])
def test_a_word_that_names_nothing_is_told_the_known_ones(word: str) -> None:
    with pytest.raises(ArtifactError, match=r"protect: .* names no layers here \(there are embeddings, lm_head, first"):
        kept(word)


def test_more_layers_than_there_are_is_a_mistake() -> None:
    with pytest.raises(ArtifactError, match="'last 13' is more than the 12 layers"):
        kept("last 13")
