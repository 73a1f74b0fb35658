"""One launch on its node, without Ray: make the artifact, start the engine, measure its trials, clean up."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from fleetbench import __version__
from fleetbench.artifact.kinds import served_kind
from fleetbench.artifact.supply import Need
from fleetbench.artifact.types import Artifact, ArtifactError
from fleetbench.engine import start
from fleetbench.engine.lease import LEASE_ENV, new_lease
from fleetbench.engine.protocol import LaunchError, LaunchSpec, Receipt, Session, Span
from fleetbench.engine.session import Others
from fleetbench.errors import FleetbenchError, InputError, UnusableEnvironmentError
from fleetbench.fleet.launch.courier import Courier, Handed, Keeper
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.launch.measure import Bench, canary, measure
from fleetbench.fleet.launch.scratch import scratch
from fleetbench.fleet.launch.staging import Staged, stage
from fleetbench.fleet.rows import artifact_row, axes
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import LaunchEnded, LaunchEvent, SessionUp, TrialEnded, TrialStarted
from fleetbench.store.commit import NO_ROOM, StoreError, Warehouse
from fleetbench_collectors.host.facts import facts
from fleetbench_collectors.power.common import sources
from fleetbench_collectors.worker import Worker

MAY_PASS = frozenset({"port", "timeout", "device", "lost", "killed", "disk"})
"""Causes of a failed start that may be gone at the next one."""
OF_CAUSE = {"oom": Outcome.OOM, "lost": Outcome.LOST}
"""Outcomes of a start that failed, where they are not that it did."""
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
    ranks: Ranks | None = None
    staged: Staged | None = None
    staged_s: float | None = None
    session: Session | None = None
    outcome: Outcome = Outcome.OK
    reason: str | None = None
    cause: str | None = None
    log_tail: str | None = None
    retriable: bool = False
    host: dict[str, str | None] = field(default_factory=dict)
    keeper: Keeper

    def handed(self) -> Iterator[Handed]:
        """What waits for the controller to commit it."""
        if isinstance(self.keeper, Courier) and (parcels := self.keeper.take()):
            yield Handed(launch_id=self.job.launch.launch_id, parcels=parcels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """Why a node may not be measured on; lasting: by what it is, not by what runs on it now; node_id: which node."""

    reason: str
    lasting: bool
    node_id: str | None = None


class RankError(FleetbenchError):
    """A node cannot take its part of a launch."""


class RankLostError(FleetbenchError):
    """The actor that holds a node for a launch, or the node, is gone."""


class Ranks(Others, Protocol):
    """The launch's part on other nodes, where it spans several."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """What they are called."""

    def stage(self) -> None:
        """Have every node get its weights, while this one gets its own."""

    def begin(self) -> Span:
        """Start them all, once all have their weights; returns the span of this node's rank."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def run_launch(
    job: LaunchJob,
    unfit: Callable[[], Fitness | None] = lambda: None,
    node: str | None = None,
    ranks: Ranks | None = None,
) -> Iterator[LaunchEvent | Handed]:
    """All events of one attempt of a launch, the last one a LaunchEnded; nothing it started outlives it.

    unfit: asked once what earlier launches left behind is gone; node: its name, by default the host's; ranks: of the
    engine on other nodes.
    """
    start.sweep()
    if (why := unfit()) is not None:
        yield LaunchEnded(
            launch_id=job.launch.launch_id,
            outcome=Outcome.LAUNCH_FAILED,
            reason=why.reason,
            retriable=not why.lasting,
            unfit=why.reason if why.lasting else None,
            unfit_node=why.node_id,
        )
        return
    launch = _Launch(
        job=job,
        lease=new_lease(f"{job.run_id}-{job.launch.launch_id}-{job.attempt}"),
        started_at=datetime.now(UTC),
        began=time.monotonic(),
        node=", ".join((node or socket.gethostname(), *(ranks.nodes if ranks else ()))),
        ranks=ranks,
        keeper=Warehouse(job.warehouse) if job.warehouse else Courier(),
    )
    with scratch() as folder:
        try:
            yield from _measured(launch, folder)
        except (ArtifactError, InputError, RankError, UnusableEnvironmentError) as error:
            launch.outcome, launch.reason, launch.retriable = Outcome.LAUNCH_FAILED, str(error), _is_room(error)
        except RankLostError as error:
            launch.outcome, launch.reason, launch.retriable = Outcome.LOST, str(error), True
        except LaunchError as error:
            launch.outcome = OF_CAUSE.get(error.cause, Outcome.LAUNCH_FAILED)
            launch.reason, launch.log_tail, launch.cause = str(error), error.log_tail, error.cause
            launch.retriable = error.cause in MAY_PASS
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            launch.outcome, launch.reason, launch.cause = Outcome.LAUNCH_FAILED, f"the node's disk: {error}", "disk"
            launch.retriable = True
    _commit(launch)
    yield from launch.handed()
    yield LaunchEnded(
        launch_id=job.launch.launch_id, outcome=launch.outcome, reason=launch.reason, retriable=launch.retriable
    )


def _is_room(error: Exception) -> bool:
    """Whether a disk was full, which may pass."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in NO_ROOM


def _measured(launch: _Launch, folder: Path) -> Iterator[LaunchEvent | Handed]:
    job, ranks, span = launch.job, launch.ranks, None
    with ExitStack() as stack:
        if ranks is not None:
            stack.enter_context(ranks).stage()
        launch.staged = staged = stage(job, need_of(job))
        if ranks is not None:
            span = ranks.begin()
        spec = spec_of(job, staged.artifact, folder / "engine.log", span)
        launch.staged_s = time.monotonic() - launch.began
        session = start.launch(job.launch.engine.name, spec, launch.lease, ranks)
        launch.session = stack.enter_context(session)
        bench = Bench(
            job=job,
            session=session,
            worker=stack.enter_context(_worker(launch, folder / "worker.log")),
            sources=sources(),
            keeper=launch.keeper,
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


def _trials(launch: _Launch, bench: Bench) -> Iterator[LaunchEvent | Handed]:
    for trial in launch.job.trials:
        yield TrialStarted(launch_id=launch.job.launch.launch_id, trial_id=trial.trial_id)
        ended: TrialEnded = measure(bench, trial)
        yield from launch.handed()
        yield ended
        if ended.outcome in FATAL or (ended.outcome is Outcome.LOST and not bench.session.alive()):
            launch.outcome, launch.reason, launch.log_tail = ended.outcome, ended.reason, bench.session.log_tail()
            return


def _worker(launch: _Launch, log: Path) -> Worker:
    """The load's process carries the launch's lease, as the engine does."""
    return Worker.start(log=log, env={**os.environ, LEASE_ENV: launch.lease})


def need_of(job: LaunchJob) -> Need:
    """The checkpoint that the launch needs."""
    launch = job.launch
    return Need(
        artifact_id=launch.artifact_id,
        engine=launch.engine.name,
        recipe=launch.recipe,
        model=launch.model,
        folder=job.model_path,
    )


def spec_of(job: LaunchJob, artifact: Artifact | None, log: Path, span: Span | None = None) -> LaunchSpec:
    """What to start, of the whole or of one rank."""
    planned = job.launch
    return LaunchSpec(
        model_path=artifact.path if artifact else Path(),
        model_name=planned.model.name,
        checkpoint=served_kind(planned.engine.name, planned.recipe, planned.model),
        recipe=planned.recipe,
        dummy=planned.model.dummy,
        parallel=planned.parallel,
        span=span,
        hardware=planned.hardware,
        slots=planned.slots,
        context_tok=planned.slot_tok,
        threads=None,
        seed=job.trials[0].cell.seed,
        args=planned.engine.args,
        kernel=planned.kernel,
        log=log,
        timeout_s=job.limits.launch_s,
    )


def _commit(launch: _Launch) -> None:
    """The launch's row and its host's facts; where they cannot be kept the trials' own rows say more."""
    job, keeper = launch.job, launch.keeper
    name = f"{job.launch.launch_id}-{job.attempt}"
    key = {"run_id": job.run_id, "launch_id": job.launch.launch_id, "attempt": job.attempt}
    facts_said = [{**key, "name": fact, "value": value} for fact, value in launch.host.items()]
    try:
        keeper.commit("launches", [{**key, **_row(launch)}], run_id=job.run_id, name=name)
        made = (
            artifact_row(job.run_id, job.launch, need_of(job).kind, artifact, launch.node)
            if (artifact := _artifact(launch))
            else None
        )
        if made is not None:
            keeper.commit("artifacts", [made], run_id=job.run_id, name=name)
        if facts_said:
            keeper.commit("host", facts_said, run_id=job.run_id, name=name)
    except StoreError as error:
        launch.reason = launch.reason or f"the launch's row was not kept: {error}"


def _artifact(launch: _Launch) -> Artifact | None:
    return launch.staged.artifact if launch.staged else None


def _row(launch: _Launch) -> dict[str, Any]:
    receipt = launch.session.receipt if launch.session else None
    artifact, planned = _artifact(launch), launch.job.launch
    return {
        "role": planned.role,
        **axes(launch.job.trials[0].cell),
        "outcome": launch.outcome.value,
        "reason": launch.reason,
        "cause": launch.cause,
        "log_tail": launch.log_tail,
        "node": launch.node,
        "lease": launch.lease,
        "started_at": launch.started_at,
        "wall_s": time.monotonic() - launch.began,
        "staged_s": launch.staged_s,
        "artifact_bytes": artifact.bytes if artifact else None,
        "artifact_s": artifact.build_s if artifact else None,
        "model_hub": planned.model.hub,
        "model_revision": (launch.staged or planned).model.revision,
        "expected_kernel": planned.kernel,
        **(_received(receipt) if receipt else {}),
    }


def _received(receipt: Receipt) -> dict[str, Any]:
    """What the engine told of itself, asked and unasked."""
    cold, runs = receipt.cold, receipt.effective
    return {
        "ready_s": receipt.ready_s,
        "first_token_s": receipt.first_token_s,
        "cold_read_s": cold.read_s,
        "cold_load_s": cold.load_s,
        "cold_compile_s": cold.compile_s,
        "cold_first_s": cold.first_token_s,
        "storage": cold.storage,
        "requested": json.dumps(receipt.requested, sort_keys=True),
        "effective": json.dumps(runs, sort_keys=True),
        "differences": list(receipt.differences),
        "applied_weights": runs.get("weights"),
        "applied_kv_k": runs.get("kv_k"),
        "applied_kv_v": runs.get("kv_v"),
        "applied_context_tok": runs.get("context_tok"),
        "applied_tp": runs.get("tp"),
        "prefix_caching": runs.get("prefix_caching"),
        "gemm_kernel": runs.get("gemm_kernel"),
        "attention_kernel": runs.get("attention_kernel"),
    }
