"""What will not be done any more: no node comes for it, nothing is left to pay it with, or the run ends. Pure."""

from __future__ import annotations

from dataclasses import replace

from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import Action
from fleetbench.plan.state import RunState


def unblock(state: RunState, now_s: float) -> list[Action]:
    """Say what waits for nodes that are not there, and give it up after a while."""
    actions: list[Action] = []
    for lane in state.lanes.values():
        stuck, called = lane.stuck(), lane.called(state.running)
        if not stuck and not called:
            lane.blocked = lane.blocked_since_s = None
            continue
        lack = lane.lack(stuck[0] if stuck else called[0].waiting)
        count = len(stuck) + len(called)
        lane.blocked = f"{count} launch{'es wait' if count > 1 else ' waits'}: {lack}"
        if lane.blocked_since_s is None:
            lane.blocked_since_s = now_s
        if now_s >= lane.blocked_since_s + state.rules.nodes_s:
            why = f"{lack}, and none came for {state.rules.nodes_s:g} s (see `fleetbench nodes`)"
            for one in stuck:
                lane.withdraw(one)
                actions += [state.row(one, trial, Outcome.CANCELLED, why) for trial in one.trials]
            for run in called:
                actions += state.give_in(run, Outcome.CANCELLED, why, now_s)
            lane.blocked = lane.blocked_since_s = None
    return actions


def unpaid(state: RunState, now_s: float) -> list[Action]:
    """Where nothing runs and nothing that waits can be paid, nothing will change that."""
    if state.rules.cost_usd is None or state.running or state.later or not state.waiting:
        return []
    affords, lanes = state.affords(now_s), [lane for lane in state.lanes.values() if len(lane.queue)]
    hope = any(lane.blocked for lane in lanes)
    if hope and any(affords(one, lane.yard.kept(one.launch)) for lane in lanes for one in lane.queue):
        return []
    why = f"of the run's {state.rules.cost_usd:g} USD too little is left for another launch (limits: cost_usd)"
    return end_all(state, Outcome.CANCELLED, why, now_s, waiting=True)


def end_all(state: RunState, outcome: Outcome, reason: str, now_s: float, *, waiting: bool) -> list[Action]:
    """End what runs, and start nothing more; with rows for what is in flight, and for what waits if asked."""
    left = [one for lane in state.lanes.values() for one in lane.queue.clear()]
    left += [one for _, _, one in state.later]
    state.later.clear()
    for lane in state.lanes.values():
        lane.blocked = lane.blocked_since_s = None
    actions: list[Action] = []
    for run in list(state.running.values()):
        trial = run.todo.pop(run.in_flight or "", None)
        if trial:
            actions.append(state.row(run.waiting, trial, outcome, reason))
        left.append(replace(run.waiting, trials=tuple(run.todo.values())))
        actions += state.drop(run, now_s)
    if waiting:
        actions += [state.row(one, trial, outcome, reason) for one in left for trial in one.trials]
    return actions
