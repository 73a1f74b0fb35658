"""The lines of a run's log."""

from __future__ import annotations

from fleetbench.fleet.control.standing import Standing, trial_label
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import (
    Event,
    Interrupted,
    LaunchEnded,
    LaunchEvent,
    LaunchLost,
    Placed,
    Record,
    SessionUp,
    Start,
    TrialEnded,
)


def sentence(happened: Start | Record | Event, standing: Standing) -> str | None:
    """What happened, in a line; None for what nobody looks for."""
    match happened:
        case Start():
            again = f", attempt {happened.attempt + 1}" if happened.attempt else ""
            what = f"{happened.launch.label} on {happened.launch.hardware}, {len(happened.trials)} trials{again}"
            return f"start {happened.launch.launch_id}: {what}"
        case Record():
            return f"{happened.outcome.value} {_trial(happened.trial.trial_id, standing)}: {happened.reason}"
        case Interrupted():
            return f"stopping: {happened.reason}"
        case Placed() | SessionUp() | TrialEnded() | LaunchEnded() | LaunchLost():
            return _of_launch(happened, standing)
    return None


def _of_launch(event: LaunchEvent, standing: Standing) -> str | None:
    name = event.launch_id
    match event:
        case Placed():
            return f"placed {name}: {standing.where(event.node_ids)}"
        case SessionUp():
            return f"up {name}: first token after {event.ready_s:.1f} s"
        case TrialEnded():
            speed = f" {event.output_tok_s:.1f} tok/s" if event.output_tok_s is not None else ""
            why = f": {event.reason}" if event.reason else ""
            return f"{event.outcome.value} {_trial(event.trial_id, standing)}{speed}{why}"
        case LaunchEnded():
            return f"ended {name}" + ("" if event.outcome is Outcome.OK else f": {event.outcome.value}, {event.reason}")
        case LaunchLost():
            return f"lost {name}: {event.reason}"
    return None


def _trial(trial_id: str, standing: Standing) -> str:
    trial = standing.trials.get(trial_id)
    if trial is None:
        return trial_id
    launch = f"{trial.cell.model.name} {trial.cell.recipe.name} {trial_label(trial)}"
    return f"{launch}, repeat {trial.repeat + 1}" if trial.repeat else launch
