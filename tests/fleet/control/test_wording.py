"""The lines of a run's log."""

from __future__ import annotations

from pathlib import Path

from fleetbench.fleet.control.standing import Standing
from fleetbench.fleet.control.wording import RunLog
from fleetbench.fleet.submission import open_submission
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import Interrupted, Record
from fleetbench.plan.machine import RunMachine
from fleetbench.store.commit import Warehouse
from tests.small import planned


def test_what_an_interruption_ends_is_one_line_of_the_log_and_comes_after_it(tmp_path: Path) -> None:
    submission = open_submission(planned(tmp_path), Warehouse(tmp_path / "w"), tmp_path, retry_failed=False, only=None)
    lines: list[str] = []
    log = RunLog(say=lines.append, standing=Standing(submission=submission, machine=RunMachine(), address=None))
    log.hear(Interrupted())
    ended = [(launch, trial) for launch in submission.todo.launches for trial in launch.trials]
    for number, (launch, trial) in enumerate(ended):
        outcome, reason = (Outcome.CANCELLED, "interrupted") if number else (Outcome.OOM, "no memory")
        log.hear(Record(launch=launch, attempt=0, trial=trial, tries=0, outcome=outcome, reason=reason))
    log.flush()
    log.flush()
    assert lines == [
        "stopping: interrupted by the user",
        "oom tiny f16 batch 1, context 16: no memory",
        f"cancelled {len(ended) - 1} trials of tiny f16, tiny q2_k: interrupted",
    ]
