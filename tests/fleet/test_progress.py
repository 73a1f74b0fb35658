"""What of a run is settled: resume is the plan minus its committed trials."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fleetbench.fleet.progress import progress
from fleetbench.matrix.types import Outcome
from fleetbench.store.commit import CommittedTrial, Warehouse
from tests.samples import trial_row


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


def test_a_damaged_attempt_keeps_its_number_and_the_next_try_takes_the_next(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.create()
    row = trial_row()
    for attempt in (0, 1):
        warehouse.commit_trial({**row, "attempt": attempt}, {})
    for path in tmp_path.glob("landing/trials/*/*.parquet"):
        os.truncate(path, 100)
    assert progress(warehouse.committed(row["run_id"]), retry_failed=False).outcomes == {}
    assert warehouse.attempts(row["run_id"]) == {row["trial_id"]: 2}


def test_a_good_attempt_counts_whatever_came_after() -> None:
    rows = [committed("t", 0, Outcome.OK), committed("t", 1, Outcome.LOST)]
    assert progress(rows, retry_failed=False).outcomes == {"t": Outcome.OK}
