"""The code items: small functions to write, made by seed, with hidden tests from a solution of ours."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from random import Random
from typing import Any

from fleetbench_collectors.quality import tasks
from fleetbench_collectors.quality.code.templates import TEMPLATES, Parameters, Template

CATEGORY = "code"
VERSION = 1
EXAMPLES = 2
DRAWN_TESTS = 12
MIN_DIFFERENT = 4
"""Different right values among an item's tests, so that an answer which ignores its argument fails."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeItem:
    """One function to write; `expected` has the right value of each of the hidden `calls`' arguments."""

    item_id: str
    category: str
    stratum: str
    cluster: str
    prompt: str
    entry: str
    parameters: Parameters
    calls: tuple[list[Any], ...]
    expected: tuple[Any, ...]


def make_items(n: int, seed: int) -> list[CodeItem]:
    """The first `n` items of a seed, one template after the other; no prompt comes twice.

    An item's cluster is its template: items of one template share what makes them hard.

    Raises:
        ValueError: `n` below 1.
    """
    if n < 1:
        raise ValueError(f"{n} code items were asked for; at least 1 is needed")
    out: list[CodeItem] = []
    seen: set[str] = set()
    for i in range(n):
        rng = tasks.stream(f"{seed}/{CATEGORY}/{VERSION}/{i}")
        item = _make(TEMPLATES[i % len(TEMPLATES)], rng)
        while item is None or item.prompt in seen:
            item = _make(TEMPLATES[i % len(TEMPLATES)], rng)
        seen.add(item.prompt)
        out.append(item)
    return out


def _make(template: Template, rng: Random) -> CodeItem | None:
    """One draw; None where its tests tell too little."""
    at = template.choose(rng)
    entry = f"{template.name}_{rng.randrange(1000):03d}"
    shown: list[list[Any]] = [template.draw(rng, at) for _ in range(EXAMPLES)]
    drawn = [*template.edges(at), *(template.draw(rng, at) for _ in range(DRAWN_TESTS))]
    calls = tuple(arguments for i, arguments in enumerate(drawn) if arguments not in [*shown, *drawn[:i]])
    expected = tuple(_solve(template, arguments, at) for arguments in calls)
    if len({json.dumps(value) for value in expected}) < MIN_DIFFERENT:
        return None
    prompt = _word(template, entry, at, shown)
    return CodeItem(
        item_id=_digest(CATEGORY, str(VERSION), prompt, json.dumps([calls, expected])),
        category=CATEGORY,
        stratum=template.stratum,
        cluster=template.name,
        prompt=prompt,
        entry=entry,
        parameters=at,
        calls=calls,
        expected=expected,
    )


def _solve(template: Template, arguments: list[Any], at: Parameters) -> Any:
    """The right value, of a copy: a solution may change its argument."""
    return template.reference(*json.loads(json.dumps(arguments)), **at)


def _word(template: Template, entry: str, at: Parameters, shown: list[list[Any]]) -> str:
    examples = [f"{entry}({', '.join(map(repr, args))}) returns {_solve(template, args, at)!r}" for args in shown]
    return "\n".join(
        [
            f"Write a Python function `{entry}({template.signature})`.",
            template.words.format(**at),
            "Examples:",
            *examples,
            "Use the standard library only. Answer with the code alone, in one block fenced by ```.",
        ]
    )


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
