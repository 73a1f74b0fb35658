"""One hardware kind of a run: what waits for its nodes, what runs on them, and what starts next. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fleetbench.catalog import lookup
from fleetbench.plan.events import Seen, Start
from fleetbench.plan.types import EngineLaunch, Trial
from fleetbench.plan.waiting import Queue, Waiting, lasts
from fleetbench.plan.yard import Slot, Yard

Affords = Callable[[Waiting, int], bool]
"""Whether a launch can be paid that keeps so many GPUs from others."""


@dataclass(slots=True)
class Running:
    """A launch that was started: where, since when, and what is left of it.

    gpus: that it keeps on each of its nodes; heard_s: when its trial in flight began; ended: trials with an outcome;
    good: whether one of them went well.
    """

    waiting: Waiting
    todo: dict[str, Trial]
    node_ids: tuple[str, ...]
    gpus: int
    started_s: float
    placed: bool = False
    up: bool = False
    in_flight: str | None = None
    heard_s: float | None = None
    ended: int = 0
    good: bool = False

    @property
    def launch(self) -> EngineLaunch:
        return self.waiting.launch

    @property
    def attempt(self) -> int:
        return self.waiting.attempt

    @property
    def held(self) -> int:
        """GPUs that nobody else can have meanwhile."""
        return self.gpus * len(self.node_ids)

    @property
    def end_s(self) -> float:
        """When it should end."""
        return self.started_s + self.waiting.seconds


@dataclass(slots=True)
class Lane:
    """Launches of one kind, waiting and running; pending: those that were started and not yet placed."""

    name: str
    queue: Queue
    yard: Yard = field(default_factory=Yard)
    pending: int = 0
    blocked: str | None = None
    blocked_since_s: float | None = None
    _held: int = 0
    _end_gpu_s: float = 0.0
    """Sum over running launches of the GPUs they keep times when they should end."""

    def remaining_s(self, now_s: float) -> float:
        """Until all is done, were no GPU ever idle."""
        step = max(1, self.yard.widest) if self.yard.whole else 1
        left = self.queue.gpu_s(step) + max(0.0, self._end_gpu_s - self._held * now_s)
        return left / self.yard.capacity if self.yard.capacity else 0.0

    def next(
        self, running: Mapping[str, Running], affords: Affords, now_s: float, *, autoscaled: bool = False
    ) -> tuple[Waiting, list[Slot]] | None:
        """The launch whose turn it is among those that have room, and the nodes that it should get.

        autoscaled: without room it is one that Ray shall have a node come for, and no nodes.
        """
        remaining_s = self.remaining_s(now_s)
        for head in self.queue.candidates(remaining_s, alone=self.yard.whole):
            slots = self._room(head)
            if not slots:
                ends = self.queue.order == "balanced" and lasts(head, remaining_s)
                if head.attempt or head.priority > 0 or ends:
                    self._reserve(head, running)
            elif affords(head, gpus_kept(head, slots)):
                return self.queue.like(head, slots[0].artifacts), slots
            else:
                self._unreserve(head)
                slots = self._room(head, sparing=True) or slots
                cheap = (one for one in (head, *self.queue.behind(head)) if affords(one, gpus_kept(one, slots)))
                if (one := next(cheap, None)) is not None:
                    return one, slots
        heads = self.queue.candidates(remaining_s) if autoscaled else iter(())
        return next(((head, []) for head in heads if self._may_come(head) and affords(head, head.gpus)), None)

    def start(self, one: Waiting, slots: Sequence[Slot], tries: Sequence[int], now_s: float) -> tuple[Running, Start]:
        """Take it out of the queue and give it the nodes' GPUs."""
        launch = one.launch
        usual = max(self.yard.widest, min(one.gpus, self._most_gpus()))
        units = max((slot.units for slot in slots), default=usual)
        nodes = len(slots) or -(-one.gpus // units)
        self.withdraw(one)
        spans, has_gpus = nodes > 1, not slots or slots[0].node.gpus > 0
        whole = spans or (slots[0].node.use == "whole" if slots else self.yard.whole or not self.yard.widest)
        run = Running(
            waiting=one,
            todo={trial.trial_id: trial for trial in one.trials},
            node_ids=tuple(slot.node.node_id for slot in slots),
            gpus=gpus_kept(one, slots) // len(slots) if slots else units if whole else one.gpus,
            started_s=now_s,
        )
        self.yard.hold(run.node_ids, launch.launch_id, run.gpus)
        self.pending += 1
        self._count(run, 1)
        if self.blocked_since_s is not None:
            self.blocked_since_s = now_s
        return run, Start(
            launch=launch,
            attempt=one.attempt,
            trials=one.trials,
            tries=tuple(tries),
            node_ids=run.node_ids,
            nodes=nodes,
            barred=self._barred(one, run.node_ids),
            gpus=(units if spans else one.gpus) if has_gpus else 0,
            share=1.0 if whole else one.gpus / units,
        )

    def place(self, run: Running, node_ids: tuple[str, ...], now_s: float) -> None:
        """It runs now, and where Ray put it."""
        self._count(run, -1)
        if not run.placed:
            run.placed, run.started_s = True, now_s
            self.pending -= 1
        if set(node_ids) != set(run.node_ids):
            self.yard.release(run.launch.launch_id, run.node_ids)
            self.yard.hold(node_ids, run.launch.launch_id, run.gpus)
            run.node_ids = node_ids
        self._count(run, 1)

    def end(self, run: Running) -> None:
        """Give its GPUs back; what it loaded is on its nodes from now on."""
        self._count(run, -1)
        self.pending -= not run.placed
        for slot in self.slots(run):
            if run.up:
                slot.artifacts.add(run.launch.artifact_id)
        self.yard.release(run.launch.launch_id, run.node_ids)

    def withdraw(self, one: Waiting) -> None:
        """It waits no more."""
        self.queue.take(one)
        self._unreserve(one)

    def see(self, seen: Seen, running: Mapping[str, Running]) -> None:
        """A node as it is now; Ray may have put launches on a new one before it was seen."""
        node_id = seen.node.node_id
        new = node_id not in self.yard.slots
        self.yard.see(seen)
        for run in running.values() if new else ():
            if run.launch.hardware == self.name and node_id in run.node_ids:
                self.yard.hold((node_id,), run.launch.launch_id, run.gpus)

    def slots(self, run: Running) -> list[Slot]:
        return [self.yard.slots[node_id] for node_id in run.node_ids if node_id in self.yard.slots]

    def _may_come(self, one: Waiting) -> bool:
        """Whether nodes of the kind would have enough GPUs, as those that there are or as usual."""
        return one.launch.parallel.tp <= self._most_gpus()

    def _most_gpus(self) -> int:
        """Of one node of the kind."""
        info = lookup.gpu_info(self.name)
        return max(self.yard.widest, info.gpus_per_node if info else 0)

    def stuck(self) -> list[Waiting]:
        """Launches that no node could run, were all free."""
        heads = [head for head in self.queue.heads() if not self.yard.able(head.launch)]
        return [one for head in heads for one in (head, *self.queue.behind(head))]

    def called(self, running: Mapping[str, Running]) -> list[Running]:
        """Launches that wait for Ray to have a node come, which is not there yet."""
        runs = (run for run in running.values() if not run.placed and not run.node_ids)
        return [run for run in runs if run.launch.hardware == self.name and not self.yard.able(run.launch)]

    def lack(self, one: Waiting) -> str:
        """What a stuck launch waits for."""
        slots = self.yard.slots.values()
        if not slots:
            return f"no node of kind {self.name} is in the fleet"
        if fit := [slot for slot in slots if slot.fit]:
            if not any(slot.runs(one.launch) for slot in fit):
                return f"no node of kind {self.name} has {one.launch.engine.name} {one.launch.engine.version}"
            return f"no {one.gpus} GPUs of kind {self.name} can be had together"
        return f"no node of kind {self.name} may be measured on ({next(slot.why for slot in slots if slot.why)})"

    def _room(self, one: Waiting, *, sparing: bool = False) -> list[Slot]:
        again = not one.avoid or not self.yard.others_than(one.avoid, one.launch)
        return self.yard.room(one, again=again, sparing=sparing)

    def _barred(self, one: Waiting, node_ids: tuple[str, ...]) -> tuple[str, ...]:
        avoid = frozenset[str]() if one.avoid.intersection(node_ids) else one.avoid
        slots = self.yard.slots.items()
        return tuple(
            node_id for node_id, slot in slots if node_id in avoid or not slot.fit or not slot.runs(one.launch)
        )

    def _count(self, run: Running, sign: int) -> None:
        self._held += sign * run.held
        self._end_gpu_s += sign * run.held * run.end_s

    def _reserve(self, head: Waiting, running: Mapping[str, Running]) -> None:
        """Keep the nodes that will soonest be empty free of others: small launches would fill them for ever."""

        def empty_s(slot: Slot) -> float:
            return max((running[one].end_s for one in slot.mine if one in running), default=0.0)

        units, count = self.yard.span(head.launch)
        least = units if count > 1 else head.gpus
        slots = [slot for slot in self.yard.slots.values() if slot.fit and slot.units >= least]
        lacking = count - sum(slot.reserved == head.line for slot in slots)
        if lacking <= 0:
            return
        free = [slot for slot in slots if slot.reserved is None and slot.runs(head.launch)]
        if count == 1 and head.avoid and self.yard.others_than(head.avoid, head.launch):
            free = [slot for slot in free if slot.node.node_id not in head.avoid]
        if lacking <= len(free):
            for slot in sorted(free, key=empty_s)[:lacking]:
                slot.reserved = head.line

    def _unreserve(self, one: Waiting) -> None:
        for slot in self.yard.slots.values():
            if slot.reserved == one.line:
                slot.reserved = None


def gpus_kept(one: Waiting, slots: Sequence[Slot]) -> int:
    """GPUs that nobody else could have while it ran on these nodes."""
    if len(slots) > 1 or slots[0].node.use == "whole":
        return max(slot.units for slot in slots) * len(slots)
    return one.gpus
