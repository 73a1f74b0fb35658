"""What the suite asks and what comes back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

NAME = "general"
VERSION = 1
SUITE = f"{NAME}/{VERSION}"
CHARS_PER_TOK = 3.5
"""An estimate, low for English prose so that a prompt rather falls short of its length than bursts the context."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One question; `want` is what its rule checks, `expected` a right answer as text (calls as JSON)."""

    item_id: str
    category: str
    stratum: str
    cluster: str
    prompt: str
    want: Any
    expected: str
    max_tokens: int
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def prompt_tok(self) -> int:
        """Estimated; what the engine counted is what is recorded."""
        tools = len(json.dumps(self.tools)) if self.tools else 0
        return int((len(self.prompt) + tools) / CHARS_PER_TOK) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """`calls`: (name, arguments as the engine spelled them)."""

    text: str
    calls: tuple[tuple[str, str], ...] = ()


def stream(*parts: object) -> Random:
    return Random("/".join(str(part) for part in parts))  # noqa: S311 -- items are made by seed, nothing is secret


def digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def make(
    category: str,
    stratum: str,
    prompt: str,
    want: Any,
    expected: str,
    *,
    max_tokens: int,
    cluster: str | None = None,
    tools: tuple[dict[str, Any], ...] = (),
) -> Item:
    """`cluster`: what it shares with other items (a template, a haystack), by its text or name."""
    content = (prompt, json.dumps(want, sort_keys=True), json.dumps(tools, sort_keys=True))
    item_id = digest(SUITE, category, *content)
    return Item(
        item_id=item_id,
        category=category,
        stratum=stratum,
        cluster=item_id if cluster is None else digest(SUITE, category, cluster),
        prompt=prompt,
        want=want,
        expected=expected,
        max_tokens=max_tokens,
        tools=tools,
    )


def distinct(n: int, draw: Callable[[int], Item]) -> Iterator[Item]:
    """`n` items without a repeated prompt; `draw` gets the count so far, to alternate strata.

    Raises:
        ValueError: the templates do not hold that many.
    """
    seen: set[str] = set()
    for _ in range(50 * n + 50):
        if len(seen) == n:
            return
        item = draw(len(seen))
        if item.prompt not in seen:
            seen.add(item.prompt)
            yield item
    if len(seen) < n:
        raise ValueError(f"only {len(seen)} of {n} different items could be made")
