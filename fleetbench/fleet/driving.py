"""Drives a submission to its end: on a Ray of its own on this machine, or on a cluster."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fleetbench.catalog import lookup
from fleetbench.fleet.control.journal import Journal, control
from fleetbench.fleet.control.standing import Standing
from fleetbench.fleet.control.status import State
from fleetbench.fleet.control.stopping import Stop, sole_on_machine
from fleetbench.fleet.control.telling import Everywhere, Told
from fleetbench.fleet.control.wording import RunLog
from fleetbench.fleet.embedded import EmbeddedFleet, embedded_ray
from fleetbench.fleet.launch import mounting
from fleetbench.fleet.launch.courier import Handed, deliver
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.rows import trial_row
from fleetbench.fleet.submission import Ended, Submission, record_plan
from fleetbench.plan.estimate import launch_s
from fleetbench.plan.events import Event, Record, Start
from fleetbench.plan.machine import RunMachine
from fleetbench.plan.rules import Rules
from fleetbench.store.history import cell_seconds
from fleetbench.store.write import StoreError

if TYPE_CHECKING:  # Ray reads its environment when it is imported
    from fleetbench.fleet.controller import FleetView
    from fleetbench.fleet.watching import ClusterFleet

PATIENCE_S = 60.0
"""Beyond a trial's own limit: collectors, the commit, and an engine that has to be killed."""

Watch = Callable[[Start | Record | Event], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """Who hears of a run: watch of all that happens, say what is to be known, tell how it stands."""

    watch: Watch
    say: Callable[[str], None]
    tell: Callable[[Any], None] = lambda _: None


def drive_here(submission: Submission, audience: Audience, stop: Stop) -> Ended:
    """Run what is missing on this machine, until it is done or a stop is wanted; its caller is its sole driver."""
    if not _begin(submission):
        return Ended(outcomes=submission.outcomes, interrupted=False)
    journal = Journal(control(submission.warehouse.root, submission.plan.run_id))
    journal.clear()
    rules = replace(_rules(submission), window=1, breaker=0, order="first-come")
    with sole_on_machine(audience.say), embedded_ray(), stop.watched():
        driver = _Driver(submission=submission, audience=audience, stop=stop, told=journal, rules=rules, address=None)
        return driver.run(EmbeddedFleet())


def drive_cluster(
    submission: Submission,
    fleet: ClusterFleet,
    audience: Audience,
    stop: Stop,
    *,
    address: str,
    wait_s: float | None,
) -> Ended:
    """Run what is missing on the cluster that this process is connected to.

    Its caller is its sole driver as far as the warehouse is seen.

    Args:
        submission: what is to be run.
        fleet: the cluster's nodes, looked at.
        audience: who hears of it.
        stop: whether it should stop.
        address: of the cluster.
        wait_s: how long to wait for nodes that are not there yet, which an autoscaler hears of; None on a fixed fleet.

    Raises:
        BeingDrivenError: another controller on the cluster drives this run.
    """
    from fleetbench.fleet.control.desk import desk, desk_name  # noqa: PLC0415 - see above

    if not _begin(submission):
        return Ended(outcomes=submission.outcomes, interrupted=False)
    run_id, root = submission.plan.run_id, submission.warehouse.root.resolve()
    rules = _rules(submission)
    if wait_s is not None:
        rules = replace(rules, autoscaled=True, nodes_s=wait_s)
    with desk(run_id) as opened, stop.watched():
        journal = Journal(control(root, run_id))
        journal.clear()
        proof = mounting.prove(root, run_id)
        fleet.check_warehouse(root, run_id, proof)
        driver = _Driver(
            submission=submission,
            audience=audience,
            stop=stop,
            told=Everywhere((journal, opened)),
            rules=rules,
            address=address,
            proof=proof,
            desk=desk_name(run_id),
        )
        return driver.run(fleet)


def _begin(submission: Submission) -> bool:
    """Keep the plan; False where there is nothing to run."""
    if submission.todo.launches or not submission.plan.trials:
        record_plan(submission.planned.plan, submission.warehouse)
    return bool(submission.todo.launches)


def _rules(submission: Submission) -> Rules:
    limits = submission.plan.matrix.limits
    kinds = {launch.hardware: lookup.gpu_info(launch.hardware) for launch in submission.todo.launches}
    return Rules(
        silence_s=limits.trial_s + PATIENCE_S,
        wall_s=limits.wall_s,
        cost_usd=limits.cost_usd,
        price_usd_h={name: info.price_usd_h.value for name, info in kinds.items() if info and info.price_usd_h},
    )


@dataclass(slots=True, kw_only=True)
class _Driver:
    """A controller with what it needs of the submission."""

    submission: Submission
    audience: Audience
    stop: Stop
    told: Told
    rules: Rules
    address: str | None
    proof: str | None = None
    desk: str | None = None

    def run(self, fleet: FleetView) -> Ended:
        from fleetbench.fleet.controller import Controller  # noqa: PLC0415 - see above

        machine = RunMachine(rules=self.rules)
        submission = self.submission
        history_s = cell_seconds(submission.warehouse.root)
        effort = submission.plan.effort
        machine.begin(
            submission.todo.launches,
            seconds={one.launch_id: launch_s(one, effort, history_s) for one in submission.todo.launches},
            now_s=time.monotonic(),
            first=[
                one.launch_id
                for one in submission.todo.launches
                if any(trial.cell.cell_id in submission.first for trial in one.trials)
            ],
        )
        standing = Standing(submission=submission, machine=machine, address=self.address)
        log = RunLog(say=self.told.say, standing=standing)

        def tell(state: State | None = None) -> None:
            log.flush()
            status = standing.now(state)
            self.told.tell(status)
            self.audience.tell(status)

        def watch(happened: Start | Record | Event) -> None:
            standing.hear(happened)
            log.hear(happened)
            self.audience.watch(happened)

        controller = Controller(
            machine=machine,
            fleet=fleet,
            place=self._place,
            record=lambda record: self._record(record, standing.node_of(record.launch.launch_id)),
            deliver=self._deliver,
            watch=watch,
            tell=tell,
            stop_wanted=self._stop_wanted,
        )
        tell("running")
        try:
            controller.run()
        finally:
            tell("ended" if machine.finished and not machine.interrupted else "interrupted")
        return Ended(outcomes={**submission.outcomes, **machine.outcomes}, interrupted=machine.interrupted)

    def _stop_wanted(self) -> str | None:
        if self.stop.is_wanted():
            return "interrupted by the user"
        if self.told.cancel_wanted():
            self.stop.wanted = True
            return "cancelled by fleetbench cancel"
        return None

    def _place(self, start: Start) -> Any:
        from fleetbench.fleet import placing  # noqa: PLC0415 - see above

        submission = self.submission
        matrix = submission.plan.matrix
        job = LaunchJob(
            run_id=submission.plan.run_id,
            launch=start.launch,
            attempt=start.attempt,
            trials=start.trials,
            trial_attempts={
                trial.trial_id: self._attempt(trial.trial_id, tries)
                for trial, tries in zip(start.trials, start.tries, strict=True)
            },
            model_path=submission.planned.model_paths[start.launch.model.name],
            effort=matrix.effort,
            limits=matrix.limits,
            warehouse=submission.warehouse.root.resolve(),
            cache=submission.cache.resolve(),
            proof=self.proof,
        )
        return placing.launch(start, job, self.desk)

    def _attempt(self, trial_id: str, tries: int) -> int:
        """The number of a try: those of earlier drivers come before."""
        return self.submission.attempts.get(trial_id, 0) + tries

    def _deliver(self, handed: Handed) -> dict[str, str]:
        return deliver(handed, self.submission.warehouse)

    def _record(self, record: Record, node: str | None) -> Record:
        """A row for a trial whose launch cannot write it any more; where it cannot be kept, the reason says so too.

        node: that the launch was on; where it never got one the row is this machine's.
        """
        row = trial_row(
            run_id=self.submission.plan.run_id,
            launch=record.launch,
            launch_attempt=record.attempt,
            trial=record.trial,
            attempt=self._attempt(record.trial.trial_id, record.tries),
            node=node or socket.gethostname(),
            outcome=record.outcome,
            reason=record.reason,
            measured={},
        )
        try:
            self.submission.warehouse.commit_trial(row, {})
        except StoreError as error:
            return replace(record, reason=f"{record.reason}; its row was not kept: {error}")
        return record
