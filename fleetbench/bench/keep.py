"""Keeps a load on one server in the warehouse, beside the trials of matrices."""

from __future__ import annotations

import socket
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetbench import __version__
from fleetbench.bench.run import Load
from fleetbench.bench.verdict import Judged
from fleetbench.matrix.identity import canonical, digest
from fleetbench.origin import OWN
from fleetbench.store.commit import Warehouse
from fleetbench.store.schema import TRIALS
from fleetbench_collectors.load import certify, latency
from fleetbench_collectors.load.rows import table
from fleetbench_collectors.load.workload import File, Ids, Replay, Workload

UNKNOWN = "unknown"
"""What a server does not say of itself: formats, version, hardware."""
MATRIX = "bench"
AS_SERVED = "as-served"
_SECRETS = ("authorization", "proxy-authorization", "cookie", "api-key", "x-api-key")
"""Headers that say who asks, not for what."""

Row = dict[str, Any]


def keep(judged: Judged, folder: Path) -> str:
    """Commits the load as a run of one trial; its run_id.

    Raises:
        StoreError: the warehouse cannot be written.
    """
    asked, workload = judged.load.asked, judged.load.workload
    described = {
        "url": asked.url,
        "endpoint": asked.endpoint,
        "model": workload.model,
        "load": asked.load,
        "context": str(asked.context),
        "output": str(asked.output),
        "seed": asked.seed,
        "asked": asked.described(),
    }
    identity = {**_identity(workload), "engine": judged.load.engine}
    run_id = digest({**identity, "nonce": workload.nonce})[:12]
    cell_id = digest(identity)[:16]
    key = {"run_id": run_id, "trial_id": f"{cell_id}-0", "attempt": 0}
    now = judged.load.began
    warehouse = Warehouse(folder)
    warehouse.create()
    warehouse.commit("runs", [_run(described, run_id, now)], run_id=run_id, name=f"{now:%Y%m%dT%H%M%S%f}")
    records, clock = judged.load.outcome.records, judged.load.clock
    measured = {
        "requests": table(records, key=key, zero_ns=clock.mono_ns, stamp=judged.evidence.client.stamp or "user"),
        "engine_metrics": _metrics(judged.load, key),
    }
    row = _trial(judged, key, cell_id) | {"clock_wall_ns": clock.wall_ns, "clock_mono_ns": clock.mono_ns}
    warehouse.commit_trial(row, {name: rows for name, rows in measured.items() if len(rows)})
    return run_id


def _identity(workload: Workload) -> Row:
    """What makes two loads the same: all that is asked of the server, not who asks, nor what probes found out."""
    prompts = workload.prompts
    bare = replace(
        workload,
        target=replace(workload.target, proxy_auth=None, address=None),
        prompts=Ids(ids=()),
        nonce="",
        api_key=None,
        headers={name.lower(): value for name, value in workload.headers.items() if name.lower() not in _SECRETS},
    )
    return {**asdict(bare), "prompts": asdict(prompts) if isinstance(prompts, File) else type(prompts).__name__}


def _run(described: Row, run_id: str, now: datetime) -> Row:
    return {
        "run_id": run_id,
        "run": f"bench-{now:%Y%m%d-%H%M%S}",
        "matrix": MATRIX,
        "analysis": f"What does {described['model']} at {described['url']} give at {described['load']}?",
        "matrix_json": canonical(described),
        "reference": AS_SERVED,
        "submitted_at": now,
        "fleetbench_version": __version__,
        "origin": OWN,
        "cells": 1,
        "refusals": 0,
        "trials": 1,
    }


def _trial(judged: Judged, key: Row, cell_id: str) -> Row:
    load, validity = judged.load, judged.validity
    asked, records = load.asked, load.outcome.records
    traced = isinstance(asked.arrivals, Replay)
    figures = {
        **latency.summarise(records, asked_requests=judged.evidence.counts.asked),
        **certify.figures(records, judged.steady, judged.evidence),
    }
    return {
        **{name: value for name, value in figures.items() if name in TRIALS.names},
        **key,
        **_axes(load.workload.model, load.engine),
        "cell_id": cell_id,
        "launch_id": cell_id,
        "launch_attempt": 0,
        "repeat": 0,
        "role": "measure",
        "kind": "speed",
        "batch": asked.batch,
        "rate_per_s": asked.rate_per_s,
        "context_tok": None if asked.prompts_file or traced else asked.context.fixed,
        "output_tok": None if traced else asked.output.fixed,
        "seed": asked.seed,
        "node": socket.gethostname(),
        "started_at": load.began,
        "power_status": "not measured",
        "outcome": validity.outcome.value,
        "valid": validity.valid,
        "verdict": validity.verdict,
        "slo": asked.slo,
        "goodput_per_s": (judged.row["goodput"] or {}).get("per_s"),
        "goodput_ratio": (judged.row["goodput"] or {}).get("ratio"),
        "reason": validity.reason,
    }


def _axes(model: str, engine: str | None) -> Row:
    """The columns RECIPE_AXES of a server that says nothing of itself but its model and, by its metrics, its engine."""
    return {
        "model": model,
        "model_digest": UNKNOWN,
        "random_weights": False,
        "recipe": AS_SERVED,
        "reference": True,  # `compare` wants one in each run, and there is no other cell
        **dict.fromkeys(("weights", "activations", "kv_k", "kv_v", "scheme", "method", "artifact_id"), UNKNOWN),
        "engine": engine or UNKNOWN,
        "engine_version": UNKNOWN,
        "hardware": UNKNOWN,
        **dict.fromkeys(("gpus", "tp", "pp", "dp")),
    }


def _metrics(load: Load, key: Row) -> list[Row]:
    """The server's own metrics around the load."""
    sides = (("before", load.before_ns, load.before), ("after", load.after_ns, load.after))
    return [
        {**key, "at_ns": at_ns - load.clock.mono_ns, "phase": phase, "name": name, "value": value}
        for phase, at_ns, metrics in sides
        for name, value in metrics
    ]
