"""The embedded suite: six categories of the synthetic tasks, made by seed, the same in every recipe and run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from fleetbench_collectors.quality import tasks

NAME = "embedded"
VERSION = 1
SUITE = f"{NAME}/{VERSION}"
NEEDLE_LENGTHS_TOK = (128, 256, 512, 1000)
QUESTIONS_PER_HAYSTACK = 8
MAX_ITEMS = len(tasks.FACT_KEYS)
"""Items of a category never repeat, and there are this many facts."""
CONTEXT_TOK = 1024
"""What one slot of the engine must hold: the longest haystack, a question and its answer."""

_SHORT: dict[str, Callable[[Random], tasks.Sample]] = {
    "facts": tasks.fact,
    "addition": tasks.addition,
    "json": tasks.json_object,
    "tool_call": tasks.tool_call,
    "copy": tasks.copy,
}
CATEGORIES = (*_SHORT, "needle")


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question; `answer` is the exact text that counts as right, a final newline included."""

    item_id: str
    category: str
    stratum: str
    cluster: str
    prompt: str
    answer: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


def embedded(items: int, seed: int) -> list[Item]:
    """The suite's items, by category, a cluster's items in a row.

    Args:
        items: of each category; 1 to `MAX_ITEMS`. No prompt comes twice.
        seed: of the draw; the tasks' world is always the same.

    Returns:
        `items` of every category. Needle: the lengths share them equally, with up to 8 different questions on
        one haystack, which is their cluster; an item of another category is its own cluster.

    Raises:
        ValueError: `items` out of range.
    """
    if not 1 <= items <= MAX_ITEMS:
        raise ValueError(f"the embedded suite has 1 to {MAX_ITEMS} items a category, not {items}")
    out: list[Item] = []
    for category in _SHORT:
        out.extend(_short(category, items, seed))
    for i, length in enumerate(NEEDLE_LENGTHS_TOK):
        share = (items + len(NEEDLE_LENGTHS_TOK) - 1 - i) // len(NEEDLE_LENGTHS_TOK)
        out.extend(_needles(length, share, seed))
    return out


def _short(category: str, n: int, seed: int) -> Iterator[Item]:
    rng = tasks.stream(f"{seed}/{category}")
    seen: set[str] = set()
    while len(seen) < n:
        sample = _SHORT[category](rng)
        if sample.prompt in seen:
            continue
        seen.add(sample.prompt)
        yield _item(category, sample.stratum, sample.prompt, sample.answer)


def _needles(length: int, n: int, seed: int) -> Iterator[Item]:
    rng = tasks.stream(f"{seed}/needle/{length}")
    left = n
    while left:
        text, asked = tasks.haystack(rng, length, questions=min(left, QUESTIONS_PER_HAYSTACK), distinct=True)
        cluster = _digest(text)
        for question in asked:
            yield _item("needle", str(length), f"{text}?{question.key}", question.value, cluster)
        left -= len(asked)


def _item(category: str, stratum: str, prompt: str, answer: str, cluster: str | None = None) -> Item:
    item_id = _digest(SUITE, category, prompt, answer)
    return Item(
        item_id=item_id,
        category=category,
        stratum=stratum,
        cluster=cluster or item_id,
        prompt=prompt,
        answer=answer,
        prompt_ids=(tasks.BOS, *tasks.encode(prompt)),
        answer_ids=tuple(tasks.encode(answer)),
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
