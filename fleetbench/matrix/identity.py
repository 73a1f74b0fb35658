"""Content hashes: the same thing has the same id in every run, on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fleetbench.matrix.types import EngineInfo, LoadPoint, Matrix, Parallel, QualityPoint, Recipe


def canonical(obj: Any) -> str:
    """JSON with sorted keys, no spaces and ASCII only.

    Raises:
        ValueError: NaN or infinity, which have no JSON.
    """
    return json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(obj: Any) -> str:
    """SHA-256 of the canonical JSON: 64 hex digits."""
    return hashlib.sha256(canonical(obj).encode("ascii")).hexdigest()


def run_id(matrix: Matrix, run_name: str) -> str:
    """12 hex digits from the canonical matrix and the run's name."""
    return digest({"matrix": matrix.canonical, "run": run_name})[:12]


def artifact_id(model_digest: str, recipe: Recipe, toolchain: str) -> str:
    """16 hex digits from what determines a checkpoint's bytes: not the KV format, not names."""
    return digest(
        {
            "model": model_digest,
            "weights": recipe.weights,
            "method": recipe.method,
            "group_size": recipe.group_size,
            "calibration": recipe.calibration,
            "protect": sorted(recipe.protect),
            "toolchain": toolchain,
        }
    )[:16]


def cell_id(
    *,
    artifact_id: str,
    recipe: Recipe,
    engine: EngineInfo,
    hardware: str,
    parallel: Parallel,
    work: LoadPoint | QualityPoint,
    seed: int,
) -> str:
    """16 hex digits from everything that determines what is measured: not names, repeats, SLOs or limits."""
    return digest(
        {
            "artifact": artifact_id,
            "recipe": recipe_axes(recipe),
            "engine": [engine.name, engine.version],
            "hardware": hardware,
            "parallel": [parallel.tp, parallel.pp, parallel.dp],
            "work": _work(work),
            "seed": seed,
        }
    )[:16]


def trial_id(run_id: str, cell_id: str, repeat: int, role: str) -> str:
    """16 hex digits; attempts of one trial share it."""
    return digest({"run": run_id, "cell": cell_id, "repeat": repeat, "role": role})[:16]


def recipe_axes(recipe: Recipe) -> dict[str, Any]:
    """A recipe without its name: two recipes of equal axes are the same recipe."""
    return {
        "weights": recipe.weights,
        "activations": recipe.activations,
        "kv_k": recipe.kv.k,
        "kv_v": recipe.kv.v,
        "attention": recipe.attention,
        "method": recipe.method,
        "group_size": recipe.group_size,
        "calibration": recipe.calibration,
        "protect": sorted(recipe.protect),
    }


def _work(work: LoadPoint | QualityPoint) -> dict[str, Any]:
    if isinstance(work, QualityPoint):
        return {"kind": "quality", "suite": work.suite, "version": work.version, "items": work.items}
    return {
        "kind": "speed",
        "batch": work.batch,
        "rate": work.rate,
        "arrivals": work.arrivals,
        "context_tok": work.context_tok,
        "output_tok": work.output_tok,
    }
