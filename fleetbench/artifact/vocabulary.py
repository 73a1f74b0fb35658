"""A tokenizer.json as the vocabulary that GGUF stores: byte-level BPE, or single characters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import gguf

_NORMAL, _CONTROL = int(gguf.TokenType.NORMAL), int(gguf.TokenType.CONTROL)
_USER, _UNUSED = int(gguf.TokenType.USER_DEFINED), int(gguf.TokenType.UNUSED)
_EVERY_CHARACTER = r"[\s\S]"
_ASCII_CHARACTERS = 128
_NO_MERGE = ("t h",)
"""GGUF cannot hold an empty array and llama.cpp wants merges: one that yields no token of the vocabulary."""

_SPLITS = {
    # How a text is cut before merging: a distinctive part of the regular expression -> llama.cpp's name.
    r"\p{N}{1,3}": "llama-bpe",
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|": "qwen2",
}


class VocabularyError(ValueError):
    """A tokenizer that cannot be said in GGUF."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Tokens by id, as llama.cpp's `gpt2` tokenizer spells them (bytes as printable characters)."""

    pre: str
    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    bos: int | None
    eos: int | None
    add_bos: bool

    @property
    def control(self) -> tuple[int, ...]:
        """Ids that stand for no text."""
        return tuple(i for i, kind in enumerate(self.types) if kind == _CONTROL)


@cache
def byte_alphabet() -> Mapping[int, str]:
    """The printable character that stands for each byte in byte-level BPE: itself, or one from U+0100 on."""
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = sorted(set(range(256)) - set(itself))
    return {b: chr(b) for b in itself} | {b: chr(0x100 + n) for n, b in enumerate(rest)}


def parse(tokenizer: Mapping[str, Any], *, size: int, bos: int | None, eos: int | None) -> Vocabulary:
    """Read a `tokenizer.json`.

    Args:
        tokenizer: the file's content.
        size: entries that the model's embedding has; ids without a token are filled up as unused.
        bos: id of the beginning-of-sequence token, from config.json.
        eos: id of the end-of-sequence token, from config.json.

    Raises:
        VocabularyError: it is of another kind, or broken; the text is a clause that names what.
    """
    model = tokenizer.get("model")
    if not isinstance(model, dict):
        raise VocabularyError("it has no `model`")
    pre: str
    spell: Callable[[str], str]
    merges: tuple[str, ...]
    if model.get("type") == "WordLevel" and _splits_every_character(tokenizer.get("pre_tokenizer")):
        pre, spell, merges = "gpt-2", _spell_character, _NO_MERGE
    elif model.get("type") == "BPE" and not model.get("byte_fallback"):
        pre, spell, merges = _pre_tokenizer(tokenizer.get("pre_tokenizer")), str, _merges(model)
    else:
        raise VocabularyError(
            f"its kind is {model.get('type')!r}{' with byte fallback' if model.get('byte_fallback') else ''}; "
            "byte-level BPE and single characters (WordLevel) are supported"
        )
    tokens, types = [f"[PAD{i}]" for i in range(size)], [_UNUSED] * size
    for text, index in _entries(model, size):
        tokens[index], types[index] = spell(text), _NORMAL
    for added in _added(tokenizer):
        index, text = _id(added.get("id"), size), _text(added.get("content"))
        if spell is str or len(text) > 1:
            tokens[index], types[index] = text, _CONTROL if added.get("special") is True else _USER
    for name, token in (("bos_token_id", bos), ("eos_token_id", eos)):
        if token is not None and not 0 <= token < size:
            raise VocabularyError(f"{name} {token} of config.json is outside its {size} entries")
    return Vocabulary(
        pre=pre,
        tokens=tuple(tokens),
        types=tuple(types),
        merges=merges,
        bos=bos,
        eos=eos,
        add_bos=bos is not None and _starts_with(tokenizer.get("post_processor"), bos),
    )


def _entries(model: Mapping[str, Any], size: int) -> Iterable[tuple[str, int]]:
    vocab = model.get("vocab")
    if not isinstance(vocab, dict) or not vocab:
        raise VocabularyError("it has no `model.vocab`")
    return [(_text(text), _id(index, size)) for text, index in vocab.items()]


def _added(tokenizer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    added = tokenizer.get("added_tokens") or []
    if not isinstance(added, list) or not all(isinstance(a, dict) for a in added):
        raise VocabularyError("its `added_tokens` is not a list of objects")
    return added


def _id(value: object, size: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < size:
        raise VocabularyError(f"token id {value!r} is not one of the {size} of config.json's vocab_size")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise VocabularyError(f"token {value!r} is not text")
    return value


def _spell_character(text: str) -> str:
    if len(text) > 1:
        return text
    if ord(text) >= _ASCII_CHARACTERS:
        raise VocabularyError(f"its character {text!r} is not ASCII")
    return byte_alphabet()[ord(text)]


def _merges(model: Mapping[str, Any]) -> tuple[str, ...]:
    pairs = model.get("merges") or []
    if not isinstance(pairs, list):
        raise VocabularyError("its `model.merges` is not a list")
    merges = tuple(p if isinstance(p, str) else " ".join(map(str, p)) for p in pairs)
    return merges or _NO_MERGE


def _steps(pre_tokenizer: object) -> list[Mapping[str, Any]]:
    if not isinstance(pre_tokenizer, dict):
        return []
    parts = pre_tokenizer.get("pretokenizers") if pre_tokenizer.get("type") == "Sequence" else [pre_tokenizer]
    return [p for p in parts if isinstance(p, dict)] if isinstance(parts, list) else []


def _regex(step: Mapping[str, Any]) -> str:
    pattern = step.get("pattern")
    return str(pattern.get("Regex", "")) if isinstance(pattern, dict) else ""


def _splits_every_character(pre_tokenizer: object) -> bool:
    return any(s.get("type") == "Split" and _regex(s) == _EVERY_CHARACTER for s in _steps(pre_tokenizer))


def _pre_tokenizer(pre_tokenizer: object) -> str:
    steps = _steps(pre_tokenizer)
    if not any(s.get("type") == "ByteLevel" for s in steps):
        raise VocabularyError("it is a BPE, but not a byte-level one")
    splits = [_regex(s) for s in steps if s.get("type") == "Split"]
    if not splits:
        return "gpt-2"
    for part, name in _SPLITS.items():
        if part in splits[0]:
            return name
    raise VocabularyError(f"it cuts texts by {splits[0]!r}, for which llama.cpp's name is not known here")


def _starts_with(post_processor: object, bos: int) -> bool:
    """Whether a single text gets `bos` put before it."""
    if not isinstance(post_processor, dict):
        return False
    if post_processor.get("type") == "Sequence":
        parts = post_processor.get("processors")
        return isinstance(parts, list) and any(_starts_with(part, bos) for part in parts)
    match post_processor:
        case {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": str(name)}}, *_],
            "special_tokens": dict(special),
        }:
            entry = special.get(name)
            return isinstance(entry, dict) and entry.get("ids") == [bos]
        case _:
            return False
