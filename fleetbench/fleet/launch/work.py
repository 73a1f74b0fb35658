"""One launch on its node, without Ray: make the artifact, start the engine, measure its trials, clean up."""

from __future__ import annotations

import importlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from fleetbench.artifact.kinds import served_kind
from fleetbench.artifact.types import ArtifactError, PassingError
from fleetbench.engine import start
from fleetbench.engine.lease import new_lease
from fleetbench.engine.protocol import LaunchError, LaunchSpec, Span
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.launch.scratch import scratch
from fleetbench.fleet.launch.staging import Staged, need_of, stage
from fleetbench.fleet.launch.under_way import Fitness, RankError, RankLostError, Ranks, UnderWay
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import LaunchEnded, LaunchEvent
from fleetbench.store.layout import NO_ROOM

if TYPE_CHECKING:
    from fleetbench.fleet.launch.courier import Handed

MAY_PASS = frozenset({"port", "timeout", "device", "lost", "killed", "disk"})
"""Causes of a failed start that may be gone at the next one."""
OF_CAUSE = {"oom": Outcome.OOM, "lost": Outcome.LOST}
"""Outcomes of a start that failed, where they are not that it did."""


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
    launch = UnderWay(
        job=job,
        lease=new_lease(f"{job.run_id}-{job.launch.launch_id}-{job.attempt}"),
        started_at=datetime.now(UTC),
        began=time.monotonic(),
        node=", ".join((node or socket.gethostname(), *(ranks.nodes if ranks else ()))),
        ranks=ranks,
    )
    with scratch() as folder:
        try:
            yield from _measured(launch, folder)
        except (ArtifactError, InputError, RankError, UnusableEnvironmentError) as error:
            launch.outcome, launch.reason, launch.retriable = Outcome.LAUNCH_FAILED, str(error), _may_pass(error)
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
    from fleetbench.fleet.launch import record  # noqa: PLC0415 - see `_load_meanwhile`

    record.commit(launch)
    yield from record.handed(launch)
    yield LaunchEnded(
        launch_id=job.launch.launch_id, outcome=launch.outcome, reason=launch.reason, retriable=launch.retriable
    )


def _may_pass(error: Exception) -> bool:
    """Whether a download broke off, or a disk was full."""
    cause = error.__cause__
    return isinstance(error, PassingError) or (isinstance(cause, OSError) and cause.errno in NO_ROOM)


def _measured(launch: UnderWay, folder: Path) -> Iterator[LaunchEvent | Handed]:
    job, ranks, span = launch.job, launch.ranks, None
    with ExitStack() as stack:
        if ranks is not None:
            stack.enter_context(ranks).stage()
        launch.staged = staged = stage(job, need_of(job))
        if ranks is not None:
            span = ranks.begin()
        spec = spec_of(job, staged, folder / "engine.log", span)
        launch.staged_s = time.monotonic() - launch.began
        _load_meanwhile()
        session = start.launch(job.launch.engine.name, spec, launch.lease, ranks)
        launch.session = stack.enter_context(session)
        from fleetbench.fleet.launch.trials import run_trials  # noqa: PLC0415 - see `_load_meanwhile`

        yield from run_trials(launch, session, folder)


def _load_meanwhile() -> None:
    """Import what measures while the engine loads its weights: before, it would keep the GPU waiting."""
    threading.Thread(target=importlib.import_module, args=("fleetbench.fleet.launch.trials",), daemon=True).start()


def spec_of(job: LaunchJob, staged: Staged, log: Path, span: Span | None = None) -> LaunchSpec:
    """What to start, of the whole or of one rank."""
    planned = job.launch
    return LaunchSpec(
        model_path=staged.artifact.path if staged.artifact else Path(),
        model_name=planned.model.name,
        checkpoint=served_kind(planned.engine.name, planned.recipe, planned.model),
        recipe=staged.recipe,
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
