"""How many items a parity gate takes, and what some number of items can and cannot show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fleetbench.judge.parity.power import Truth, items_for, items_simulated, power_at

REPLICATES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Items of each category so that a candidate passes all of them with this power.

    simulated: None where no number up to a million is enough.
    """

    power: float
    categories: int
    by_formula: int
    simulated: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """What `n` items of a category can show.

    passes: the chance of a candidate with the true drop; false_ship: that of one that loses the whole margin.
    """

    n: int
    passes: float
    false_ship: float


def needs(
    *, margin: float, churn: float, drop: float, powers: Sequence[float], categories: int, seed: int
) -> list[Need]:
    """One category alone, and all of them jointly, for every power.

    Args:
        margin: the acceptable drop.
        churn: share of items that truly differ.
        drop: the candidate's true one, below the margin.
        powers: chances that it passes.
        categories: that all have to pass; each then needs the power's root.
        seed: of the simulation.

    Raises:
        ValueError: a drop at the margin or beyond, or above the churn.
    """
    found = []
    for power in powers:
        for joint in dict.fromkeys((1, categories)):
            each = power ** (1 / joint)
            truth = Truth(churn=churn, drop=drop)
            found.append(
                Need(
                    power=power,
                    categories=joint,
                    by_formula=items_for(power=each, margin=margin, churn=churn, drop=drop),
                    simulated=items_simulated(power=each, margin=margin, truth=truth, replicates=REPLICATES, seed=seed),
                )
            )
    return found


def shown(n: int, *, margin: float, churn: float, drop: float, seed: int) -> Shown:
    """What so many items can show, simulated.

    Raises:
        ValueError: a drop above the churn.
    """
    losing = Truth(churn=max(churn, margin), drop=margin)
    return Shown(
        n=n,
        passes=power_at(n, Truth(churn=churn, drop=drop), margin, replicates=REPLICATES, seed=seed),
        false_ship=power_at(n, losing, margin, replicates=REPLICATES, seed=seed),
    )
