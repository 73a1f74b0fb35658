"""Arithmetic by carries, and word problems of several steps: the answer is one whole number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random

from fleetbench_collectors.quality.general import words
from fleetbench_collectors.quality.general.item import Item, Reply, distinct, make, stream

ARITHMETIC, WORD_PROBLEM = "arithmetic", "word_problem"
_DIGITS = 5
_HALVE = 2
_SUMS = ("add/no_carry", "add/carry", "multiply", "subtract/borrow")
_FINAL = re.compile(r"ANSWER: *(-?\d+)\.?\s*\Z")


def arithmetic(n: int, seed: int) -> Iterator[Item]:
    rng = stream(seed, ARITHMETIC)
    return distinct(n, lambda i: _sum(rng, _SUMS[i % len(_SUMS)]))


def word_problems(n: int, seed: int) -> Iterator[Item]:
    rng = stream(seed, WORD_PROBLEM)
    return distinct(n, lambda i: _story(rng, ("easy", "hard")[i % 2]))


def is_sum(item: Item, reply: Reply) -> bool:
    """The number alone: thousands separators, words and an equation are wrong, white space around it is not."""
    return reply.text.strip() == str(item.want)


def is_solution(item: Item, reply: Reply) -> bool:
    """The last line is `ANSWER: N`; working before it is free, a second answer line is not."""
    found = _FINAL.search(reply.text)
    return found is not None and found[1] == item.want and reply.text.count("ANSWER:") == 1


def _sum(rng: Random, stratum: str) -> Item:
    if stratum == "add/no_carry":
        pairs = [_apart(rng) for _ in range(_DIGITS)]
        a, b = (int("".join(str(pair[side]) for pair in pairs)) for side in (0, 1))
        sign, want = "+", a + b
    elif stratum == "add/carry":
        tens = [rng.randint(1, 9) for _ in range(_DIGITS)]
        a = int("".join(map(str, tens)))
        b = int("".join(str(rng.randint(10 - digit, 9)) for digit in tens))
        sign, want = "+", a + b
    elif stratum == "multiply":
        a, b = rng.randint(101, 999), rng.randint(12, 99)
        sign, want = "*", a * b
    else:
        a, b = rng.randint(50_000, 99_999), rng.randint(10_000, 49_999)
        sign, want = "-", a - b
    prompt = f"Compute {a} {sign} {b}. Answer with the digits of the result and nothing else."
    return make(ARITHMETIC, stratum, prompt, str(want), str(want), max_tokens=24)


def _apart(rng: Random) -> tuple[int, int]:
    a = rng.randint(1, 8)
    return a, rng.randint(1, 9 - a)


def _story(rng: Random, stratum: str) -> Item:
    """Two steps, or six; a remark without use stands in the hard ones."""
    who, thing, place = rng.choice(words.NAMES), rng.choice(words.THINGS), rng.choice(words.PLACES)
    have = rng.randint(20, 90)
    lines = [f"{who} has {have} {thing}."]
    for _ in range(2 if stratum == "easy" else 6):
        line, have = _step(rng, have)
        lines.append(line)
    if stratum == "hard":
        lines.insert(rng.randint(1, len(lines)), f"The {place} is {rng.randint(2, 9)} miles away.")
    lines.append(f"How many {thing} does {who} have now?")
    ask = "Work it out step by step. End with a last line of the form ANSWER: N."
    prompt = f"{' '.join(lines)} {ask}"
    return make(WORD_PROBLEM, stratum, prompt, str(have), f"ANSWER: {have}", max_tokens=512)


def _step(rng: Random, have: int) -> tuple[str, int]:
    kind = rng.randrange(4)
    if kind == 0:
        more = rng.randint(3, 40)
        return f"Then {more} more arrive.", have + more
    if kind == 1 and have > 1:
        less = rng.randint(1, have - 1)
        return f"Then {less} of them are given away.", have - less
    if kind == _HALVE and have % 2 == 0 and have:
        return "Then exactly half of them are sold.", have // 2
    boxes, each = rng.randint(2, 6), rng.randint(2, 9)
    return f"Then {boxes} boxes with {each} in each are added.", have + boxes * each
