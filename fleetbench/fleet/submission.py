"""A submission: what a run is to do, what of it is done, and what is left."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetbench import __version__
from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.planning import Planned
from fleetbench.fleet.progress import progress
from fleetbench.fleet.rows import refusal_row, run_row
from fleetbench.matrix.types import Outcome
from fleetbench.plan.launches import keep, missing
from fleetbench.plan.types import Fleet, Plan
from fleetbench.store.commit import Warehouse
from fleetbench.store.write import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """plan: all that was asked (after --only); todo: what is missing; outcomes, attempts: by trial_id.

    first: cell_ids that go before others.
    """

    planned: Planned
    plan: Plan
    todo: Plan
    outcomes: Mapping[str, Outcome]
    attempts: Mapping[str, int]
    warehouse: Warehouse
    cache: Path
    first: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a submission ended: the outcome of every trial of its plan that has one."""

    outcomes: Mapping[str, Outcome]
    interrupted: bool


def open_submission(
    planned: Planned,
    warehouse: Warehouse,
    cache: Path,
    *,
    retry_failed: bool,
    only: Collection[str] | None,
    first: Collection[str] | None = None,
) -> Submission:
    """Compare the plan with what is committed; `only` holds the cell_ids to stay with, `first` those to begin with.

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
        first=frozenset(first or ()),
    )


def check_nodes(submission: Submission, fleet: Fleet) -> None:
    """Begin nothing where no launch has a node of its kind, or none at all is there: they may not have joined yet.

    Raises:
        UnusableEnvironmentError: nothing could run; what is kept, and what to do.
    """
    plan = submission.plan
    wanted = {launch.hardware for launch in submission.todo.launches}
    if not plan.trials and not fleet.kinds:
        wanted = set(plan.matrix.hardware)
    if not wanted or not wanted.isdisjoint(fleet.kinds):
        return
    lack = "; ".join(
        f"no node of kind {kind} may be measured on: {fleet.unfit[kind]}"
        if kind in fleet.unfit
        else f"no node of kind {kind} has joined yet"
        for kind in sorted(wanted)
    )
    count = len(submission.outcomes)
    kept = f"{count} trial{'s' if count > 1 else ''} of this run {'are' if count > 1 else 'is'} kept; " if count else ""
    raise UnusableEnvironmentError(
        f"{lack}; {kept}join one (fleetbench node up), and try again once `fleetbench nodes` shows one that is ready; "
        "or have it wait: --wait-for-nodes 10m"
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


def settled(submission: Submission) -> dict[str, Outcome]:
    """The trials of the submission's plan that need not run again, as the warehouse has them now."""
    plan = submission.plan
    done = progress(submission.warehouse.committed(plan.run_id), retry_failed=False).outcomes
    return {trial.trial_id: done[trial.trial_id] for trial in plan.trials if trial.trial_id in done}
