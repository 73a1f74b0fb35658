"""The state machine of a run: events in, actions out. It knows no Ray, clock, file or thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from fleetbench.matrix.types import Outcome
from fleetbench.plan.types import EngineLaunch, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUp:
    """The launch's engine gave its first token."""

    launch_id: str
    ready_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    launch_id: str
    trial_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded:
    """A trial has its outcome, and its row where the warehouse could keep it."""

    launch_id: str
    trial_id: str
    outcome: Outcome
    reason: str | None
    output_tok_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchEnded:
    """The engine is down: after its last trial, or because it could not go on."""

    launch_id: str
    outcome: Outcome
    reason: str | None
    retriable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchLost:
    """Nothing is known of the launch any more: its actor or its node died."""

    launch_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The run cannot go on, by the user's will or because the fleet is gone: what is in flight ends so."""

    outcome: Outcome = Outcome.CANCELLED
    reason: str = "interrupted by the user"


Event = SessionUp | TrialStarted | TrialEnded | LaunchEnded | LaunchLost | Interrupted


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start this launch with these trials, in this order."""

    launch: EngineLaunch
    attempt: int
    trials: tuple[Trial, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Commit a row for a trial that its launch could not commit itself."""

    launch: EngineLaunch
    attempt: int
    trial: Trial
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End this launch now."""

    launch_id: str


Action = Start | Record | Stop


@dataclass(slots=True)
class _Running:
    launch: EngineLaunch
    attempt: int
    todo: dict[str, Trial]
    in_flight: str | None = None
    ended: int = 0


@dataclass(slots=True)
class RunMachine:
    """Runs launches in order, at most `window` at once; relaunches what a lost engine left over.

    A launch that ends without a single trial done is tried once more at most, and only where the cause may
    pass; one that made progress goes on with its next trial. So every trial ends in exactly one outcome.
    """

    window: int
    waiting: deque[tuple[EngineLaunch, int, tuple[Trial, ...]]] = field(default_factory=deque)
    running: dict[str, _Running] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def finished(self) -> bool:
        return not self.running and not self.waiting

    def begin(self, launches: Sequence[EngineLaunch]) -> list[Action]:
        """Take the plan's launches, in order; none where an interruption came first."""
        if self.interrupted:
            return []
        self.waiting.extend((launch, 0, launch.trials) for launch in launches)
        return self._fill()

    def handle(self, event: Event) -> list[Action]:
        """Advance by one event; events of launches that are no longer running mean nothing."""
        if isinstance(event, Interrupted):
            return self._interrupt(event)
        run = self.running.get(event.launch_id)
        if run is None:
            return []
        actions: list[Action] = []
        match event:
            case TrialStarted():
                run.in_flight = event.trial_id
            case TrialEnded():
                self._trial_ended(run, event)
            case LaunchEnded():
                actions = self._launch_ended(run, event)
            case LaunchLost():
                actions = self._launch_lost(run, event.reason)
        return actions

    def _trial_ended(self, run: _Running, event: TrialEnded) -> None:
        run.in_flight = None
        if run.todo.pop(event.trial_id, None) is not None:
            run.ended += 1
            self.outcomes[event.trial_id] = event.outcome

    def _launch_ended(self, run: _Running, event: LaunchEnded) -> list[Action]:
        if not run.todo:
            return self._drop(run)
        reason = event.reason or "the engine ended before this trial"
        outcome = Outcome.LAUNCH_FAILED if event.outcome is Outcome.OK else event.outcome
        trial = run.todo.get(run.in_flight or "")
        rows = self._record(run, [trial], outcome, reason) if trial else []
        if not run.todo:
            return [*rows, *self._drop(run)]
        if rows or run.ended or (event.retriable and run.attempt == 0):
            return [*rows, *self._relaunch(run)]
        return [*self._record(run, list(run.todo.values()), outcome, reason), *self._drop(run)]

    def _launch_lost(self, run: _Running, reason: str) -> list[Action]:
        trial = run.todo.get(run.in_flight or "")
        rows = self._record(run, [trial], Outcome.LOST, reason) if trial else []
        if not run.todo:
            return [*rows, *self._drop(run)]
        if rows or run.ended or run.attempt == 0:
            return [*rows, *self._relaunch(run)]
        return [*self._record(run, list(run.todo.values()), Outcome.LOST, reason), *self._drop(run)]

    def _interrupt(self, event: Interrupted) -> list[Action]:
        self.interrupted = True
        self.waiting.clear()
        actions: list[Action] = []
        for run in list(self.running.values()):
            trial = run.todo.get(run.in_flight or "")
            actions.append(Stop(launch_id=run.launch.launch_id))
            if trial:
                actions += self._record(run, [trial], event.outcome, event.reason)
            del self.running[run.launch.launch_id]
        return actions

    def _record(self, run: _Running, trials: list[Trial], outcome: Outcome, reason: str) -> list[Action]:
        for trial in trials:
            run.todo.pop(trial.trial_id, None)
            self.outcomes[trial.trial_id] = outcome
        run.in_flight = None
        return [
            Record(launch=run.launch, attempt=run.attempt, trial=trial, outcome=outcome, reason=reason)
            for trial in trials
        ]

    def _relaunch(self, run: _Running) -> list[Action]:
        del self.running[run.launch.launch_id]
        self.waiting.appendleft((run.launch, run.attempt + 1, tuple(run.todo.values())))
        return [Stop(launch_id=run.launch.launch_id), *self._fill()]

    def _drop(self, run: _Running) -> list[Action]:
        del self.running[run.launch.launch_id]
        return [Stop(launch_id=run.launch.launch_id), *self._fill()]

    def _fill(self) -> list[Action]:
        actions: list[Action] = []
        while self.waiting and len(self.running) < self.window:
            launch, attempt, trials = self.waiting.popleft()
            todo = {trial.trial_id: trial for trial in trials}
            self.running[launch.launch_id] = _Running(launch=launch, attempt=attempt, todo=todo)
            actions.append(Start(launch=launch, attempt=attempt, trials=trials))
        return actions
