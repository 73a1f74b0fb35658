"""What a candidate lost in a group of items, and whether one group is shown to have lost more than another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fleetbench.judge.parity.gate import Answer, Answers
from fleetbench.judge.parity.paired import Pairs, pair
from fleetbench.judge.parity.score import mcnemar
from fleetbench.judge.parity.verdict import FEWEST_CLUSTERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An item with all that was said to it; before: by each run of the reference, after: by each of the candidate."""

    before: tuple[Answer, ...]
    after: tuple[Answer, ...]

    @property
    def item(self) -> Answer:
        return self.before[0]

    @property
    def now_wrong(self) -> bool:
        """The reference has it right in all runs, the candidate in none."""
        return all(one.correct for one in self.before) and not any(one.correct for one in self.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A group of items; right: how many the reference has right, a mean over its runs."""

    right: float
    pairs: Pairs

    @property
    def share(self) -> float:
        """Lost of what the reference has right."""
        return self.pairs.lost / self.right if self.right else 0.0

    @property
    def effect(self) -> float:
        """What counts are divided by; repeats never make them larger."""
        return max(1.0, self.pairs.effect)

    @property
    def tellable(self) -> bool:
        return self.pairs.independent or self.pairs.clusters >= FEWEST_CLUSTERS


def match(reference: Sequence[Answers], candidate: Sequence[Answers]) -> list[Asked]:
    """The items that every run answered, by their ids; a silent one tells nothing about what was lost."""
    before, after = ([{one.item_id: one for one in run} for run in runs] for runs in (reference, candidate))
    ids = sorted(set.intersection(*(set(run) for run in [*before, *after]))) if before and after else []
    found = [
        Asked(before=tuple(run[item_id] for run in before), after=tuple(run[item_id] for run in after))
        for item_id in ids
    ]
    return [one for one in found if all(said.correct is not None for said in (*one.before, *one.after))]


def loss(asked: Sequence[Asked], good: Callable[[Answer], bool] = lambda answer: bool(answer.correct)) -> Loss | None:
    """What became worse in some items, where `good` says what it was; None of no items."""
    if not asked:
        return None
    had = np.array([[good(said) for said in one.before] for one in asked], dtype=np.bool_).T
    has = np.array([[good(said) for said in one.after] for one in asked], dtype=np.bool_).T
    return Loss(right=float(had.mean(axis=0).sum()), pairs=pair(had, has, [one.item.cluster for one in asked]))


def regressed(group: Loss) -> float:
    """The chance of such a net loss where nothing was lost: exact McNemar over counts divided by the design effect."""
    if not group.tellable:
        return 1.0
    return mcnemar(math.floor(group.pairs.lost / group.effect), math.ceil(group.pairs.gained / group.effect))


def loses_less(group: Loss, than: Loss, *, ratio: float) -> float:
    """The chance of such counts where `group` loses `ratio` times the share that `than` does, or more.

    Losses of rare events follow Poisson's law, and given their sum the binomial; real ones vary less, so the test errs
    towards saying nothing. So does counting gains as losses undone in `than` alone.

    Source: Przyborowski and Wilenski, Biometrika 31 (1940) 313-323.
    """
    if not (group.tellable and than.tellable and group.right and than.right):
        return 1.0
    few = math.ceil(group.pairs.lost / group.effect)
    many = math.floor(max(than.pairs.lost - than.pairs.gained, 0.0) / than.effect)
    exposed, other = ratio * group.right / group.effect, than.right / than.effect
    return at_most(few, few + many, exposed / (exposed + other))


def at_most(k: int, n: int, p: float) -> float:
    """The chance of k successes or fewer among n trials, each of chance p, between 0 and 1."""
    whole = math.lgamma(n + 1)
    terms = (
        math.exp(whole - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * math.log(p) + (n - i) * math.log1p(-p))
        for i in range(k + 1)
    )
    return min(1.0, math.fsum(terms))
