"""How many items a parity gate takes, by formula and by simulation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fleetbench.judge.parity.score import critical, tango

MOST_ITEMS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """A candidate as it truly is: the share of items that differ from the reference's, and the drop."""

    churn: float
    drop: float = 0.0

    def __post_init__(self) -> None:
        if not (0 <= self.churn <= 1 and abs(self.drop) <= self.churn):
            raise ValueError(f"a drop of {self.drop} needs a churn of at least that, and at most 1, not {self.churn}")


def items_for(*, power: float, margin: float, churn: float, drop: float = 0.0, alpha: float = 0.05) -> int:
    """Items by the normal formula for a paired difference; the score test itself wants some more or less.

    Args:
        power: the chance that the candidate passes.
        margin: the acceptable drop.
        churn: share of items that truly differ.
        drop: the true one, below the margin.
        alpha: level of the one-sided test.

    Raises:
        ValueError: a true drop at the margin or beyond passes at no number of items.
    """
    if drop >= margin:
        raise ValueError(f"a true drop of {drop} does not pass a margin of {margin} at any number of items")
    reach = critical(alpha) + NormalDist().inv_cdf(power)
    return max(1, math.ceil(reach**2 * (churn - drop**2) / (margin - drop) ** 2))


def draw(truth: Truth, n: int, replicates: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """[replicates, 2] losses and gains of so many candidates over n items each."""
    half = truth.churn / 2
    shares = [half + truth.drop / 2, half - truth.drop / 2, 1 - truth.churn]
    return generator.multinomial(n, shares, size=replicates)[:, :2]


def passing(lost_gained: NDArray[np.int64], n: int, margin: float, alpha: float = 0.05) -> float:
    """The share of [replicates, 2] candidates whose drop is shown to be below the margin."""
    kinds, times = np.unique(lost_gained, axis=0, return_counts=True)
    passed = [tango(int(lost), int(gained), n, margin) < -critical(alpha) for lost, gained in kinds]
    return float(times[passed].sum()) / len(lost_gained)


def power_at(n: int, truth: Truth, margin: float, *, replicates: int, seed: int) -> float:
    """The share of simulated candidates that pass at n items."""
    return passing(draw(truth, n, replicates, np.random.default_rng(seed)), n, margin)


def items_simulated(*, power: float, margin: float, truth: Truth, replicates: int, seed: int) -> int | None:
    """The least number of items from which on the simulated power stays at `power`; None above MOST_ITEMS.

    Power is not smooth in n: counts are whole. The search starts at the formula's number and goes on by 1 %.
    """
    start = items_for(power=power, margin=margin, churn=truth.churn, drop=truth.drop)

    def enough(n: int) -> bool:
        return power_at(n, truth, margin, replicates=replicates, seed=seed) >= power

    return _first(enough, start)


def _first(enough: Callable[[int], bool], start: int) -> int | None:
    """From `start` up or down, in steps of 1 %, to the first number that is enough where the one before is not."""
    n = max(start, 2)
    while enough(n) and n > 2:  # noqa: PLR2004 - of one item nothing passes
        n -= max(1, n // 100)
    while not enough(n):
        n += max(1, n // 100)
        if n > MOST_ITEMS:
            return None
    return n
