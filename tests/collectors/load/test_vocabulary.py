from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleetbench_collectors.load.vocabulary import WORDS_MAX, read

TINY = Path(__file__).parents[3] / "fleetbench" / "artifact" / "tiny"


def write(folder: Path, raw: Any, name: str = "tokenizer.json") -> Path:
    (folder / name).write_text(json.dumps(raw), encoding="utf-8")
    return folder


def test_byte_level_bpe_gives_its_ids_and_the_words_that_follow_a_space(tmp_path: Path) -> None:
    vocab = {"!": 0, "a": 1, "\u0120": 2, "\u0120the": 4, "\u0120of": 3, "the": 5, "\u0120The": 6, "\u0120a": 7}
    raw = {
        "model": {"type": "BPE", "vocab": vocab | {"\u0120caf\u00c3\u00a9": 8, "\u0120x1": 9, "<|end|>": 10}},
        "added_tokens": [{"id": 10, "content": "<|end|>", "special": True}, {"id": 11, "content": "<tool>"}],
    }
    found = read(write(tmp_path, raw))
    assert found.ids == range(10)
    assert found.words == ("of", "the")


def test_a_sentencepiece_bpe_leaves_its_bytes_out(tmp_path: Path) -> None:
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"<0x{byte:02X}>": 3 + byte for byte in range(256)}
    vocab |= {"\u2581": 259, "\u2581the": 260, "ing": 261}
    found = read(write(tmp_path, {"model": {"type": "BPE", "vocab": vocab}, "added_tokens": []}))
    assert found.ids == range(259, 262)
    assert found.words == ("the",)


def test_unigram_counts_its_pieces(tmp_path: Path) -> None:
    vocab = [["<unk>", 0.0], ["\u2581new", -3.5], ["s", -4.0]]
    found = read(write(tmp_path, {"model": {"type": "Unigram", "vocab": vocab}}))
    assert found.ids == range(1, 3)
    assert found.words == ("new",)


def test_wordpiece_marks_what_continues_a_word(tmp_path: Path) -> None:
    vocab = {"[PAD]": 0, "[unused7]": 1, "the": 2, "##ing": 3, "x": 4}
    found = read(write(tmp_path, {"model": {"type": "WordPiece", "vocab": vocab}}))
    assert found.ids == range(2, 5)
    assert found.words == ("the",)


def test_a_vocab_json_is_enough(tmp_path: Path) -> None:
    found = read(write(tmp_path, {"\u0120it": 0, "b": 1, "<|endoftext|>": 2}, "vocab.json"))
    assert found.ids == range(2)
    assert found.words == ("it",)


def test_ids_with_holes_are_listed_and_few_strays_are_left_out(tmp_path: Path) -> None:
    vocab = {f"t{index}": 2 * index for index in range(5)}
    assert read(write(tmp_path, {"model": {"vocab": vocab}})).ids == (0, 2, 4, 6, 8)
    vocab = {f"t{index}": index for index in range(10, 100)} | {"stray": 3, "other": 200}
    assert read(write(tmp_path, {"model": {"vocab": vocab}})).ids == range(10, 100)


def test_words_are_those_of_the_lowest_ids_and_not_too_many(tmp_path: Path) -> None:
    letters = "abcdefghijklmnopqrst"
    words = [a + b + c for a in letters for b in letters for c in letters]
    found = read(write(tmp_path, {"model": {"vocab": {f"\u0120{word}": index for index, word in enumerate(words)}}}))
    assert found.words == tuple(words[:WORDS_MAX])


def test_the_shipped_model_has_printable_characters_and_no_words() -> None:
    found = read(TINY)
    assert found.ids == range(3, 98)
    assert found.words == ()


@pytest.mark.parametrize(
    ("raw", "sentence"),
    [
        ([], "not a JSON object"),
        ({}, "no object `model`"),
        ({"model": {}}, "neither an object nor a list"),
        ({"model": {"vocab": {"a": "1"}}}, "no text with an id: 'a': '1'"),
        ({"model": {"vocab": {"a": -1}}}, "no text with an id"),
        ({"model": {"vocab": {"a": True}}}, "no text with an id"),
        ({"model": {"vocab": [3]}}, "no text with an id"),
        ({"model": {"vocab": {"<s>": 0}}}, "no token of plain text"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [1]}, "added_tokens is not a list"),
        ({"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 0}]}, "no token of plain text"),
    ],
)
def test_a_damaged_tokenizer_is_named_with_its_file(tmp_path: Path, raw: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        read(write(tmp_path, raw))
    assert str(tmp_path / "tokenizer.json") in str(caught.value)


@pytest.mark.parametrize("content", [b'{"model": ', b"\xff\xfe\x00", b"[" * 100_000])
def test_what_is_no_json_is_named_with_its_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json: (not JSON|JSON that is nested)"):
        read(tmp_path)


def test_a_folder_that_is_none_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such folder"):
        read(tmp_path / "absent")
    with pytest.raises(ValueError, match=r"neither tokenizer\.json nor vocab\.json"):
        read(tmp_path)
