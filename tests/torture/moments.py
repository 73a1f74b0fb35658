"""What is done to a fleet, when and to whom: a sequence that a seed decides alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = (
    "controller", "actor", "raylet", "engine", "guard", "loader", "network", "disk-warehouse", "disk-node", "freeze",
)  # fmt: skip
MORE_KINDS = ("head",)
"""By --only alone: Ray's head forgets its cluster, and all nodes have to come back."""
AIMS = {
    "head": ("now", "trial"),
    "controller": ("now", "trial", "commit", "start", "telling"),
    "actor": ("now", "trial", "commit", "start"),
    "raylet": ("now", "trial", "start"),
    "engine": ("now", "trial", "start"),
    "guard": ("now", "trial", "start"),
    "loader": ("trial",),
    "network": ("now", "trial", "start"),
    "disk-warehouse": ("now", "trial"),
    "disk-node": ("now", "start"),
    "freeze": ("trial",),
}
LASTS_S = {"network": (1.0, 25.0), "disk-warehouse": (1.0, 6.0), "disk-node": (1.0, 6.0), "freeze": (60.0, 60.0)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """aim: what has to be seen happening first; after_s: since the moment before; pick: which of several targets."""

    number: int
    kind: str
    aim: str
    after_s: float
    pick: float
    lasts_s: float

    def __str__(self) -> str:
        lasts = f", for {self.lasts_s:.1f} s" if self.lasts_s else ""
        return f"#{self.number} {self.kind} at {self.aim}, {self.after_s:.1f} s after the last{lasts}"


def moment(seed: int, number: int, kinds: Sequence[str] = KINDS, hurry: float = 1.0) -> Moment:
    """The moment of that number; each kind comes once in every len(kinds) of them.

    hurry: a factor on the pauses; below 1 a network is not cut for longer than a node is missed.
    """
    turn, place = divmod(number, len(kinds))
    order = list(kinds)
    random.Random(f"{seed} turn {turn}").shuffle(order)  # noqa: S311 - repeatable by seed
    chance = random.Random(f"{seed} moment {number} {kinds}")  # noqa: S311 - as above
    kind = order[place]
    low, high = LASTS_S.get(kind, (0.0, 0.0))
    if hurry < 1.0 and kind == "network":
        high *= 0.4
    return Moment(
        number=number,
        kind=kind,
        aim=chance.choice(AIMS[kind]),
        after_s=chance.uniform(0.2, 6.0) * hurry,
        pick=chance.random(),
        lasts_s=chance.uniform(low, high),
    )
