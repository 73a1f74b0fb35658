"""What of a run is settled: resume is the plan minus its committed trials."""

from __future__ import annotations

import pytest

from fleetbench.fleet.progress import progress
from fleetbench.matrix.types import Outcome
from fleetbench.store.commit import CommittedTrial


def committed(trial: str, attempt: int, outcome: Outcome) -> CommittedTrial:
    return CommittedTrial(trial_id=trial, attempt=attempt, outcome=outcome, valid=outcome is Outcome.OK)


def test_a_good_trial_is_settled_and_never_runs_again() -> None:
    done = progress([committed("t", 0, Outcome.OK)], retry_failed=True)
    assert done.outcomes == {"t": Outcome.OK}


@pytest.mark.parametrize("outcome", [Outcome.CRASHED, Outcome.OOM, Outcome.INVALID, Outcome.TIMEOUT])
def test_a_failed_trial_runs_again_only_when_asked(outcome: Outcome) -> None:
    rows = [committed("t", 0, outcome)]
    assert progress(rows, retry_failed=False).outcomes == {"t": outcome}
    assert progress(rows, retry_failed=True).outcomes == {}


@pytest.mark.parametrize("outcome", [Outcome.CANCELLED, Outcome.LOST])
def test_a_trial_that_was_cut_off_runs_again_unasked(outcome: Outcome) -> None:
    assert progress([committed("t", 0, outcome)], retry_failed=False).outcomes == {}


def test_the_next_try_has_the_next_number() -> None:
    rows = [committed("t", 0, Outcome.LOST), committed("t", 1, Outcome.CRASHED), committed("u", 0, Outcome.OK)]
    assert progress(rows, retry_failed=True).attempts == {"t": 2, "u": 1}


def test_a_good_attempt_counts_whatever_came_after() -> None:
    rows = [committed("t", 0, Outcome.OK), committed("t", 1, Outcome.LOST)]
    assert progress(rows, retry_failed=False).outcomes == {"t": Outcome.OK}
