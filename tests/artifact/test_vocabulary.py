from __future__ import annotations

from typing import Any

import gguf
import pytest

from fleetbench.artifact import vocabulary
from fleetbench.artifact.vocabulary import VocabularyError

LLAMA_3 = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"


def bpe(**changes: Any) -> dict[str, Any]:
    return {
        "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "Ġ": 3}, "merges": [["a", "b"]]},
        "pre_tokenizer": {"type": "ByteLevel", "use_regex": True},
        "added_tokens": [
            {"id": 4, "content": "<s>", "special": True},
            {"id": 5, "content": "<x>", "special": False},
        ],
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [4], "tokens": ["<s>"]}},
        },
    } | changes


def characters(**changes: Any) -> dict[str, Any]:
    return {
        "model": {"type": "WordLevel", "vocab": {"<bos>": 0, "\n": 1, " ": 2, "A": 3}},
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated"},
        "added_tokens": [
            {"id": 0, "content": "<bos>", "special": True},
            {"id": 1, "content": "\n", "special": True},
        ],
    } | changes


def test_bpe_keeps_its_spelling_and_merges() -> None:
    found = vocabulary.parse(bpe(), size=8, bos=4, eos=5)
    assert found.tokens == ("a", "b", "ab", "Ġ", "<s>", "<x>", "[PAD6]", "[PAD7]")
    assert found.merges == ("a b",)
    assert found.control == (4,)
    assert found.types[5:] == (gguf.TokenType.USER_DEFINED, gguf.TokenType.UNUSED, gguf.TokenType.UNUSED)
    assert found.pre == "gpt-2"
    assert found.add_bos


def test_characters_are_spelled_as_bytes_and_stay_text_even_where_special() -> None:
    found = vocabulary.parse(characters(), size=4, bos=0, eos=1)
    assert found.tokens == ("<bos>", "Ċ", "Ġ", "A")
    assert found.control == (0,)
    assert not found.add_bos


def test_byte_alphabet_has_a_printable_character_for_every_byte() -> None:
    alphabet = vocabulary.byte_alphabet()
    assert sorted(alphabet) == list(range(256))
    assert len(set(alphabet.values())) == 256
    assert all(char.isprintable() and not char.isspace() for char in alphabet.values())


def test_a_bos_that_is_only_added_elsewhere_is_not_added() -> None:
    assert not vocabulary.parse(bpe(post_processor=None), size=6, bos=4, eos=None).add_bos
    nested = {"type": "Sequence", "processors": [{"type": "ByteLevel"}, bpe()["post_processor"]]}
    assert vocabulary.parse(bpe(post_processor=nested), size=6, bos=4, eos=None).add_bos


def test_llama_3s_way_of_cutting_texts_is_known() -> None:
    steps = [{"type": "Split", "pattern": {"Regex": LLAMA_3}}, {"type": "ByteLevel", "use_regex": False}]
    pre = {"type": "Sequence", "pretokenizers": steps}
    assert vocabulary.parse(bpe(pre_tokenizer=pre), size=6, bos=4, eos=None).pre == "llama-bpe"


@pytest.mark.parametrize(
    ("tokenizer", "what"),
    [
        ({}, "no `model`"),
        (bpe(model={"type": "Unigram"}), "'Unigram'"),
        (bpe(model={"type": "BPE", "byte_fallback": True}), "byte fallback"),
        (bpe(model={"type": "BPE", "vocab": {}}), "no `model.vocab`"),
        (bpe(model={"type": "BPE", "vocab": {"a": 99}}), "token id 99"),
        (bpe(model={"type": "BPE", "vocab": {"a": "0"}}), "token id '0'"),
        (bpe(model={"type": "BPE", "vocab": {"a": 0}, "merges": {"a": "b"}}), "not a list"),
        (bpe(pre_tokenizer={"type": "Metaspace"}), "not a byte-level one"),
        (
            bpe(
                pre_tokenizer={
                    "type": "Sequence",
                    "pretokenizers": [{"type": "Split", "pattern": {"Regex": "x"}}, {"type": "ByteLevel"}],
                }
            ),
            "not known here",
        ),
        (bpe(added_tokens=[{"id": 99, "content": "<y>"}]), "token id 99"),
        (bpe(added_tokens=[3]), "not a list of objects"),
        (characters(model={"type": "WordLevel", "vocab": {"é": 0}}), "not ASCII"),
    ],
)
def test_what_gguf_cannot_say_is_refused_by_name(tokenizer: dict[str, Any], what: str) -> None:
    with pytest.raises(VocabularyError, match=what):
        vocabulary.parse(tokenizer, size=6, bos=None, eos=None)


def test_a_bos_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(VocabularyError, match="bos_token_id 77"):
        vocabulary.parse(bpe(), size=6, bos=77, eos=None)
