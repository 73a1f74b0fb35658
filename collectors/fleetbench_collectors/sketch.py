"""DDSketch: a histogram with logarithmic bins, mergeable, of bounded relative error (Masson et al., VLDB 2019)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

ACCURACY = 0.01
"""Relative error of a quantile: at most 1 %."""
GAMMA = (1 + ACCURACY) / (1 - ACCURACY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """Bin i holds values in (gamma^(i-1), gamma^i]; `zero` counts values that are exactly 0."""

    gamma: float
    zero: int
    bins: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def count(self) -> int:
        return self.zero + sum(self.counts)

    def row(self) -> dict[str, Any]:
        """The value of a column of type `tables.SKETCH`."""
        return {
            "gamma": self.gamma,
            "zero": self.zero,
            "bins": list(self.bins),
            "counts": list(self.counts),
        }


def from_row(row: Mapping[str, Any]) -> Sketch:
    return Sketch(
        gamma=float(row["gamma"]),
        zero=int(row["zero"]),
        bins=tuple(row["bins"]),
        counts=tuple(row["counts"]),
    )


def build(values: NDArray[np.float64]) -> Sketch:
    """The sketch of [n] finite values >= 0, in whatever unit they have.

    Raises:
        ValueError: a value is negative, infinite or NaN.
    """
    if values.size and not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError("a sketch holds finite values that are not negative")
    positive = values[values > 0]
    index = np.ceil(np.log(positive) / math.log(GAMMA)).astype(np.int64)
    bins, counts = np.unique(index, return_counts=True)
    return Sketch(
        gamma=GAMMA,
        zero=int(values.size - positive.size),
        bins=tuple(int(bin_) for bin_ in bins),
        counts=tuple(int(count) for count in counts),
    )


def merge(left: Sketch, right: Sketch) -> Sketch:
    """The sketch of both sets of values: the same as if it had been built from them all.

    Raises:
        ValueError: their bins differ in width.
    """
    if left.gamma != right.gamma:
        raise ValueError(f"sketches of gamma {left.gamma} and {right.gamma} do not merge")
    counts = Counter(dict(zip(left.bins, left.counts, strict=True)))
    counts.update(dict(zip(right.bins, right.counts, strict=True)))
    bins = sorted(counts)
    return Sketch(
        gamma=left.gamma,
        zero=left.zero + right.zero,
        bins=tuple(bins),
        counts=tuple(counts[bin_] for bin_ in bins),
    )


def quantile(sketch: Sketch, q: float) -> float | None:
    """The value of rank floor(q * (n - 1)), within 1 % of the exact one.

    Args:
        sketch: of values in any unit.
        q: 0 to 1.

    Returns:
        In the unit of the values; None where the sketch is empty.

    Raises:
        ValueError: q is outside of 0 to 1.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"a quantile lies between 0 and 1, not at {q}")
    if not sketch.count:
        return None
    rank = math.floor(q * (sketch.count - 1))
    seen = sketch.zero
    if rank < seen:
        return 0.0
    for bin_, count in zip(sketch.bins, sketch.counts, strict=True):
        seen += count
        if rank < seen:
            return float(2 * sketch.gamma**bin_ / (sketch.gamma + 1))
    raise ValueError("the sketch's counts are not positive")
