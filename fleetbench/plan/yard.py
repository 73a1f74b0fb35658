"""The nodes of one hardware kind: which GPUs are free, and which node a launch should get. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from packaging.version import InvalidVersion, Version

from fleetbench.plan.events import Seen
from fleetbench.plan.nodes import Node
from fleetbench.plan.types import EngineLaunch
from fleetbench.plan.waiting import Line, Waiting


@dataclass(slots=True, kw_only=True)
class Slot:
    """A node and what this run knows of it.

    mine: GPUs of this run, by launch; unfit: why it is not to be measured on, from the fleet; broken_until_s, broken:
    the same from its own failures; streak: launches in a row that came to nothing; lies: how often a launch found that
    it is not what it says; reserved: for whose next launch others are kept off it.
    """

    node: Node
    unfit: str | None = None
    mine: dict[str, int] = field(default_factory=dict)
    streak: int = 0
    broken: str | None = None
    broken_until_s: float = 0.0
    lies: int = 0
    artifacts: set[str] = field(default_factory=set)
    reserved: Line | None = None

    @property
    def units(self) -> int:
        """What can be had of it: GPUs, or the one CPU."""
        return max(1, self.node.gpus)

    @property
    def free(self) -> int:
        taken = sum(self.mine.values())
        if self.node.use == "whole" and taken:
            return 0
        return max(0, self.units - taken)

    @property
    def fit(self) -> bool:
        return self.unfit is None and self.broken is None

    @property
    def why(self) -> str | None:
        return self.unfit or self.broken

    def keeps(self, gpus: int) -> int:
        """GPUs that nobody else could have while a launch of so many ran on it."""
        return self.units if self.node.use == "whole" else gpus

    def runs(self, launch: EngineLaunch) -> bool:
        """Whether it has the launch's engine in its version, as far as anybody looked."""
        engines = self.node.engines
        return engines is None or same_version(engines.get(launch.engine.name), launch.engine.version)


def _open(slot: Slot, one: Waiting) -> bool:
    """Whether nothing but its GPUs keeps the launch from it."""
    return slot.runs(one.launch) and slot.reserved in (None, one.line)


@lru_cache(maxsize=1024)  # a version is parsed in microseconds, and asked for by every launch of every node
def same_version(one: str | None, other: str) -> bool:
    """Whether two versions are one, whatever build they name."""
    if one is None:
        return False
    try:
        return Version(one).public == Version(other).public
    except InvalidVersion:
        return one == other


@dataclass(slots=True)
class Yard:
    """Slots by node_id, and by how many GPUs are free on them."""

    slots: dict[str, Slot] = field(default_factory=dict)
    _free: dict[int, dict[str, None]] = field(default_factory=dict)
    _at: dict[str, int] = field(default_factory=dict)
    capacity: int = 0
    """GPUs of the nodes that may be measured on, this run's and free ones."""
    widest: int = 0
    """GPUs of the largest node that may be measured on; 0 where there is none."""
    _widest: dict[tuple[str, str], int] = field(default_factory=dict)
    """GPUs of the largest node for an engine and version."""
    whole: bool = False
    """Whether every one of them is for one launch alone."""

    def see(self, seen: Seen) -> None:
        slot = self.slots.get(seen.node.node_id)
        if slot is not None and (slot.node, slot.unfit) == (seen.node, seen.unfit):
            return
        slot = self.slots.setdefault(seen.node.node_id, Slot(node=seen.node))
        slot.node, slot.unfit = seen.node, seen.unfit
        self.update(slot)

    def forget(self, node_id: str) -> None:
        slot = self.slots.pop(node_id)
        self._leave(slot.node.node_id)
        self._recount()

    def hold(self, node_ids: Collection[str], launch_id: str, gpus: int) -> None:
        for node_id in node_ids:
            if (slot := self.slots.get(node_id)) is not None:
                slot.mine[launch_id] = gpus
                self._move(slot)

    def release(self, launch_id: str, node_ids: Collection[str]) -> None:
        for node_id in node_ids:
            if (slot := self.slots.get(node_id)) is not None and slot.mine.pop(launch_id, None) is not None:
                self._move(slot)

    def update(self, slot: Slot) -> None:
        """After a change of what is fit, or of who has what."""
        self._move(slot)
        self._recount()

    def room(self, one: Waiting, *, again: bool, sparing: bool = False) -> list[Slot]:
        """The nodes for it: the fullest that still has room, one that has its weights at best; none where none has.

        again: whether it may get those to avoid, for it would wait for others in vain; sparing: whether it may only
        get one where it keeps as few GPUs from others as it can.
        """
        if not self.widest:
            return []
        units, count = self.span(one.launch)
        if count > 1:
            empty = [slot for slot in self._with(units) if _open(slot, one)]
            empty.sort(key=lambda slot: slot.node.node_id in one.avoid)
            return empty[:count] if len(empty) >= count else []
        most = self.kept(one.launch) if sparing else None
        for free in sorted(self._free):
            if free >= one.gpus and (found := self._choose(free, one, again=again, most=most)) is not None:
                return [found]
        return []

    def span(self, launch: EngineLaunch) -> tuple[int, int]:
        """GPUs of the largest nodes that may be measured on and run it, and how many of them it takes; 0, 0: none."""
        key = (launch.engine.name, launch.engine.version)
        if key not in self._widest:
            fit = (slot.units for slot in self.slots.values() if slot.fit and slot.runs(launch))
            self._widest[key] = max(fit, default=0)
        units = self._widest[key]
        return units, -(-launch.parallel.gpus // units) if units else 0

    def able(self, launch: EngineLaunch) -> bool:
        """Whether nodes that may be measured on could run it, were they free."""
        units, count = self.span(launch)
        if count <= 1:
            return count == 1
        return sum(slot.fit and slot.runs(launch) and slot.units == units for slot in self.slots.values()) >= count

    def kept(self, launch: EngineLaunch) -> int:
        """GPUs that it would keep from others at least, where it can run."""
        units, count = self.span(launch)
        if count > 1:
            return units * count
        gpus = launch.parallel.gpus
        able = (slot for slot in self.slots.values() if slot.fit and slot.runs(launch) and slot.units >= gpus)
        return min((slot.keeps(gpus) for slot in able), default=gpus)

    def others_than(self, avoid: Collection[str], launch: EngineLaunch) -> bool:
        """Whether a node that may be measured on and could run it is not among those to avoid."""
        gpus = min(launch.parallel.gpus, self.span(launch)[0])
        return any(
            slot.fit and slot.runs(launch) and slot.units >= gpus
            for node_id, slot in self.slots.items()
            if node_id not in avoid
        )

    def _choose(self, free: int, one: Waiting, *, again: bool, most: int | None) -> Slot | None:
        best: Slot | None = None
        for slot in self._with(free):
            if not _open(slot, one):
                continue
            if slot.node.node_id in one.avoid and not again:
                continue
            if most is not None and slot.keeps(one.gpus) > most:
                continue
            if one.launch.artifact_id in slot.artifacts:
                return slot
            best = best or slot
        return best

    def _with(self, free: int) -> Iterator[Slot]:
        return (self.slots[node_id] for node_id in self._free.get(free, ()))

    def _move(self, slot: Slot) -> None:
        node_id = slot.node.node_id
        free = slot.free if slot.fit else 0
        if self._at.get(node_id) == free:
            return
        self._leave(node_id)
        if free:
            self._free.setdefault(free, {})[node_id] = None
            self._at[node_id] = free

    def _leave(self, node_id: str) -> None:
        at = self._at.pop(node_id, None)
        if at is not None:
            del self._free[at][node_id]
            if not self._free[at]:
                del self._free[at]

    def _recount(self) -> None:
        self._widest.clear()
        fit = [slot for slot in self.slots.values() if slot.fit]
        self.capacity = sum(slot.units for slot in fit)
        self.widest = max((slot.units for slot in fit), default=0)
        self.whole = bool(fit) and all(slot.node.use == "whole" for slot in fit)
