"""A submission: what a run still has to do, and doing it on an embedded Ray."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from fleetbench import __version__
from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.embedded import death, embedded_ray
from fleetbench.fleet.job import LaunchJob
from fleetbench.fleet.planning import Planned
from fleetbench.fleet.progress import progress
from fleetbench.fleet.rows import refusal_row, run_row, trial_row
from fleetbench.fleet.stopping import Stop, sole_on_machine
from fleetbench.matrix.types import Outcome
from fleetbench.plan.launches import keep, missing
from fleetbench.plan.machine import Event, Record, RunMachine, Start
from fleetbench.plan.types import Plan
from fleetbench.store.commit import StoreError, Warehouse

LOCAL_WINDOW = 1
"""A local launch takes the whole node, so there is never a second one to wait for it."""

PATIENCE_S = 60.0
"""Beyond a trial's own limit: collectors, the commit, and an engine that has to be killed."""

Watch = Callable[[Start | Record | Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """plan: all that was asked (after --only); todo: what is missing; outcomes, attempts: by trial_id."""

    planned: Planned
    plan: Plan
    todo: Plan
    outcomes: Mapping[str, Outcome]
    attempts: Mapping[str, int]
    warehouse: Warehouse
    cache: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a submission ended: the outcome of every trial of its plan that has one."""

    outcomes: Mapping[str, Outcome]
    interrupted: bool


def open_submission(
    planned: Planned, warehouse: Warehouse, cache: Path, *, retry_failed: bool, only: Collection[str] | None
) -> Submission:
    """Compare the plan with what is committed; `only` holds the cell_ids to stay with.

    Raises:
        UnusableEnvironmentError: the warehouse cannot be written.
    """
    warehouse.create()
    plan = planned.plan if only is None else keep(planned.plan, lambda trial: trial.cell.cell_id in only)
    done = progress(warehouse.committed(plan.run_id), retry_failed=retry_failed)
    wanted = {trial.trial_id for trial in plan.trials}
    return Submission(
        planned=planned,
        plan=plan,
        todo=missing(plan, done.outcomes.keys()),
        outcomes={trial: outcome for trial, outcome in done.outcomes.items() if trial in wanted},
        attempts=warehouse.attempts(plan.run_id),
        warehouse=warehouse,
        cache=cache,
    )


@contextmanager
def sole_driver(warehouse: Warehouse, run_id: str) -> Iterator[None]:
    """Hold the run: two drivers would measure the same trials, each disturbing the other.

    Raises:
        UnusableEnvironmentError: another process holds it, or its lock cannot be taken.
    """
    path = warehouse.root / "locks" / f"driver-{run_id}.lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _no_lock(path, error) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UnusableEnvironmentError(
                f"run {run_id} is being measured by another process: wait for it, or take a run of your own with --new"
            ) from error
        except OSError as error:
            raise _no_lock(path, error) from error
        yield
    finally:
        os.close(handle)


def _no_lock(path: Path, error: OSError) -> UnusableEnvironmentError:
    return UnusableEnvironmentError(
        f"the lock {path} cannot be taken ({error.strerror}): see who made it, or choose another --warehouse"
    )


def record_plan(plan: Plan, warehouse: Warehouse) -> None:
    """The run and its refusals, as rows."""
    refusals = [refusal_row(plan.run_id, refusal) for refusal in plan.refusals]
    try:
        warehouse.commit("runs", [run_row(plan, __version__)], run_id=plan.run_id, name="run")
        if refusals:
            warehouse.commit("refusals", refusals, run_id=plan.run_id, name="refusals")
    except StoreError as error:
        raise UnusableEnvironmentError(str(error)) from error


def execute(submission: Submission, watch: Watch, stop: Stop, say: Callable[[str], None]) -> Ended:
    """Run what is missing, until it is done or a stop is wanted."""
    machine = RunMachine(window=LOCAL_WINDOW)
    if submission.todo.launches or not submission.plan.trials:
        record_plan(submission.planned.plan, submission.warehouse)
    if submission.todo.launches:
        with sole_on_machine(say), embedded_ray(), stop.watched():
            from fleetbench.fleet.controller import Controller  # noqa: PLC0415 - Ray reads its environment at import

            controller = Controller(
                machine=machine,
                make_job=lambda start: _job(submission, start),
                record=lambda record: _record(submission, record),
                watch=watch,
                stop_wanted=stop.is_wanted,
                ray_death=death,
                patience_s=submission.plan.matrix.limits.trial_s + PATIENCE_S,
            )
            controller.run(submission.todo.launches)
    return Ended(outcomes={**submission.outcomes, **machine.outcomes}, interrupted=machine.interrupted)


def settled(submission: Submission) -> dict[str, Outcome]:
    """The trials of the submission's plan that need not run again, as the warehouse has them now."""
    plan = submission.plan
    done = progress(submission.warehouse.committed(plan.run_id), retry_failed=False).outcomes
    return {trial.trial_id: done[trial.trial_id] for trial in plan.trials if trial.trial_id in done}


def _job(submission: Submission, start: Start) -> LaunchJob:
    matrix = submission.plan.matrix
    return LaunchJob(
        run_id=submission.plan.run_id,
        launch=start.launch,
        attempt=start.attempt,
        trials=start.trials,
        trial_attempts={trial.trial_id: submission.attempts.get(trial.trial_id, 0) for trial in start.trials},
        model_path=submission.planned.model_paths[start.launch.model.name],
        effort=matrix.effort,
        limits=matrix.limits,
        warehouse=submission.warehouse.root.resolve(),
        cache=submission.cache.resolve(),
    )


def _record(submission: Submission, record: Record) -> Record:
    """A row for a trial whose launch cannot write it any more; where it cannot be kept, the reason says so too."""
    row = trial_row(
        run_id=submission.plan.run_id,
        launch=record.launch,
        launch_attempt=record.attempt,
        trial=record.trial,
        attempt=submission.attempts.get(record.trial.trial_id, 0),
        node=socket.gethostname(),
        outcome=record.outcome,
        reason=record.reason,
        measured={},
    )
    try:
        submission.warehouse.commit_trial(row, {})
    except StoreError as error:
        return replace(record, reason=f"{record.reason}; its row was not kept: {error}")
    return record
