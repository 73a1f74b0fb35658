"""Items that used to pass and now fail, a few of every kind, to be read side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from fleetbench.judge.parity.gate import Answers
from fleetbench.judge.parity.losses import Asked, match

MOST = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An item with what each deployment said to it in its first run."""

    item_id: str
    category: str
    stratum: str | None
    context_tok: int
    expected: str
    before: str | None
    after: str | None


def examples(reference: Sequence[Answers], candidate: Sequence[Answers]) -> tuple[Example, ...]:
    """At most `MOST` items that the reference has right in all runs and the candidate in none.

    Categories take turns, and in each its strata; those that lost the largest share come first.
    """
    asked = match(reference, candidate)
    turns = [_in_turns(alike, _stratum) for alike in _worst_first(asked, _category).values()]
    chosen = list(_alternate(turns))[:MOST]
    order = list(_worst_first(asked, _category))
    return tuple(_example(one) for one in sorted(chosen, key=lambda one: order.index(one.item.category)))


def _category(one: Asked) -> str:
    return one.item.category


def _stratum(one: Asked) -> str:
    return one.item.stratum or ""


def _in_turns(asked: Sequence[Asked], kind: Callable[[Asked], str]) -> list[Asked]:
    """The lost ones of several items, alternating between kinds."""
    return list(_alternate([[one for one in alike if one.now_wrong] for alike in _worst_first(asked, kind).values()]))


def _worst_first(asked: Sequence[Asked], kind: Callable[[Asked], str]) -> Mapping[str, list[Asked]]:
    """Items by kind, the kind that lost the largest share of its items first."""
    kinds: dict[str, list[Asked]] = {}
    for one in asked:
        kinds.setdefault(kind(one), []).append(one)
    return dict(sorted(kinds.items(), key=lambda each: (-_share(each[1]), each[0])))


def _share(asked: Sequence[Asked]) -> float:
    return sum(one.now_wrong for one in asked) / len(asked)


def _alternate(queues: Sequence[Sequence[Asked]]) -> Iterator[Asked]:
    return (one for one in chain.from_iterable(zip_longest(*queues)) if one is not None)


def _example(one: Asked) -> Example:
    item = one.item
    return Example(
        item_id=item.item_id,
        category=item.category,
        stratum=item.stratum,
        context_tok=item.context_tok,
        expected=item.expected,
        before=item.answer,
        after=one.after[0].answer,
    )
