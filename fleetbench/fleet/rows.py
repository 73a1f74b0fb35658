"""Rows of launches, trials and refusals: what was planned, in the columns of the warehouse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fleetbench.artifact.types import Artifact
from fleetbench.matrix.resolve import scheme
from fleetbench.matrix.types import Cell, Checkpoint, LoadPoint, Outcome
from fleetbench.origin import OWN
from fleetbench.plan.types import EngineLaunch, Plan, Refusal, Trial

Row = dict[str, Any]
CPU_KINDS = frozenset({"local", "cpu"})


def axes(cell: Cell) -> Row:
    """The columns RECIPE_AXES of a cell."""
    recipe, parallel = cell.recipe, cell.parallel
    return {
        "model": cell.model.name,
        "model_digest": cell.model.digest,
        "random_weights": cell.model.random_weights,
        "recipe": recipe.name,
        "reference": cell.reference,
        "weights": recipe.weights,
        "activations": recipe.activations,
        "kv_k": recipe.kv.k,
        "kv_v": recipe.kv.v,
        "scheme": scheme(recipe),
        "method": recipe.method,
        "artifact_id": cell.artifact_id,
        "engine": cell.engine.name,
        "engine_version": cell.engine.version,
        "hardware": cell.hardware,
        "gpus": 0 if cell.hardware in CPU_KINDS else parallel.gpus,
        "tp": parallel.tp,
        "pp": parallel.pp,
        "dp": parallel.dp,
    }


def work(cell: Cell) -> Row:
    """What is asked of the engine: load point or suite."""
    if isinstance(cell.work, LoadPoint):
        return {
            "batch": cell.work.batch,
            "context_tok": cell.work.context_tok,
            "output_tok": cell.work.output_tok,
            "suite": None,
        }
    return {"batch": None, "context_tok": None, "output_tok": None, "suite": f"{cell.work.suite}/{cell.work.version}"}


def refusal_row(run_id: str, refusal: Refusal) -> Row:
    return {
        "run_id": run_id,
        "cell_id": refusal.cell.cell_id,
        **axes(refusal.cell),
        **work(refusal.cell),
        "kind": refusal.cell.kind,
        "verdict": refusal.verdict,
        "rule": refusal.rule,
        "sentence": refusal.sentence,
        "source": refusal.source,
    }


def artifact_row(run_id: str, launch: EngineLaunch, kind: Checkpoint, artifact: Artifact, node: str) -> Row | None:
    """What making a checkpoint cost; None where it was there already."""
    if artifact.build_s is None:
        return None
    recipe = launch.recipe
    return {
        "run_id": run_id,
        "artifact_id": artifact.artifact_id,
        "model": launch.model.name,
        "model_digest": launch.model.digest,
        "checkpoint": kind,
        "weights": recipe.weights,
        "activations": recipe.activations,
        "scheme": scheme(recipe),
        "method": recipe.method,
        "group_size": recipe.group_size,
        "calibration_sha256": recipe.calibration.sha256 if recipe.calibration else None,
        "protect": list(recipe.protect),
        "bytes": artifact.bytes,
        "build_s": artifact.build_s,
        "peak_rss_bytes": artifact.peak_rss_bytes,
        "tool": artifact.tool,
        "node": node,
        "made_at": datetime.now(UTC),
    }


def run_row(plan: Plan, version: str) -> Row:
    return {
        "run_id": plan.run_id,
        "run": plan.run,
        "matrix": plan.matrix.name,
        "analysis": plan.matrix.analysis,
        "matrix_json": plan.matrix.canonical,
        "reference": plan.matrix.reference,
        "submitted_at": datetime.now(UTC),
        "fleetbench_version": version,
        "origin": OWN,
        "cells": len(plan.cells),
        "refusals": len(plan.refusals),
        "trials": len(plan.trials),
    }


def trial_row(
    *,
    run_id: str,
    launch: EngineLaunch,
    launch_attempt: int,
    trial: Trial,
    attempt: int,
    node: str,
    outcome: Outcome,
    reason: str | None,
    measured: Mapping[str, Any],
) -> Row:
    """A trial's own row; `measured` adds the columns that measuring gave, and wins over none of the plan's."""
    cell = trial.cell
    return {
        "started_at": datetime.now(UTC),
        "power_status": "not measured",
        **measured,
        "run_id": run_id,
        "trial_id": trial.trial_id,
        "attempt": attempt,
        "cell_id": cell.cell_id,
        "launch_id": launch.launch_id,
        "launch_attempt": launch_attempt,
        "repeat": trial.repeat,
        "role": trial.role,
        "kind": cell.kind,
        **axes(cell),
        **work(cell),
        "rate_per_s": cell.work.rate if isinstance(cell.work, LoadPoint) else None,
        "seed": cell.seed,
        "node": node,
        "outcome": outcome.value,
        "valid": outcome is Outcome.OK,
        "reason": reason,
    }
