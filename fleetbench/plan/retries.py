"""What becomes of a launch and its trials when they end: done, tried again, or given in. Pure."""

from __future__ import annotations

from fleetbench.matrix.types import Outcome
from fleetbench.plan import breaker
from fleetbench.plan.events import Action, LaunchEnded, TrialEnded
from fleetbench.plan.lane import Running
from fleetbench.plan.state import MAY_PASS, RunState

OF_THE_LAUNCH = frozenset({Outcome.OOM, Outcome.REFUSED, Outcome.CANCELLED})
"""Outcomes of a launch that it would have on every node."""


def end_trial(state: RunState, run: Running, event: TrialEnded) -> None:
    """Take a trial's outcome; one that another try may mend stays, at the end."""
    run.in_flight = run.heard_s = None
    trial = run.todo.pop(event.trial_id, None)
    if trial is None:
        return
    run.ended += 1
    state.tries[event.trial_id] += 1
    state.outcomes[event.trial_id] = event.outcome
    if state.may_mend(event.trial_id, event.outcome):
        run.todo[event.trial_id] = trial
    elif event.outcome is Outcome.OK:
        run.good = True
        breaker.absolve(state.lane(run.launch.hardware).slots(run))


def end_launch(state: RunState, run: Running, event: LaunchEnded, now_s: float) -> list[Action]:
    """An engine that is down, after its last trial or before it."""
    if event.unfit is not None:
        lane = state.lane(run.launch.hardware)
        breaker.expose(lane, run, event.unfit, now_s, state.rules, node_id=event.unfit_node)
        return state.again(run, now_s, fruitless=run.waiting.fruitless)
    if event.outcome is Outcome.OK and not run.todo:
        return state.drop(run, now_s)
    if event.outcome is Outcome.OK and run.ended:
        return state.again(run, now_s)
    reason = event.reason or "the engine ended before this trial"
    outcome = Outcome.LAUNCH_FAILED if event.outcome is Outcome.OK else event.outcome
    return _cut_short(state, run, outcome, reason, now_s, may_pass=event.retriable)


def lose_launch(state: RunState, run: Running, reason: str, now_s: float) -> list[Action]:
    """A launch that nothing is known of any more."""
    return _cut_short(state, run, Outcome.LOST, reason, now_s, may_pass=True)


def _cut_short(
    state: RunState, run: Running, outcome: Outcome, reason: str, now_s: float, *, may_pass: bool
) -> list[Action]:
    """A launch that leaves trials undone: the one in flight gets a row, the others another launch or one too."""
    flying = run.todo.get(run.in_flight or "")
    rows = state.record(run, [flying], outcome, reason) if flying else []
    lane, lasting = state.lane(run.launch.hardware), outcome in OF_THE_LAUNCH
    if not run.good and not lasting:
        breaker.blame(lane, run, reason, now_s, state.rules)
    if not run.todo:
        return [*rows, *state.drop(run, now_s)]
    progress = bool(rows or run.ended)
    fruitless = 0 if run.ended else run.waiting.fruitless + (not rows)
    failures = max(fruitless, state.tries[flying.trial_id] if flying else 0, 1)
    delay_s = state.rules.backoff_s * 2 ** (failures - 1) if may_pass or outcome in MAY_PASS else 0.0
    if progress or (may_pass and not lasting and fruitless < state.rules.tries):
        return [*rows, *state.again(run, now_s, fruitless=fruitless, delay_s=delay_s)]
    if not lasting and fruitless == 1 and lane.yard.others_than(run.waiting.avoid, run.launch):
        return state.again(run, now_s, fruitless=fruitless)
    return state.give_in(run, outcome, reason, now_s)
