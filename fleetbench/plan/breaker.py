"""When a node is left alone, and when it gets another chance. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from fleetbench.plan.lane import Lane, Running
from fleetbench.plan.rules import Rules
from fleetbench.plan.yard import Slot


def blame(lane: Lane, run: Running, reason: str, now_s: float, rules: Rules) -> None:
    """Count a launch that came to nothing against its nodes; one that did so elsewhere before is at fault itself."""
    waiting = run.waiting
    if waiting.avoid.difference(run.node_ids):
        for slot in (lane.yard.slots[one] for one in waiting.blamed if one in lane.yard.slots):
            slot.streak = max(0, slot.streak - 1)
            if slot.broken is not None and not slot.lies and slot.streak < rules.breaker:
                _mend(lane, slot)
        blamed = frozenset[str]()
    else:
        blamed = frozenset(run.node_ids)
        for slot in lane.slots(run):
            slot.streak += 1
            alone = not lane.yard.others_than((slot.node.node_id,), run.launch)
            if 0 < rules.breaker <= slot.streak and not alone:
                why = f"{slot.streak} launches in a row came to nothing on it: {reason}"
                _leave(lane, slot, why, now_s + rules.cooldown_s)
    run.waiting = replace(waiting, avoid=waiting.avoid.union(run.node_ids), blamed=blamed)


def absolve(slots: Collection[Slot]) -> None:
    """A trial went well on these nodes."""
    for slot in slots:
        slot.streak = slot.lies = 0


def expose(lane: Lane, run: Running, unfit: str, now_s: float, rules: Rules, *, node_id: str | None = None) -> None:
    """The launch found that its nodes, or one of them, may not be measured on; each time for twice as long."""
    for slot in lane.slots(run):
        if node_id not in (None, slot.node.node_id):
            continue
        slot.lies += 1
        _leave(lane, slot, unfit, now_s + rules.cooldown_s * 2 ** (slot.lies - 1))


def recover(lane: Lane, now_s: float, rules: Rules) -> None:
    """Another chance, in which one failure is enough; at once where work would otherwise have no node at all."""
    broken = [slot for slot in lane.yard.slots.values() if slot.broken is not None]
    for slot in broken:
        if slot.broken_until_s <= now_s:
            slot.streak = max(0, rules.breaker - 1)
            _mend(lane, slot)
    if any(slot.broken is not None and not slot.lies for slot in broken):
        stuck = lane.stuck()
        for slot in broken:
            if slot.broken is not None and not slot.lies and any(slot.runs(one.launch) for one in stuck):
                _mend(lane, slot)


def _leave(lane: Lane, slot: Slot, why: str, until_s: float) -> None:
    slot.broken, slot.broken_until_s = why, until_s
    lane.yard.update(slot)


def _mend(lane: Lane, slot: Slot) -> None:
    slot.broken = None
    lane.yard.update(slot)
