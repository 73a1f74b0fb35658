"""Needles in a haystack: one, one of many keys, all values of a key, and a value through a chain of names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from fleetbench_collectors.quality.general import words
from fleetbench_collectors.quality.general.item import CHARS_PER_TOK, Item, Reply, make, stream

CATEGORY = "needle"
LENGTHS_TOK = (1024, 4096, 16_384, 32_768, 65_536, 131_072)
KINDS = ("single", "multi_key", "multi_value", "tracking")
_RESERVE_TOK = 384
"""Of a length: question, answer, chat template and needles."""
_KEYS, _VALUES, _CHAINS, _HOPS = 6, 3, 3, 4
_MAX_TOKENS = 64
_ASK = "Read the notes.\n\n{text}\n\n{question} Answer with {form} and nothing else."


def items(n: int, seed: int, context_tok: int) -> Iterator[Item]:
    """`n` items, the lengths that fit and the four kinds in equal shares."""
    lengths = fitting(context_tok)
    strata = [(kind, length) for length in lengths for kind in KINDS]
    for i, (kind, length) in enumerate(strata):
        left = (n + len(strata) - 1 - i) // len(strata)
        rng = stream(seed, CATEGORY, kind, length)
        while left > 0:
            made = _haystack(rng, kind, length)[:left]
            yield from made
            left -= len(made)


def fitting(context_tok: int) -> tuple[int, ...]:
    return tuple(length for length in LENGTHS_TOK if length <= context_tok)


def is_correct(item: Item, reply: Reply) -> bool:
    """The numbers of the answer are exactly the wanted ones, each once, in any order, and no letters beside them."""
    found = re.findall(r"\d+", reply.text)
    return sorted(found) == sorted(item.want) and not re.search(r"[^\W\d_]", reply.text)


def _haystack(rng: Random, kind: str, length: int) -> list[Item]:
    """The questions to one haystack."""
    needles, asked = _NEEDLES[kind](rng)
    lines = words.filler(rng, int((length - _RESERVE_TOK) * CHARS_PER_TOK))
    places = sorted(rng.sample(range(len(lines)), len(needles)), reverse=True)
    for place, needle in zip(places, reversed(needles), strict=True):
        lines.insert(place, needle)
    text = " ".join(lines)
    stratum = f"{kind}/{length}"
    out = []
    for question, want in asked:
        form = "the number" if len(want) == 1 else f"the {len(want)} numbers, separated by commas,"
        prompt = _ASK.format(text=text, question=question, form=form)
        out.append(make(CATEGORY, stratum, prompt, want, ", ".join(want), max_tokens=_MAX_TOKENS, cluster=text))
    return out


_Made = tuple[list[str], list[tuple[str, list[str]]]]


def _numbers(rng: Random, n: int) -> list[str]:
    return [str(number) for number in rng.sample(range(100_000, 1_000_000), n)]


def _keys(rng: Random, n: int) -> list[str]:
    return rng.sample([f"{colour} {place}" for colour in words.COLOURS for place in words.PLACES], n)


def _single(rng: Random) -> _Made:
    (key,), (value,) = _keys(rng, 1), _numbers(rng, 1)
    return [f"The code of the {key} is {value}."], [(f"What is the code of the {key}?", [value])]


def _multi_key(rng: Random) -> _Made:
    pairs = list(zip(_keys(rng, _KEYS), _numbers(rng, _KEYS), strict=True))
    asked = [(f"What is the code of the {key}?", [value]) for key, value in pairs[: _KEYS // 2]]
    rng.shuffle(pairs)
    return [f"The code of the {key} is {value}." for key, value in pairs], asked


def _multi_value(rng: Random) -> _Made:
    keys, values = _keys(rng, 2), _numbers(rng, 2 * _VALUES)
    pairs = [(keys[i % 2], value) for i, value in enumerate(values)]
    asked = [(f"Which {_VALUES} codes does the {key} have?", [v for k, v in pairs if k == key]) for key in keys]
    return [f"One of the codes of the {key} is {value}." for key, value in pairs], asked


def _tracking(rng: Random) -> _Made:
    """Chains of names, woven into each other; a link stands after the one that it refers to."""
    values = _numbers(rng, _CHAINS)
    names = iter(rng.sample([f"V{i}" for i in range(10, 100)], _CHAINS * _HOPS))
    chains = [[next(names) for _ in range(_HOPS)] for _ in range(_CHAINS)]
    needles = [f"Set {chain[0]} to {value}." for chain, value in zip(chains, values, strict=True)]
    needles += [f"Set {chain[hop]} to what {chain[hop - 1]} holds." for hop in range(1, _HOPS) for chain in chains]
    asked = [
        (f"Which number does {chain[-1]} hold?", [value]) for chain, value in zip(chains[:2], values[:2], strict=True)
    ]
    return needles, asked


_NEEDLES = {"single": _single, "multi_key": _multi_key, "multi_value": _multi_value, "tracking": _tracking}
