"""The vocabulary of a Hugging Face tokenizer: what of it prompts may be made of."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORDS_MAX = 4_096
FILE_MAX_BYTES = 256 << 20

_ID_MAX = 1 << 31
_SPACES = ("\u0120", "\u2581")
"""How a space before a word is spelt: by byte-level BPE, and by SentencePiece."""
_WORD = re.compile(r"[a-z]{2,}")
_SPECIAL = re.compile(
    r"<(?:unk|s|/s|pad|mask|bos|eos|cls|sep|0x[0-9A-Fa-f]{2})>|<\|.*\|>|\[(?:PAD|UNK|CLS|SEP|MASK)\]"
    r"|[<\[]\|?(?:unused|reserved|extra_id|special|placeholder)[\w ]*\|?[>\]]"
)
_RUN_MIN_RATIO = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """ids: tokens of plain text, ascending; words: each one token after a space, in the order of ids, perhaps none."""

    ids: range | tuple[int, ...]
    words: tuple[str, ...]


def read(folder: str | os.PathLike[str]) -> Vocabulary:
    """The vocabulary of `tokenizer.json`, or where there is none of `vocab.json`.

    Special and added tokens are left out, as are bytes and places kept for later. ids are a range where one run
    has 9 of 10; the few others are left out then. Takes some 10 times the file's size in memory meanwhile.

    Raises:
        OSError: a file cannot be read.
        ValueError: the folder has no such file, or one that is damaged or of an unknown kind.
    """
    where = Path(folder)
    if not where.is_dir():
        raise ValueError(f"{where}: no such folder; a tokenizer is a folder with a tokenizer.json")
    for name in ("tokenizer.json", "vocab.json"):
        if (where / name).is_file():
            path = where / name
            break
    else:
        raise ValueError(f"{where}: neither tokenizer.json nor vocab.json in it")
    raw = _object(path)
    try:
        if path.name == "vocab.json":
            return _vocabulary(_entries(raw), set(), bare=False)
        model = raw.get("model")
        if not isinstance(model, dict):
            raise ValueError("it has no object `model`")  # noqa: TRY301, TRY004 - a mistake in the file
        bare = model.get("type") == "WordPiece"
        return _vocabulary(_entries(model.get("vocab")), _added(raw.get("added_tokens")), bare=bare)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _object(path: Path) -> dict[str, Any]:
    if path.stat().st_size > FILE_MAX_BYTES:
        raise ValueError(f"{path}: more than {FILE_MAX_BYTES >> 20} MiB, too large for a tokenizer")
    try:
        raw = json.loads(path.read_bytes())
    except RecursionError:
        raise ValueError(f"{path}: JSON that is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON: {error}") from None
    if not isinstance(raw, dict):
        raise ValueError(f"{path}: not a JSON object")  # noqa: TRY004 - a mistake in the file
    return raw


def _entries(vocab: object) -> Iterator[tuple[int, str]]:
    """(id, text) pairs; Unigram has a list of [text, score] in order of the ids, all others an object."""
    pairs: Iterable[tuple[object, object]]
    if isinstance(vocab, dict):
        pairs = ((index, text) for text, index in vocab.items())
    elif isinstance(vocab, list):
        pairs = enumerate(entry[0] if isinstance(entry, list) and entry else None for entry in vocab)
    else:
        raise ValueError("its vocabulary is neither an object nor a list")  # noqa: TRY004 - a mistake in the file
    for index, text in pairs:
        if type(index) is not int or not 0 <= index < _ID_MAX or not isinstance(text, str):
            raise ValueError(f"an entry of its vocabulary is no text with an id: {text!r}: {index!r}")
        yield index, text


def _added(tokens: object) -> set[int]:
    if tokens is None:
        return set()
    if not isinstance(tokens, list) or not all(isinstance(token, Mapping) for token in tokens):
        raise ValueError("its added_tokens is not a list of objects")
    return {token["id"] for token in tokens if type(token.get("id")) is int}


def _vocabulary(entries: Iterable[tuple[int, str]], added: set[int], *, bare: bool) -> Vocabulary:
    """bare: words stand as they are, and what continues a word is marked instead (WordPiece)."""
    plain = sorted((index, text) for index, text in entries if index not in added and not _SPECIAL.fullmatch(text))
    if not plain:
        raise ValueError("its vocabulary has no token of plain text")
    spoken = (_spoken(text, bare=bare) for _, text in plain)
    words = tuple(itertools.islice(dict.fromkeys(word for word in spoken if word), WORDS_MAX))
    return Vocabulary(ids=_ids(sorted({index for index, _ in plain})), words=words)


def _spoken(text: str, *, bare: bool) -> str | None:
    if not bare:
        if not text.startswith(_SPACES):
            return None
        text = text[1:]
    return text if _WORD.fullmatch(text) else None


def _ids(found: list[int]) -> range | tuple[int, ...]:
    longest, first = range(0), 0
    for position, index in enumerate(found):
        if position + 1 == len(found) or found[position + 1] != index + 1:
            longest = max(longest, range(found[first], index + 1), key=len)
            first = position + 1
    return longest if len(longest) >= _RUN_MIN_RATIO * len(found) else tuple(found)
