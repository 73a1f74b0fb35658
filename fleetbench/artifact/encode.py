"""Text to token ids by a byte-level BPE vocabulary, as llama.cpp's `gpt2` tokenizer does it."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from functools import cache

import gguf

from fleetbench.artifact.vocabulary import Vocabulary, byte_alphabet

_WHOLE_WORDS = ("llama-bpe",)
"""Ways of cutting under which a word that is a token stays whole, whatever the merges say."""


def encode(vocabulary: Vocabulary, text: str) -> list[int]:
    """Token ids of `text`, without a beginning-of-sequence token; control tokens are not looked for in the text.

    What the vocabulary has no token for is left out, as llama.cpp does.

    Raises:
        ValueError: a way of cutting texts that is not known here.
    """
    ids = {token: index for index, token in enumerate(vocabulary.tokens)}
    pairs = (pair.split(" ", 1) for pair in vocabulary.merges)
    ranks = {(pair[0], pair[-1]): rank for rank, pair in enumerate(pairs)}
    cut = _cutter(vocabulary.pre)
    whole = vocabulary.pre in _WHOLE_WORDS
    alphabet = byte_alphabet()
    known: dict[str, list[int]] = {}

    def word_ids(word: str) -> list[int]:
        spelled = "".join(alphabet[byte] for byte in word.encode())
        parts = [spelled] if whole and spelled in ids else merge(spelled, ranks)
        return [ids[part] for part in parts if part in ids]

    found: list[int] = []
    for part in _parts(vocabulary, text):
        if isinstance(part, int):
            found.append(part)
            continue
        for word in cut.findall(part):
            if word not in known:
                known[word] = word_ids(word)
            found += known[word]
    return found


def merge(word: str, ranks: dict[tuple[str, str], int]) -> Sequence[str]:
    """The word's characters, joined pair by pair, always the pair of the lowest rank, the leftmost of equals."""
    parts = list(word)
    while len(parts) > 1:
        rank, at = min((ranks.get((parts[i], parts[i + 1]), len(ranks)), i) for i in range(len(parts) - 1))
        if rank == len(ranks):
            break
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts


def _parts(vocabulary: Vocabulary, text: str) -> Iterator[str | int]:
    """The text cut at the tokens that users defined, which go as their ids."""
    own = {
        token: index
        for index, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.types, strict=True))
        if kind == gguf.TokenType.USER_DEFINED
    }
    if not own:
        yield text
        return
    longest_first = sorted(own, key=len, reverse=True)
    for part in re.split(f"({'|'.join(map(re.escape, longest_first))})", text):
        if part:
            yield own.get(part, part)


@cache
def _cutter(pre: str) -> re.Pattern[str]:
    """The published regular expression of a tokenizer, with the letters and numbers of Unicode spelled out."""
    letter, number = _category("L"), _category("N")
    suffixes = "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"
    ends = r"\s*[\r\n]+|\s+(?!\S)|\s+"
    other = rf" ?[^\s{letter}{number}]+"
    match pre:
        case "gpt-2":
            words = rf"'s|'t|'re|'ve|'m|'ll|'d| ?[{letter}]+| ?[{number}]+|{other}|\s+(?!\S)|\s+"
        case "llama-bpe" | "qwen2":
            most = 3 if pre == "llama-bpe" else 1
            words = rf"{suffixes}|[^\r\n{letter}{number}]?[{letter}]+|[{number}]{{1,{most}}}|{other}[\r\n]*|{ends}"
        case _:
            raise ValueError(f"texts cannot be cut as {pre!r} does")
    return re.compile(words)


@cache
def _category(major: str) -> str:
    """All characters whose Unicode category begins with `major`, as the inside of a character class."""
    spans: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code))[0] == major:
            if spans and spans[-1][1] == code - 1:
                spans[-1][1] = code
            else:
                spans.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in spans)
