"""From answers to what a test of a paired drop needs: losses, gains, and how much the items say for themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Right = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Two deployments over the same n items.

    lost, gained: items that only the reference, or only the candidate, has right; over several runs the mean of all
    pairs of them. clusters: groups of items that belong together. effect: how many times the variance of the drop is
    that of n independent items asked once a side; below 1 where repeats make it smaller.
    """

    n: int
    lost: float
    gained: float
    clusters: int
    effect: float

    @property
    def drop(self) -> float:
        return (self.lost - self.gained) / self.n

    @property
    def churn(self) -> float:
        """The share of items that differ."""
        return (self.lost + self.gained) / self.n

    @property
    def independent(self) -> bool:
        """Every item stands for itself and was asked once a side: exact tests hold."""
        return self.clusters == self.n and self.effect == 1


def pair(reference: Right, candidate: Right, clusters: Sequence[str]) -> Pairs:
    """What two deployments' answers come to.

    Args:
        reference: [runs, n] whether it is right.
        candidate: [runs, n] of the same items in the same order.
        clusters: [n] items of one name are no independent evidence: one template, one haystack.

    Raises:
        ValueError: no items, or another number of them on a side.

    Source: design effect as in Rao and Scott, Biometrics 48 (1992) 577-585; variance between clusters, with the
    correction G / (G - 1).
    """
    n = len(clusters)
    if not n or reference.shape[1:] != (n,) or candidate.shape[1:] != (n,) or not len(reference) or not len(candidate):
        raise ValueError(f"answers of shape {reference.shape} and {candidate.shape} over {n} items do not pair")
    had, has = reference.mean(axis=0), candidate.mean(axis=0)
    lost, gained = float((had * (1 - has)).sum()), float(((1 - had) * has).sum())
    names, group = np.unique(np.asarray(clusters), return_inverse=True)
    return Pairs(
        n=n,
        lost=lost,
        gained=gained,
        clusters=len(names),
        effect=_effect(had - has, group, (lost, gained), runs=(len(reference), len(candidate))),
    )


def churn(runs: Right) -> float | None:
    """The share of items on which two runs of one deployment differ, over all pairs of [runs, n]; None below two."""
    if len(runs) < 2:  # noqa: PLR2004 - a pair
        return None
    return float(np.mean([(one != other).mean() for one, other in combinations(runs, 2)]))


def _effect(
    drops: NDArray[np.float64], group: NDArray[np.intp], differ: tuple[float, float], *, runs: tuple[int, int]
) -> float:
    """Variance of the mean drop between clusters, over that of independent single pairs; 1 where neither is known.

    Repeats take away at most the noise of single runs, and never count for more than so many runs would.
    """
    n, (lost, gained) = len(drops), differ
    groups = int(group.max()) + 1
    alone = lost + gained - (lost - gained) ** 2 / n
    if alone <= 0 or groups < 2:  # noqa: PLR2004 - of one cluster no variance is known
        return 1.0
    if groups == n and runs == (1, 1):
        return 1.0
    sums = np.bincount(group, weights=drops - drops.mean(), minlength=groups)
    between = groups / (groups - 1) * float((sums**2).sum())
    return max(between / alone, (1 / runs[0] + 1 / runs[1]) / 2)
