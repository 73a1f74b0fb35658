"""Content hashes: the same thing has the same id in every run, on every machine."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fleetbench.matrix.types import Calibration, EngineInfo, LoadPoint, Matrix, Parallel, QualityPoint, Recipe


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
    """16 hex digits from what determines a checkpoint's bytes: no names, and the KV format only if calibrated."""
    return digest(
        {
            "model": model_digest,
            "weights": recipe.weights,
            "activations": recipe.activations,
            "scales": recipe.scales,
            "method": recipe.method,
            "group_size": recipe.group_size,
            "calibration": _calibration(recipe.calibration),
            "kv": str(recipe.kv) if recipe.calibration else None,
            "protect": sorted(recipe.protect),
            "toolchain": toolchain,
        }
    )[:16]


def start_axes(
    *, artifact_id: str, recipe: Recipe, engine: EngineInfo, hardware: str, parallel: Parallel, seed: int
) -> str:
    """Canonical JSON of all that determines what is measured but the work: the same for many cells of one launch."""
    return canonical(
        {
            "artifact": artifact_id,
            "recipe": recipe_axes(recipe),
            "engine": [engine.name, engine.version, list(engine.args)],
            "hardware": hardware,
            "parallel": [parallel.tp, parallel.pp, parallel.dp],
            "seed": seed,
        }
    )


def work_axes(work: LoadPoint | QualityPoint) -> str:
    """Canonical JSON of what is asked of the engine."""
    return canonical(_work(work))


def cell_id(start: str, work: str) -> str:
    """16 hex digits from everything that determines what is measured: not names, repeats, SLOs or limits.

    Args:
        start: of `start_axes`.
        work: of `work_axes`.
    """
    return hashlib.sha256(f"{start}\0{work}".encode("ascii")).hexdigest()[:16]


def trial_id(run_id: str, cell_id: str, repeat: int, role: str) -> str:
    """16 hex digits; attempts of one trial share it."""
    return hashlib.sha256(f"{run_id}\0{cell_id}\0{repeat}\0{role}".encode("ascii")).hexdigest()[:16]


def recipe_axes(recipe: Recipe) -> dict[str, Any]:
    """A recipe without its name: two recipes of equal axes are the same recipe."""
    kv, draft = recipe.kv, recipe.draft
    return {
        "weights": recipe.weights,
        "activations": recipe.activations,
        "scales": recipe.scales,
        "kv": [kv.k, kv.v, kv.k_scales, kv.v_scales],
        "attention": recipe.attention,
        "method": recipe.method,
        "group_size": recipe.group_size,
        "calibration": _calibration(recipe.calibration),
        "protect": sorted(recipe.protect),
        "lora": list(recipe.lora),
        "draft": [draft.method, draft.model, draft.tokens] if draft else None,
    }


def _calibration(text: Calibration | None) -> list[Any] | None:
    """The text by its content where it was read, else by its path."""
    return None if text is None else [text.sha256 or text.path, text.samples, text.sequence_tok]


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
