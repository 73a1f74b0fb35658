"""Tests and bounds of a paired drop: how many items a candidate loses net, of those that both were asked."""

from __future__ import annotations

import math
from statistics import NormalDist

_STEPS = 60
"""Halvings of the range of drops: bounds are exact to 1e-15 or so."""


def critical(alpha: float, clusters: int | None = None) -> float:
    """What a one-sided test of level alpha compares with: of the normal, or of Student's t over clusters.

    Source: the expansion of Student's t about the normal, Abramowitz and Stegun 26.7.5: within 0.001 from nine degrees
    of freedom on.
    """
    z = NormalDist().inv_cdf(1 - alpha)
    if clusters is None:
        return z
    free = clusters - 1
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / free + second / free**2 + third / free**3


def tango(lost: float, gained: float, n: float, drop: float) -> float:
    """The score statistic of the hypothesis that the true drop is `drop`; far below 0 where it is smaller.

    Args:
        lost: items that the reference has right and the candidate wrong; a fraction where it is a mean of runs.
        gained: the other way round.
        n: items that both were asked.
        drop: -1 to 1, as a share of the items.

    Source: Tango, Statistics in Medicine 17 (1998) 891-908.
    """
    above = lost - gained - n * drop
    if above == 0:
        return 0.0
    w = lost + gained + drop * (lost - gained - 2 * n)
    share = (w + math.sqrt(max(w * w + 8 * n * gained * drop * (1 - drop), 0.0))) / (4 * n)
    variance = n * (2 * share + drop * (1 - drop))
    return above / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, above)


def bounds(lost: float, gained: float, n: float, *, at: float) -> tuple[float, float]:
    """The drops that the score does not reject, from the least to the most.

    Args:
        lost: as in `tango`.
        gained: likewise.
        n: likewise.
        at: what the score's size is compared with, of `critical`.
    """
    estimate = (lost - gained) / n
    return (
        _edge(lost, gained, n, inside=estimate, outside=-1.0, at=at),
        _edge(lost, gained, n, inside=estimate, outside=1.0, at=at),
    )


def mcnemar(lost: int, gained: int) -> float:
    """The chance of as many losses or more among the items that differ, were both directions as likely; exact."""
    differ = lost + gained
    return float(sum(math.comb(differ, k) for k in range(lost, differ + 1)) / 2**differ)


def _edge(lost: float, gained: float, n: float, *, inside: float, outside: float, at: float) -> float:
    """Between a drop that is not rejected and one that is, where the score turns from the one to the other."""
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        if abs(tango(lost, gained, n, middle)) <= at:
            inside = middle
        else:
            outside = middle
    return inside
