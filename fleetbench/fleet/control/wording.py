"""The lines of a run's log."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fleetbench.fleet.control.folding import Bad, counted, fold
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


@dataclass(slots=True, kw_only=True)
class RunLog:
    """Says what happens in a run, a line each; of trials that end alike at once, one line.

    say: keeps a line; standing: knows the run's names.
    """

    say: Callable[[str], None]
    standing: Standing
    _bad: list[Bad] = field(default_factory=list)

    def hear(self, happened: Start | Record | Event) -> None:
        if isinstance(happened, Record):
            self._bad.append(Bad(trial=happened.trial, outcome=happened.outcome, reason=happened.reason))
            return
        self.flush()
        if (line := _sentence(happened, self.standing)) is not None:
            self.say(line)

    def flush(self) -> None:
        """Say what it has kept back, to be called once a while and at the end."""
        for one in fold(self._bad):
            first = one.trials[0].trial_id
            which = _trial(first, self.standing) if len(one.trials) == 1 else counted(one.trials)
            self.say(f"{one.outcome.value} {which}: {one.reason}")
        self._bad.clear()


def _sentence(happened: Start | Event, standing: Standing) -> str | None:
    """What happened, in a line; None for what nobody looks for."""
    match happened:
        case Start():
            again = f", attempt {happened.attempt + 1}" if happened.attempt else ""
            what = f"{happened.launch.label} on {happened.launch.hardware}, {len(happened.trials)} trials{again}"
            return f"start {happened.launch.launch_id}: {what}"
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
