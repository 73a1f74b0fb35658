"""Writes a small tokenizer of the Hugging Face form: peers want one, and a bench has no network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

UNKNOWN, END = "<unk>", "</s>"
_SPACE, _NEWLINE = "Ġ", "Ċ"
"""How a byte-level tokenizer writes a space and a line's end."""
_LONGEST_TOK = 1_000_000
_MERGES = (("t", "o"), ("to", "k"), (_SPACE, "tok"))
"""So that the truth server's " tok" is one token, as a tool that counts the text's tokens must find."""


def write_tokenizer(folder: Path) -> Path:
    """One token for each printable ASCII character, and one for " tok"; the folder again."""
    characters = [UNKNOWN, END, _NEWLINE, _SPACE, *map(chr, range(ord("!"), ord("~") + 1))]
    vocabulary = [*characters, *("".join(pair) for pair in _MERGES)]
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
        "eos_token": END,
        "pad_token": END,
        "model_max_length": _LONGEST_TOK,
    }
    model = {"model_type": "llama", "vocab_size": len(vocabulary), "max_position_embeddings": _LONGEST_TOK}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("tokenizer.json", _tokenizer(vocabulary)),
        ("tokenizer_config.json", settings),
        ("config.json", model),
    ):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def _tokenizer(vocabulary: Sequence[str]) -> dict[str, Any]:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": vocabulary.index(token), "content": token, "special": True, **plain} for token in (UNKNOWN, END)
        ],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "unk_token": UNKNOWN,
            "vocab": {token: number for number, token in enumerate(vocabulary)},
            "merges": [list(pair) for pair in _MERGES],
        },
    }
