"""A launch's trials on its engine that is up: the load's process beside it, a canary, then one after the other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fleetbench import __version__
from fleetbench.engine.lease import LEASE_ENV
from fleetbench.engine.protocol import Session
from fleetbench.fleet.launch.courier import Handed
from fleetbench.fleet.launch.measure import Bench, canary, measure
from fleetbench.fleet.launch.record import handed, keeper_of
from fleetbench.fleet.launch.under_way import UnderWay
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import LaunchEvent, SessionUp, TrialEnded, TrialStarted
from fleetbench_collectors.host.facts import facts
from fleetbench_collectors.power.common import sources
from fleetbench_collectors.power.idle import idle_power_w
from fleetbench_collectors.worker import Worker

FATAL = frozenset({Outcome.CRASHED, Outcome.OOM, Outcome.TIMEOUT})
"""Outcomes of a trial after which this engine is not trusted with another one."""


def run_trials(launch: UnderWay, session: Session, folder: Path) -> Iterator[LaunchEvent | Handed]:
    """All that are left of the launch, until one of them costs the engine."""
    receipt, launch_id = session.receipt, launch.job.launch.launch_id
    with _worker(launch, folder / "worker.log") as worker:
        bench = Bench(
            job=launch.job,
            session=session,
            worker=worker,
            sources=sources(),
            keeper=keeper_of(launch),
            node=launch.node,
            scratch=folder,
        )
        launch.host = facts({"fleetbench": __version__, receipt.engine: receipt.version})
        yield SessionUp(launch_id=launch_id, ready_s=receipt.ready_s)
        unfit = canary(bench)
        if unfit is not None:
            launch.outcome, launch.reason, launch.log_tail = Outcome.CRASHED, f"canary: {unfit}", session.log_tail()
            return
        bench.idle_power_w = idle_power_w(bench.sources)
        for trial in launch.job.trials:
            yield TrialStarted(launch_id=launch_id, trial_id=trial.trial_id)
            ended: TrialEnded = measure(bench, trial)
            yield from handed(launch)
            yield ended
            if ended.outcome in FATAL or (ended.outcome is Outcome.LOST and not session.alive()):
                launch.outcome, launch.reason, launch.log_tail = ended.outcome, ended.reason, session.log_tail()
                return


def _worker(launch: UnderWay, log: Path) -> Worker:
    """The load's process carries the launch's lease, as the engine does."""
    return Worker.start(log=log, env={**os.environ, LEASE_ENV: launch.lease})
