"""The suite `general`: its items for one context, its scoring, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fleetbench_collectors.quality.general import (
    instruction,
    json_schema,
    language,
    needle,
    numbers,
    refusal,
    tool_call,
)
from fleetbench_collectors.quality.general.item import Item, Reply

MAX_ITEMS = 1000
"""Of each category: what the templates of `instruction` hold."""
MIN_CONTEXT_TOK = needle.LENGTHS_TOK[0]
"""Below the shortest haystack the suite is refused: it would be another suite without needles."""

_MAKE: dict[str, Callable[[int, int, int], Iterator[Item]]] = {
    needle.CATEGORY: needle.items,
    numbers.ARITHMETIC: lambda n, seed, _: numbers.arithmetic(n, seed),
    numbers.WORD_PROBLEM: lambda n, seed, _: numbers.word_problems(n, seed),
    tool_call.CATEGORY: lambda n, seed, _: tool_call.items(n, seed),
    json_schema.CATEGORY: lambda n, seed, _: json_schema.items(n, seed),
    instruction.CATEGORY: instruction.items,
    refusal.CATEGORY: lambda n, seed, _: refusal.items(n, seed),
    language.CATEGORY: lambda n, seed, _: language.items(n, seed),
}
_RIGHT: dict[str, Callable[[Item, Reply], bool]] = {
    needle.CATEGORY: needle.is_correct,
    numbers.ARITHMETIC: numbers.is_sum,
    numbers.WORD_PROBLEM: numbers.is_solution,
    tool_call.CATEGORY: tool_call.is_correct,
    json_schema.CATEGORY: json_schema.is_correct,
    instruction.CATEGORY: instruction.is_correct,
    refusal.CATEGORY: refusal.is_correct,
    language.CATEGORY: language.is_correct,
}
CATEGORIES = tuple(_MAKE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Prompt tokens are estimated and count a shared haystack each time; output tokens are the most there can be."""

    items: int
    prompt_tok: int
    output_tok: int

    def minutes(self, *, prompt_tok_s: float, output_tok_s: float) -> float:
        """At the given speeds of the whole engine, all of its slots together."""
        return (self.prompt_tok / prompt_tok_s + self.output_tok / output_tok_s) / 60


def general(items: int, seed: int, context_tok: int) -> list[Item]:
    """`items` of every category, the longest prompts that `context_tok` holds.

    Raises:
        ValueError: `items` out of range, or a context below `MIN_CONTEXT_TOK`.
    """
    if not 1 <= items <= MAX_ITEMS:
        raise ValueError(f"the general suite has 1 to {MAX_ITEMS} items a category, not {items}")
    if context_tok < MIN_CONTEXT_TOK:
        raise ValueError(f"a context of {context_tok} tokens; the general suite needs {MIN_CONTEXT_TOK}")
    return [item for make in _MAKE.values() for item in make(items, seed, context_tok)]


def is_correct(item: Item, reply: Reply) -> bool:
    return _RIGHT[item.category](item, reply)


def cost(items: Sequence[Item]) -> Cost:
    return Cost(
        items=len(items),
        prompt_tok=sum(item.prompt_tok for item in items),
        output_tok=sum(item.max_tokens for item in items),
    )
