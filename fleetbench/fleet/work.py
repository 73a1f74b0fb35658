"""One launch on its node, without Ray: make the artifact, start the engine, measure its trials, clean up."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fleetbench import __version__
from fleetbench.artifact.build import ensure
from fleetbench.artifact.types import Artifact, ArtifactError, ArtifactOrder
from fleetbench.engine.lease import LEASE_ENV, new_lease, sweep
from fleetbench.engine.protocol import LaunchError, LaunchSpec, Session
from fleetbench.engine.registry import engine
from fleetbench.errors import InputError
from fleetbench.fleet.job import LaunchJob
from fleetbench.fleet.measure import Bench, canary, measure
from fleetbench.fleet.rows import axes
from fleetbench.matrix.types import Outcome
from fleetbench.plan.machine import Event, LaunchEnded, SessionUp, TrialEnded, TrialStarted
from fleetbench.store.commit import StoreError, Warehouse
from fleetbench_collectors.host.facts import facts
from fleetbench_collectors.power.common import sources
from fleetbench_collectors.worker import Worker

MAY_PASS = frozenset({"port", "timeout"})
"""Causes of a failed start that may be gone at the next one."""
FATAL = frozenset({Outcome.CRASHED, Outcome.OOM, Outcome.TIMEOUT})
"""Outcomes of a trial after which this engine is not trusted with another one."""


@dataclass(slots=True, kw_only=True)
class _Launch:
    """What is known of the launch so far; becomes its row."""

    job: LaunchJob
    lease: str
    started_at: datetime
    began: float
    node: str
    artifact: Artifact | None = None
    session: Session | None = None
    outcome: Outcome = Outcome.OK
    reason: str | None = None
    log_tail: str | None = None
    retriable: bool = False
    host: dict[str, str | None] = field(default_factory=dict)


def run_launch(job: LaunchJob) -> Iterator[Event]:
    """All events of one attempt of a launch, the last one a LaunchEnded; nothing it started outlives it."""
    sweep()
    launch = _Launch(
        job=job,
        lease=new_lease(f"{job.run_id}-{job.launch.launch_id}-{job.attempt}"),
        started_at=datetime.now(UTC),
        began=time.monotonic(),
        node=socket.gethostname(),
    )
    with tempfile.TemporaryDirectory(prefix="fleetbench-") as folder:
        try:
            yield from _measured(launch, Path(folder))
        except (ArtifactError, InputError) as error:
            launch.outcome, launch.reason = Outcome.LAUNCH_FAILED, str(error)
        except LaunchError as error:
            launch.outcome = Outcome.OOM if error.cause == "oom" else Outcome.LAUNCH_FAILED
            launch.reason, launch.log_tail = str(error), error.log_tail
            launch.retriable = error.cause in MAY_PASS
    _commit(launch)
    yield LaunchEnded(
        launch_id=job.launch.launch_id, outcome=launch.outcome, reason=launch.reason, retriable=launch.retriable
    )


def _measured(launch: _Launch, folder: Path) -> Iterator[Event]:
    job = launch.job
    launch.artifact = artifact = ensure(artifact_order(job), job.cache)
    with ExitStack() as stack:
        session = engine(job.launch.engine.name).launch(_spec(job, artifact, folder / "engine.log"), launch.lease)
        launch.session = stack.enter_context(session)
        bench = Bench(
            job=job,
            session=session,
            worker=stack.enter_context(_worker(launch, folder / "worker.log")),
            sources=sources(),
            warehouse=Warehouse(job.warehouse),
            node=launch.node,
            scratch=folder,
        )
        launch.host = facts({"fleetbench": __version__, session.receipt.engine: session.receipt.version})
        yield SessionUp(launch_id=job.launch.launch_id, ready_s=session.receipt.ready_s)
        unfit = canary(bench)
        if unfit is not None:
            launch.outcome, launch.reason, launch.log_tail = Outcome.CRASHED, f"canary: {unfit}", session.log_tail()
            return
        yield from _trials(launch, bench)


def _trials(launch: _Launch, bench: Bench) -> Iterator[Event]:
    for trial in launch.job.trials:
        yield TrialStarted(launch_id=launch.job.launch.launch_id, trial_id=trial.trial_id)
        ended: TrialEnded = measure(bench, trial)
        yield ended
        if ended.outcome in FATAL:
            launch.outcome, launch.reason, launch.log_tail = ended.outcome, ended.reason, bench.session.log_tail()
            return


def _worker(launch: _Launch, log: Path) -> Worker:
    """The load's process carries the launch's lease, as the engine does."""
    return Worker.start(log=log, env={**os.environ, LEASE_ENV: launch.lease})


def artifact_order(job: LaunchJob) -> ArtifactOrder:
    """The checkpoint that the launch needs."""
    return ArtifactOrder(
        artifact_id=job.launch.artifact_id,
        model=job.launch.model.name,
        model_path=job.model_path,
        model_digest=job.launch.model.digest,
        weights=job.launch.recipe.weights,
        method=job.launch.recipe.method,
    )


def _spec(job: LaunchJob, artifact: Artifact, log: Path) -> LaunchSpec:
    planned = job.launch
    return LaunchSpec(
        model_path=artifact.path,
        model_name=planned.model.name,
        kv=planned.recipe.kv,
        weights=planned.recipe.weights,
        slots=planned.slots,
        context_tok=planned.slot_tok,
        threads=None,
        seed=job.trials[0].cell.seed,
        log=log,
        timeout_s=job.limits.launch_s,
    )


def _commit(launch: _Launch) -> None:
    """The launch's row and its host's facts; where they cannot be kept the trials' own rows say more."""
    job, warehouse = launch.job, Warehouse(launch.job.warehouse)
    name = f"{job.launch.launch_id}-{job.attempt}"
    key = {"run_id": job.run_id, "launch_id": job.launch.launch_id, "attempt": job.attempt}
    facts_said = [{**key, "name": fact, "value": value} for fact, value in launch.host.items()]
    try:
        warehouse.commit("launches", [{**key, **_row(launch)}], run_id=job.run_id, name=name)
        if facts_said:
            warehouse.commit("host", facts_said, run_id=job.run_id, name=name)
    except StoreError as error:
        launch.reason = launch.reason or f"the launch's row was not kept: {error}"


def _row(launch: _Launch) -> dict[str, Any]:
    receipt = launch.session.receipt if launch.session else None
    artifact = launch.artifact
    return {
        "role": launch.job.launch.role,
        **axes(launch.job.trials[0].cell),
        "outcome": launch.outcome.value,
        "reason": launch.reason,
        "log_tail": launch.log_tail,
        "node": launch.node,
        "lease": launch.lease,
        "started_at": launch.started_at,
        "wall_s": time.monotonic() - launch.began,
        "artifact_bytes": artifact.bytes if artifact else None,
        "artifact_s": artifact.build_s if artifact else None,
        "ready_s": receipt.ready_s if receipt else None,
        "first_token_s": receipt.first_token_s if receipt else None,
        "requested": json.dumps(receipt.requested, sort_keys=True) if receipt else None,
        "effective": json.dumps(receipt.effective, sort_keys=True) if receipt else None,
        "differences": list(receipt.differences) if receipt else None,
    }
