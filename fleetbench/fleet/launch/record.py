"""What is kept of a launch itself: its row, its host's facts, the checkpoint that it made."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from fleetbench.artifact.types import Artifact
from fleetbench.engine.protocol import Receipt
from fleetbench.fleet.launch.courier import Courier, Handed, Keeper
from fleetbench.fleet.launch.staging import need_of
from fleetbench.fleet.launch.under_way import UnderWay
from fleetbench.fleet.rows import artifact_row, axes
from fleetbench.store.commit import Warehouse
from fleetbench.store.write import StoreError


def keeper_of(launch: UnderWay) -> Keeper:
    """Keeps the launch's rows: the warehouse, or where the node does not see it who hands them over."""
    if launch.keeper is None:
        launch.keeper = Warehouse(launch.job.warehouse) if launch.job.warehouse else Courier()
    return launch.keeper


def handed(launch: UnderWay) -> Iterator[Handed]:
    """What waits for the controller to commit it."""
    if isinstance(launch.keeper, Courier) and (parcels := launch.keeper.take()):
        yield Handed(launch_id=launch.job.launch.launch_id, parcels=parcels)


def commit(launch: UnderWay) -> None:
    """The launch's row and its host's facts; where they cannot be kept the trials' own rows say more."""
    job, keeper = launch.job, keeper_of(launch)
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


def _artifact(launch: UnderWay) -> Artifact | None:
    return launch.staged.artifact if launch.staged else None


def _row(launch: UnderWay) -> dict[str, Any]:
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
