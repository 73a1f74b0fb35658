"""Launches that wait, in the order in which they should start. Pure.

The largest that has room goes first: sizes that only shrink leave no node in pieces that nothing fills. Before it goes
what may last to the end of the run by itself, for the end waits for it. Within a size the longest goes first, and
among those of about its length one whose weights are on the node already.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from fleetbench.plan.rules import Order
from fleetbench.plan.types import EngineLaunch, Trial

UNSURE = 2.0
"""A launch that would last to the end, took it so much longer, goes before larger ones: estimates are off, and many
such launches wait for room at once. Makespan over bound in `make bench-fleet`, where times are off by 30 %: 1.03 with
1.3, 1.005 with 1.6, 1.003 with 2, 1.004 with 3."""
ALIKE = 0.75
"""Of the longest one's time: as good as it, where its weights are on the node."""
LOOK = 8

Peers = tuple[int, str, str, frozenset[str]]
"""What launches have in common that have room on the same nodes: GPUs, engine, version, nodes to avoid."""
Line = tuple[int, Peers]
"""Peers of one priority: they start one after the other."""


@dataclass(slots=True, kw_only=True)
class Waiting:
    """A launch that wants to start: what is left of it, and what it went through.

    fruitless: starts in a row without a trial done; avoid: nodes on which it came to nothing; blamed: those of
    them that it counts against.
    """

    launch: EngineLaunch
    seconds: float
    priority: int
    serial: int
    attempt: int = 0
    trials: tuple[Trial, ...] = ()
    fruitless: int = 0
    avoid: frozenset[str] = frozenset()
    blamed: frozenset[str] = frozenset()

    @property
    def gpus(self) -> int:
        return self.launch.parallel.gpus

    @property
    def peers(self) -> Peers:
        engine = self.launch.engine
        return self.gpus, engine.name, engine.version, self.avoid

    @property
    def line(self) -> Line:
        return self.priority, self.peers


@dataclass(slots=True)
class Queue:
    """The waiting launches of one hardware kind."""

    order: Order
    _peers: dict[int, dict[Peers, list[tuple[float, int, Waiting]]]] = field(default_factory=dict)
    """By priority and what has room alike, the next one last."""
    _count: int = 0
    _seconds: dict[int, float] = field(default_factory=dict)
    """Of all of them, by GPUs."""

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Waiting]:
        return (one for peers in self._peers.values() for found in peers.values() for _, _, one in found)

    def add(self, one: Waiting) -> None:
        self._count += 1
        self._seconds[one.gpus] = self._seconds.get(one.gpus, 0.0) + one.seconds
        length = one.seconds if self.order == "balanced" else 0.0
        insort(self._peers.setdefault(one.priority, {}).setdefault(one.peers, []), (length, -one.serial, one))

    def gpu_s(self, step: int = 1) -> float:
        """GPU-seconds that all will keep from others; step: GPUs that one gets at least, and multiples of."""
        return sum(seconds * -(-gpus // step) * step for gpus, seconds in self._seconds.items())

    def candidates(self, remaining_s: float, *, alone: bool = False) -> Iterator[Waiting]:
        """The heads, by their turn.

        remaining_s: until all is done, at best; alone: whether each gets a node of its own: then sizes do not matter.
        """
        heads = self.heads()
        if self.order == "first-come":
            heads.sort(key=lambda one: (-one.priority, one.serial))
        else:
            heads.sort(key=lambda one: _turn(one, remaining_s, alone=alone))
        yield from heads

    def heads(self) -> list[Waiting]:
        """The next launch of each priority, size, engine and nodes to avoid."""
        return [found[-1][2] for peers in self._peers.values() for found in peers.values()]

    def like(self, head: Waiting, artifacts: Collection[str]) -> Waiting:
        """The head, or one of its size and about as long whose artifact is among these."""
        if self.order == "first-come" or head.launch.artifact_id in artifacts:
            return head
        found = self._peers[head.priority][head.peers]
        for _, _, one in reversed(found[-LOOK:]):
            if one.seconds >= ALIKE * head.seconds and one.launch.artifact_id in artifacts:
                return one
        return head

    def behind(self, head: Waiting) -> list[Waiting]:
        """What has room where the head has, in its turn."""
        return [one for _, _, one in reversed(self._peers[head.priority][head.peers][:-1])]

    def take(self, one: Waiting) -> None:
        self._count -= 1
        self._seconds[one.gpus] = max(0.0, self._seconds[one.gpus] - one.seconds)
        peers = self._peers[one.priority]
        found = peers[one.peers]
        del found[next(index for index in range(len(found) - 1, -1, -1) if found[index][2] is one)]
        if not found:
            del peers[one.peers]

    def clear(self) -> list[Waiting]:
        """All that waited, which waits no more."""
        left = sorted(self, key=lambda one: one.serial)
        self._peers.clear()
        self._seconds.clear()
        self._count = 0
        return left


def lasts(one: Waiting, remaining_s: float) -> bool:
    """Whether it may last to the end of the run; a control launch, which belongs there, only if it surely does."""
    return one.seconds * (UNSURE if one.priority >= 0 else 1.0) >= remaining_s


def _turn(one: Waiting, remaining_s: float, *, alone: bool) -> tuple[float, ...]:
    """What was asked for first; what may last to the end, the longest first; the others by priority and size."""
    if lasts(one, remaining_s):
        return -max(one.priority, 0), 0, -one.seconds, one.serial
    return -max(one.priority, 0), 1, -one.priority, 0 if alone else -one.gpus, -one.seconds, one.serial
