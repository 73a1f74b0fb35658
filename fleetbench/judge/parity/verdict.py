"""PASS, BLOCK or INCONCLUSIVE: of a category, and of a candidate over all categories."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from fleetbench.judge.parity.paired import Pairs
from fleetbench.judge.parity.power import items_for
from fleetbench.judge.parity.score import bounds, critical, mcnemar, tango

ALPHA = 0.05
FEWEST_CLUSTERS = 10
"""Below it the variance between clusters is hardly known, and nothing passes."""


class Verdict(StrEnum):
    PASS = "PASS"  # noqa: S105 - a verdict
    BLOCK = "BLOCK"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A category of a candidate.

    drop, low, high: of the share that is right, one-sided 95 % each; p_regressed: of the hypothesis that it lost
    nothing, beside the other categories (Holm); p_exact: alone, exact, where items are independent; wanted: items that
    it would take at power 0.8, None where more of the same would not pass; why: in words, where it is not PASS.
    """

    verdict: Verdict
    margin: float
    pairs: Pairs
    drop: float
    low: float
    high: float
    p_regressed: float
    p_exact: float | None
    wanted: int | None
    why: str | None


def judge(categories: Mapping[str, Pairs], margins: Mapping[str, float], *, looks: int = 1) -> dict[str, Judged]:
    """Every category against its margin.

    A category passes where the drop is shown to be below its margin; all have to, so the level of each needs no
    correction. It blocks where it is shown to be above, or shown to be a loss and measured at the margin or more: that
    is a claim about one category among several, so its level is corrected by Holm.

    Args:
        categories: by name, at least one.
        margins: the acceptable drop by category, above 0 and below 1.
        looks: how often the items are looked at while they grow in number; each has its share of the level.

    Raises:
        ValueError: a category without a margin, or a margin out of range.
    """
    for name in categories:
        if not 0 < margins[name] < 1:
            raise ValueError(f"the margin of {name} is {margins[name]}, not between 0 and 1")
    alpha = ALPHA / looks
    lossless = holm({name: _p(pairs, 0.0) for name, pairs in categories.items()})
    beyond = holm({name: _p(pairs, margins[name]) for name, pairs in categories.items()})
    return {
        name: _judged(pairs, margins[name], alpha, p_regressed=lossless[name], p_beyond=beyond[name])
        for name, pairs in categories.items()
    }


def overall(judged: Mapping[str, Judged]) -> Verdict:
    """Of a candidate: all categories pass, or one blocks, or it is not decided; nothing judged is not passed."""
    verdicts = {one.verdict for one in judged.values()}
    if Verdict.BLOCK in verdicts:
        return Verdict.BLOCK
    return Verdict.PASS if verdicts == {Verdict.PASS} else Verdict.INCONCLUSIVE


def noise_sigma(churn: float | None, n: int, *, floor: float) -> float:
    """Standard deviation of the difference of two runs of the reference over n items.

    Args:
        churn: share of items on which its runs differ; None where it ran once.
        n: items.
        floor: the least churn that is believed: a deterministic engine shows none.
    """
    return math.sqrt(max(churn or 0.0, floor) / n)


def holm(chances: Mapping[str, float]) -> dict[str, float]:
    """Chances of several claims, each corrected so that all that are at most alpha hold together at alpha."""
    found: dict[str, float] = {}
    most = 0.0
    for place, name in enumerate(sorted(chances, key=lambda name: chances[name])):
        most = max(most, min(1.0, (len(chances) - place) * chances[name]))
        found[name] = most
    return found


def _judged(pairs: Pairs, margin: float, alpha: float, *, p_regressed: float, p_beyond: float) -> Judged:
    at = critical(alpha, None if pairs.independent else pairs.clusters) if pairs.clusters > 1 else math.inf
    low, high = _bounds(pairs, at)
    blocks = p_beyond <= alpha or (p_regressed <= alpha and pairs.drop >= margin)
    few = not pairs.independent and pairs.clusters < FEWEST_CLUSTERS
    passes = high < margin and not few
    verdict = Verdict.BLOCK if blocks and not few else Verdict.PASS if passes else Verdict.INCONCLUSIVE
    wanted = _wanted(pairs, margin) if verdict is Verdict.INCONCLUSIVE else None
    return Judged(
        verdict=verdict,
        margin=margin,
        pairs=pairs,
        drop=pairs.drop,
        low=low,
        high=high,
        p_regressed=p_regressed,
        p_exact=mcnemar(round(pairs.lost), round(pairs.gained)) if pairs.independent else None,
        wanted=wanted,
        why=_why(pairs, verdict, wanted, few=few),
    )


def _why(pairs: Pairs, verdict: Verdict, wanted: int | None, *, few: bool) -> str | None:
    if verdict is Verdict.PASS:
        return None
    if verdict is Verdict.BLOCK:
        return f"a drop of {100 * pairs.drop:.1f} points is shown"
    if few:
        return f"{pairs.clusters} clusters of items are too few to know how they vary: {FEWEST_CLUSTERS} at least"
    if wanted is None:
        return "measured at the margin or beyond, and not shown: more items decide, and are not likely to pass it"
    return f"{pairs.n} items do not decide it: about {wanted:,} would"


def _bounds(pairs: Pairs, at: float) -> tuple[float, float]:
    if math.isinf(at):
        return -1.0, 1.0
    e = pairs.effect
    return bounds(pairs.lost / e, pairs.gained / e, pairs.n / e, at=at)


def _p(pairs: Pairs, margin: float) -> float:
    """The chance of such a drop or a larger one where the true one is `margin`."""
    e = pairs.effect
    score = tango(pairs.lost / e, pairs.gained / e, pairs.n / e, margin)
    return 0.5 * math.erfc(score / math.sqrt(2))


def _wanted(pairs: Pairs, margin: float) -> int | None:
    """Items for power 0.8 if the true drop is the measured one, or none where it gained."""
    drop = max(pairs.drop, 0.0)
    if drop >= margin:
        return None
    floor = 1 / (2 * pairs.n)  # of no item that differs the churn is not 0, only small
    found = items_for(power=0.8, margin=margin, churn=max(pairs.churn, floor, drop), drop=drop, alpha=ALPHA)
    return max(pairs.n + 1, math.ceil(found * pairs.effect))
