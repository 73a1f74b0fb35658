"""What counts as right, and the totals of a suite."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from fleetbench_collectors.quality.suite import Item


def is_correct(item: Item, answer: str) -> bool:
    """Exact text, to the final newline: no trimming, no case folding.

    JSON and tool calls are compared as text too: the model was trained on one spelling of each object, so
    another spelling is a deviation from the reference and counts as wrong.
    """
    return answer == item.answer


def totals(scored: Iterable[tuple[str, bool | None]]) -> dict[str, dict[str, int]]:
    """Per category: items, answered and correct, from (category, correct); None is no answer."""
    counts: dict[str, Counter[str]] = {}
    for category, correct in scored:
        count = counts.setdefault(category, Counter(items=0, answered=0, correct=0))
        count["items"] += 1
        count["answered"] += correct is not None
        count["correct"] += correct is True
    return {category: dict(count) for category, count in counts.items()}
