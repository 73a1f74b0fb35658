"""A matrix that is run for real in seconds: the trained tiny model, one thread, a few tokens."""

from __future__ import annotations

from pathlib import Path

from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.planning import Planned, plan_file
from fleetbench.plan.types import EngineLaunch

MATRIX = """
name: small
analysis: Does a small matrix run?
models: [{name: tiny, measure: [speed, quality]}]
engines: llamacpp
hardware: local
reference: f16
recipes: [f16, q2_k]
load: {batch: [1, 2], context: 16, output: 8, requests: 2, warmup: 1}
repeats: 1
quality: {suite: embedded, items: 8}
limits: {launch: 60s, trial: 60s}
"""


def write_matrix(folder: Path, **replacements: str | None) -> Path:
    """The matrix file, with lines replaced by key; None leaves a line out."""
    lines = []
    for line in MATRIX.strip().splitlines():
        key = line.split(":")[0]
        value = replacements.get(key, line.removeprefix(f"{key}: "))
        lines += [f"{key}: {value}\n"] if value is not None else []
    path = folder / "small.yaml"
    path.write_text("".join(lines))
    return path


def planned(folder: Path, **replacements: str | None) -> Planned:
    return plan_file(write_matrix(folder, **replacements), "default")


def job_of(plan: Planned, launch: EngineLaunch, *, warehouse: Path, cache: Path) -> LaunchJob:
    matrix = plan.plan.matrix
    return LaunchJob(
        run_id=plan.plan.run_id,
        launch=launch,
        attempt=0,
        trials=launch.trials,
        trial_attempts={},
        model_path=None,
        effort=matrix.effort,
        limits=matrix.limits,
        warehouse=warehouse,
        cache=cache,
    )
