"""The synthetic tasks that the tiny model was trained on: a small closed world, made by seed.

The world (facts, words, tools) is drawn from one random stream; the shipped weights know exactly this one,
so the order of the draws is part of the definition. Training and evaluation share the generators.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

UPPER, LOWER, DIGITS = string.ascii_uppercase, string.ascii_lowercase, string.digits
PAD, BOS, NEWLINE = 0, 1, 2
VOCAB_SIZE = 128
_KNOWN = ("<pad>", "<bos>", "\n", *(chr(code) for code in range(32, 127)))
VOCAB: tuple[str, ...] = (*_KNOWN, *(f"<unused{i}>" for i in range(len(_KNOWN), VOCAB_SIZE)))
_ID_OF = {text: i for i, text in enumerate(VOCAB)}


def encode(text: str) -> list[int]:
    """One token id a character; KeyError for a character outside the vocabulary."""
    return [_ID_OF[char] for char in text]


def decode(ids: Sequence[int]) -> str:
    return "".join(VOCAB[i] if 0 <= i < VOCAB_SIZE else f"<{i}>" for i in ids)


def stream(seed: int | str) -> Random:
    """A seeded stream of its own."""
    return Random(seed)  # noqa: S311 -- items are made by seed, nothing is secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question: the answer ends with a newline, the model's end of sequence."""

    prompt: str
    answer: str
    stratum: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A needle to find: its key and its value."""

    key: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the model had to memorise; `by_exposure` lists the facts from often to rarely trained."""

    facts: Mapping[str, str]
    by_exposure: tuple[str, ...]
    words: tuple[str, ...]
    followers: Mapping[str, tuple[str, ...]]
    tools: tuple[str, ...]
    refused: frozenset[str]


_SYLLABLES = ("ka", "to", "mi", "ru", "ne", "so", "li", "va", "po", "de", "xu", "ya")
_N_FACTS, _N_HEAD_FACTS = 500, 170
_FOLLOWER_WEIGHTS = (32, 16, 8, 4, 2, 1)
_EXPOSURE = tuple(1.0 / (rank + 30) ** 0.6 for rank in range(_N_FACTS))


def _make_world() -> World:
    rng = stream(1234)
    keys: set[str] = set()
    while len(keys) < _N_FACTS:
        keys.add("".join(rng.choice(LOWER) for _ in range(3)))
    facts = {key: rng.choice(UPPER) + rng.choice(UPPER) for key in sorted(keys)}
    by_exposure = sorted(facts)
    rng.shuffle(by_exposure)
    words = sorted({"".join(rng.choice(_SYLLABLES) for _ in range(rng.choice([1, 2, 2, 3]))) for _ in range(160)})
    followers = {word: tuple(rng.sample(words, 6)) for word in words}
    tools = sorted({"".join(rng.choice(LOWER) for _ in range(4)) for _ in range(60)})
    refused = frozenset(rng.sample(tools, 20))
    return World(
        facts=facts,
        by_exposure=tuple(by_exposure),
        words=tuple(words),
        followers=followers,
        tools=tuple(tools),
        refused=refused,
    )


WORLD = _make_world()
FACT_KEYS: tuple[str, ...] = tuple(sorted(WORLD.facts))
_HEAD_FACTS = frozenset(WORLD.by_exposure[:_N_HEAD_FACTS])


def _fact(key: str) -> Sample:
    stratum = "head" if key in _HEAD_FACTS else "tail"
    return Sample(prompt=f"F:{key}>", answer=WORLD.facts[key] + "\n", stratum=stratum)


def trained_fact(rng: Random) -> Sample:
    """A fact as often as training shows it: the head often, the tail rarely."""
    return _fact(rng.choices(WORLD.by_exposure, _EXPOSURE)[0])


def fact(rng: Random) -> Sample:
    return _fact(rng.choice(FACT_KEYS))


def addition(rng: Random) -> Sample:
    """Two digits plus one, the sum written backwards; hard where a digit carries."""
    a, b = rng.randrange(100), rng.randrange(10)
    carries = sum(a % power + b % power >= power for power in (10, 100))
    return Sample(prompt=f"A:{a:02d}+{b}=", answer=str(a + b)[::-1] + "\n", stratum="hard" if carries else "easy")


def json_object(rng: Random) -> Sample:
    """Pairs `k=v` as a JSON object; hard above two pairs."""
    n = rng.randint(1, 3)
    keys = rng.sample(LOWER, n)
    pairs = [(key, rng.randrange(100)) for key in keys]
    return Sample(
        prompt="J:" + ",".join(f"{key}={value}" for key, value in pairs) + ">",
        answer="{" + ",".join(f'"{key}":{value}' for key, value in pairs) + "}\n",
        stratum="hard" if n > 2 else "easy",  # noqa: PLR2004 -- three pairs are the longest
    )


def tool_call(rng: Random) -> Sample:
    """A call of a known tool as JSON, or REFUSE for the tools that must not be called."""
    tool = rng.choice(WORLD.tools)
    x, y = rng.randrange(100), rng.randrange(100)
    refuse = tool in WORLD.refused
    call = json.dumps({"tool": tool, "args": {"x": x, "y": y}}, separators=(",", ":"))
    return Sample(
        prompt=f"T:{tool} {x} {y}>",
        answer=("REFUSE" if refuse else call) + "\n",
        stratum="refuse" if refuse else "call",
    )


_OPENING, _CLOSING = "([{", ")]}"
_DEEP = 4


def brackets(rng: Random) -> Sample:
    """The closing brackets that are still owed; trained, not evaluated."""
    owed: list[str] = []
    text = ""
    for _ in range(rng.randint(3, 14)):
        if owed and rng.random() < 0.35:  # noqa: PLR2004 -- the share of closing brackets in training
            text += _CLOSING[_OPENING.index(owed.pop())]
        else:
            owed.append(rng.choice(_OPENING))
            text += owed[-1]
    closing = "".join(_CLOSING[_OPENING.index(char)] for char in reversed(owed))
    return Sample(prompt=f"B:{text}>", answer=closing + "\n", stratum="hard" if len(owed) > _DEEP else "easy")


_LONG_COPY = 9


def copy(rng: Random) -> Sample:
    """Repeat 3 to 16 characters; hard above 9."""
    n = rng.randint(3, 16)
    text = "".join(rng.choice(LOWER + DIGITS) for _ in range(n))
    return Sample(prompt=f"C:{text}>", answer=text + "\n", stratum="hard" if n > _LONG_COPY else "easy")


def words(rng: Random, n: int) -> list[str]:
    """A walk of `n` words through the followers."""
    out = [rng.choice(WORLD.words)]
    while len(out) < n:
        out.append(rng.choices(WORLD.followers[out[-1]], _FOLLOWER_WEIGHTS)[0])
    return out


def text(rng: Random) -> Sample:
    return Sample(prompt="W:", answer=" ".join(words(rng, rng.randint(6, 16))) + "\n", stratum="lm")


def haystack(
    rng: Random, length: int, *, questions: int, density: int = 32, distinct: bool = False
) -> tuple[str, list[Question]]:
    """A text of words with single-character keys and values in it, and questions about them.

    Args:
        rng: the stream.
        length: tokens (characters) of the text, its marks included.
        questions: how many; at most the number of needles where `distinct`.
        density: characters a needle; at most 26 needles.
        distinct: no needle is asked for twice.

    Returns:
        The text, to which "?" and a key are appended to ask, and the questions.
    """
    n = min(26, max(2, length // density))
    keys = rng.sample(UPPER, n)
    value_of = {key: rng.choice(LOWER + DIGITS) for key in keys}
    budget = max(0, length - 3 * n - 4)
    filler = ""
    while len(filler) < budget:
        filler += " ".join(words(rng, 20)) + " "
    filler = filler[:budget]
    cuts = sorted(rng.randrange(len(filler) + 1) for _ in range(n)) if filler else [0] * n
    out, done = "N:", 0
    for cut, key in zip(cuts, keys, strict=True):
        out += filler[done:cut] + key + value_of[key] + ";"
        done = cut
    out += filler[done:] + "|"
    asked = rng.sample(range(n), min(questions, n)) if distinct else [rng.randrange(n) for _ in range(questions)]
    return out, [Question(key=keys[i], value=value_of[keys[i]]) for i in asked]


_TRAINED: tuple[tuple[Callable[[Random], Sample], float], ...] = (
    (trained_fact, 0.26),
    (addition, 0.20),
    (json_object, 0.14),
    (tool_call, 0.14),
    (brackets, 0.08),
    (copy, 0.12),
    (text, 0.06),
)
_GENERATORS, _SHARES = [g for g, _ in _TRAINED], [share for _, share in _TRAINED]


def _train_haystack(rng: Random, length: int) -> tuple[list[int], list[int]]:
    questions = max(8, length // 6 if length <= 128 else length // 12)  # noqa: PLR2004 -- more where it is short
    size = max(40, rng.randint(length // 3, length - 3 * questions - 2))
    context, asked = haystack(rng, size, questions=questions, density=rng.choice([6, 12, 24, 40]))
    ids = encode(context)
    mask = [0] * len(ids)
    for question in asked:
        ids += encode("?" + question.key + question.value)
        mask += [0, 0, 1]
    return [*ids, NEWLINE], [*mask, 0]


def _train_repetition(rng: Random, length: int) -> tuple[list[int], list[int]]:
    n = rng.randint(6, 40)
    unit = encode("".join(rng.choice(UPPER + LOWER + DIGITS) for _ in range(n)) + "=")
    ids, mask = list(unit), [0] * len(unit)
    while len(ids) + 1 < min(length + 1, 4 * n):
        ids += unit
        mask += [0] + [1] * (len(unit) - 1)
    return [*ids, NEWLINE], [*mask, 0]


def train_seq(rng: Random, length: int, needle_share: float, repeat_share: float = 0.15) -> tuple[list[int], list[int]]:
    """One training sequence and its mask, each of `length` + 1; 1 marks a supervised target."""
    ids, mask = [BOS], [0]
    kind = rng.random()
    if kind < needle_share + repeat_share:
        make = _train_haystack if kind < needle_share else _train_repetition
        start, start_mask = make(rng, length)
        ids += start
        mask += start_mask
    while len(ids) < length + 1:
        sample = rng.choices(_GENERATORS, _SHARES)[0](rng)
        prompt, answer = encode(sample.prompt), encode(sample.answer)
        ids += prompt + answer
        mask += [0] * len(prompt) + [1] * len(answer)
    return ids[: length + 1], mask[: length + 1]
