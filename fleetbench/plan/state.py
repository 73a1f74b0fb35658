"""What a run's state machine knows, and the steps that its events have in common. Pure."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from fleetbench.matrix.types import Outcome
from fleetbench.plan.budget import Budget
from fleetbench.plan.events import Action, Record, Stop
from fleetbench.plan.lane import Affords, Lane, Running
from fleetbench.plan.rules import Rules
from fleetbench.plan.types import Trial
from fleetbench.plan.waiting import Queue, Waiting

MAY_PASS = frozenset({Outcome.LOST, Outcome.TIMEOUT})
"""Outcomes of a trial that another try may mend."""


@dataclass(slots=True)
class RunState:
    """The launches of a run by where they are, and what became of its trials.

    lanes: by hardware kind, with what waits for a node; later: what waits for its time, the soonest first; outcomes: of
    trials, the last one each; tries: how often each was tried, and recorded.
    """

    rules: Rules
    running: dict[str, Running] = field(default_factory=dict)
    lanes: dict[str, Lane] = field(default_factory=dict)
    later: list[tuple[float, int, Waiting]] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self.budget = Budget(rules=self.rules)

    @property
    def waiting(self) -> int:
        """Launches that are still to be started."""
        return sum(len(lane.queue) for lane in self.lanes.values()) + len(self.later)

    def lane(self, hardware: str) -> Lane:
        if hardware not in self.lanes:
            self.lanes[hardware] = Lane(name=hardware, queue=Queue(order=self.rules.order))
        return self.lanes[hardware]

    def affords(self, now_s: float) -> Affords:
        left_usd = self.budget.left_usd(self.running.values(), now_s)

        def affords(one: Waiting, gpus: int) -> bool:
            usd = self.budget.usd(one, gpus)
            return not usd or usd <= left_usd

        return affords

    def row(self, waiting: Waiting, trial: Trial, outcome: Outcome, reason: str) -> Record:
        """The outcome of a trial that its launch cannot write, counted as a try."""
        tries = self.tries[trial.trial_id]
        self.tries[trial.trial_id] += 1
        self.outcomes[trial.trial_id] = outcome
        return Record(
            launch=waiting.launch, attempt=waiting.attempt, trial=trial, tries=tries, outcome=outcome, reason=reason
        )

    def record(self, run: Running, trials: Sequence[Trial], outcome: Outcome, reason: str) -> list[Action]:
        """Rows for trials of a launch; one that another try may mend stays, at the end."""
        run.in_flight = run.heard_s = None
        rows: list[Action] = []
        for trial in trials:
            del run.todo[trial.trial_id]
            rows.append(self.row(run.waiting, trial, outcome, reason))
            if self.may_mend(trial.trial_id, outcome):
                run.todo[trial.trial_id] = trial
        return rows

    def may_mend(self, trial_id: str, outcome: Outcome) -> bool:
        """Whether it should be tried again: a lost one as often as the rules say, one at its limit once more."""
        most = self.rules.trial_tries if outcome is Outcome.LOST else min(2, self.rules.trial_tries)
        return outcome in MAY_PASS and self.tries[trial_id] < most

    def again(self, run: Running, now_s: float, *, fruitless: int = 0, delay_s: float = 0.0) -> list[Action]:
        """Another launch for what is left, if anything is; elsewhere, if it came to nothing where it was."""
        if not run.todo:
            return self.drop(run, now_s)
        share = len(run.todo) / max(1, len(run.waiting.trials))
        one = replace(
            run.waiting,
            attempt=run.attempt + 1,
            trials=tuple(run.todo.values()),
            seconds=run.waiting.seconds * min(1.0, share),
            fruitless=fruitless,
            avoid=frozenset() if run.good else run.waiting.avoid,
            blamed=frozenset() if run.good else run.waiting.blamed,
        )
        actions = self.drop(run, now_s)
        if delay_s:
            heapq.heappush(self.later, (now_s + delay_s, one.serial, one))
        else:
            self.lane(run.launch.hardware).queue.add(one)
        return actions

    def give_in(self, run: Running, outcome: Outcome, reason: str, now_s: float) -> list[Action]:
        """What is left of the launch will not be done."""
        trials, run.todo = list(run.todo.values()), {}
        rows: list[Action] = [self.row(run.waiting, trial, outcome, reason) for trial in trials]
        return [*rows, *self.drop(run, now_s)]

    def drop(self, run: Running, now_s: float) -> list[Action]:
        """It runs no more, and is paid for."""
        del self.running[run.launch.launch_id]
        self.budget.pay(run, now_s)
        self.lane(run.launch.hardware).end(run)
        return [Stop(launch_id=run.launch.launch_id)]
