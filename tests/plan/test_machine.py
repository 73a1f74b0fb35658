"""The state machine: events in, actions out."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from fleetbench.matrix.types import Outcome
from fleetbench.plan.machine import (
    Action,
    Event,
    Interrupted,
    LaunchEnded,
    LaunchLost,
    Record,
    RunMachine,
    Start,
    Stop,
    TrialEnded,
    TrialStarted,
)
from fleetbench.plan.types import EngineLaunch
from tests.plan.examples import launch


def started(machine: RunMachine, *launches: EngineLaunch) -> list[Action]:
    return machine.begin(launches)


def ended(of: EngineLaunch, index: int, outcome: Outcome = Outcome.OK) -> TrialEnded:
    return TrialEnded(
        launch_id=of.launch_id,
        trial_id=of.trials[index].trial_id,
        outcome=outcome,
        reason=None,
        output_tok_s=None,
    )


def test_only_as_many_launches_start_as_the_window_allows() -> None:
    first, second = launch("a", 1), launch("b", 1)
    machine = RunMachine(window=1)
    assert started(machine, first, second) == [Start(launch=first, attempt=0, trials=first.trials)]


def test_the_next_launch_starts_when_one_ends() -> None:
    first, second = launch("a", 1), launch("b", 1)
    machine = RunMachine(window=1)
    started(machine, first, second)
    machine.handle(ended(first, 0))
    actions = machine.handle(LaunchEnded(launch_id=first.launch_id, outcome=Outcome.OK, reason=None))
    assert actions == [Stop(launch_id=first.launch_id), Start(launch=second, attempt=0, trials=second.trials)]


def test_an_engine_that_never_starts_fails_its_trials_and_the_next_launch_goes_on() -> None:
    first, second = launch("a", 2), launch("b", 1)
    machine = RunMachine(window=1)
    started(machine, first, second)
    actions = machine.handle(
        LaunchEnded(launch_id=first.launch_id, outcome=Outcome.LAUNCH_FAILED, reason="no such file")
    )
    records = [action for action in actions if isinstance(action, Record)]
    assert [(r.trial, r.outcome, r.reason) for r in records] == [
        (trial, Outcome.LAUNCH_FAILED, "no such file") for trial in first.trials
    ]
    assert actions[-1] == Start(launch=second, attempt=0, trials=second.trials)


def test_a_start_that_may_succeed_later_is_tried_once_more() -> None:
    only = launch("a", 1)
    machine = RunMachine(window=1)
    started(machine, only)
    failure = LaunchEnded(launch_id=only.launch_id, outcome=Outcome.TIMEOUT, reason="slow", retriable=True)
    assert machine.handle(failure)[-1] == Start(launch=only, attempt=1, trials=only.trials)
    actions = machine.handle(failure)
    assert [a.outcome for a in actions if isinstance(a, Record)] == [Outcome.TIMEOUT]
    assert machine.finished


def test_after_a_crash_in_mid_trial_the_other_trials_run_on_a_new_engine() -> None:
    only = launch("a", 3)
    machine = RunMachine(window=1)
    started(machine, only)
    machine.handle(ended(only, 0))
    machine.handle(ended(only, 1, Outcome.CRASHED))
    actions = machine.handle(LaunchEnded(launch_id=only.launch_id, outcome=Outcome.CRASHED, reason="SIGSEGV"))
    assert actions == [Stop(launch_id=only.launch_id), Start(launch=only, attempt=1, trials=only.trials[2:])]


def test_a_launch_that_ends_within_a_trial_fails_that_trial_and_goes_on_with_the_rest() -> None:
    only = launch("a", 2)
    machine = RunMachine(window=1)
    started(machine, only)
    machine.handle(TrialStarted(launch_id=only.launch_id, trial_id=only.trials[0].trial_id))
    record, stop, start = machine.handle(
        LaunchEnded(launch_id=only.launch_id, outcome=Outcome.CRASHED, reason="KeyError in measure")
    )
    assert isinstance(record, Record)
    assert (record.trial, record.outcome) == (only.trials[0], Outcome.CRASHED)
    assert stop == Stop(launch_id=only.launch_id)
    assert start == Start(launch=only, attempt=1, trials=only.trials[1:])


def test_a_lost_launch_records_the_trial_in_flight_and_relaunches_the_rest() -> None:
    only = launch("a", 2)
    machine = RunMachine(window=1)
    started(machine, only)
    machine.handle(TrialStarted(launch_id=only.launch_id, trial_id=only.trials[0].trial_id))
    record, stop, start = machine.handle(LaunchLost(launch_id=only.launch_id, reason="node gone"))
    assert isinstance(record, Record)
    assert (record.trial, record.outcome) == (only.trials[0], Outcome.LOST)
    assert stop == Stop(launch_id=only.launch_id)
    assert start == Start(launch=only, attempt=1, trials=only.trials[1:])


def test_a_launch_lost_twice_before_any_trial_gives_up() -> None:
    only = launch("a", 1)
    machine = RunMachine(window=1)
    started(machine, only)
    lost = LaunchLost(launch_id=only.launch_id, reason="gone")
    machine.handle(lost)
    machine.handle(lost)
    assert machine.finished
    assert machine.outcomes == {only.trials[0].trial_id: Outcome.LOST}


def test_an_interruption_stops_what_runs_and_starts_nothing() -> None:
    first, second = launch("a", 2), launch("b", 1)
    machine = RunMachine(window=1)
    started(machine, first, second)
    machine.handle(TrialStarted(launch_id=first.launch_id, trial_id=first.trials[0].trial_id))
    stop, record = machine.handle(Interrupted())
    assert stop == Stop(launch_id=first.launch_id)
    assert isinstance(record, Record)
    assert record.outcome is Outcome.CANCELLED
    assert machine.finished


def test_words_of_a_launch_that_was_stopped_mean_nothing() -> None:
    only = launch("a", 1)
    machine = RunMachine(window=1)
    started(machine, only)
    machine.handle(Interrupted())
    assert machine.handle(ended(only, 0)) == []


EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 5)), max_size=40)


@given(EVENTS, st.integers(1, 3))
def test_whatever_happens_every_trial_ends_in_exactly_one_outcome(
    script: list[tuple[int, int, int]], window: int
) -> None:
    launches = [launch(name, 3) for name in "abc"]
    machine = RunMachine(window=window)
    actions = started(machine, *launches)
    for which, index, kind in script:
        actions += machine.handle(_event(launches[which], index % 3, kind))
    while machine.running:
        for run in list(machine.running):
            actions += machine.handle(LaunchEnded(launch_id=run, outcome=Outcome.LAUNCH_FAILED, reason="x"))
    assert machine.finished
    trials = {trial.trial_id for one in launches for trial in one.trials}
    assert set(machine.outcomes) == trials
    recorded = [action.trial.trial_id for action in actions if isinstance(action, Record)]
    assert len(recorded) == len(set(recorded))
    assert all(dataclasses.is_dataclass(action) for action in actions)


def _event(of: EngineLaunch, index: int, kind: int) -> Event:
    trial = of.trials[index].trial_id
    events: list[Event] = [
        TrialStarted(launch_id=of.launch_id, trial_id=trial),
        ended(of, index),
        ended(of, index, Outcome.CRASHED),
        LaunchEnded(launch_id=of.launch_id, outcome=Outcome.OK, reason=None),
        LaunchEnded(launch_id=of.launch_id, outcome=Outcome.CRASHED, reason="died", retriable=True),
        LaunchLost(launch_id=of.launch_id, reason="gone"),
    ]
    return events[kind]
