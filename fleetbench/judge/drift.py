"""Whether the machine itself changed its speed while a run was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LIMIT_RATIO = 0.10
"""How far from 1 a control may be: repeats on a quiet machine spread over 1 to 5 %, so twice that is no noise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """`worst_ratio` is the control farthest from 1; None without a control, which is no drift that is known."""

    drifted: bool
    worst_ratio: float | None

    @property
    def change_pct(self) -> float | None:
        return None if self.worst_ratio is None else 100 * (self.worst_ratio - 1)


def drifted(ratios: Iterable[float]) -> Drift:
    """The verdict over a run's control cells.

    Args:
        ratios: tok/s of the control at the end over the same cell's at first, one a cell.

    Returns:
        Drifted where any cell is more than LIMIT_RATIO off 1, in either direction.
    """
    worst = max(ratios, key=lambda ratio: abs(ratio - 1), default=None)
    out = worst is not None and not 1 - LIMIT_RATIO <= worst <= 1 + LIMIT_RATIO
    return Drift(drifted=out, worst_ratio=worst)
