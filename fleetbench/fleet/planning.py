"""From a matrix file to a plan: reads the file, looks at models and engines, and expands."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from fleetbench.artifact.source import inspect, toolchain
from fleetbench.engine.registry import engine, names
from fleetbench.errors import InputError
from fleetbench.fleet.embedded import LOCAL
from fleetbench.matrix.document import Lines, printable
from fleetbench.matrix.expand import check_axes, expand
from fleetbench.matrix.identity import run_id
from fleetbench.matrix.read import read_with_lines
from fleetbench.matrix.types import EngineInfo, Matrix, ModelInfo
from fleetbench.plan.gate import gate
from fleetbench.plan.launches import make_plan
from fleetbench.plan.types import Plan, Refusal

RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and where its models lie on this machine (None: embedded in fleetbench)."""

    plan: Plan
    model_paths: dict[str, Path | None]


def plan_file(path: Path, run: str) -> Planned:
    """Plan a matrix file; every mistake in it is reported at once.

    Raises:
        InputError: the file, a model in it or the run's name is wrong.
    """
    if not RUN_NAME.fullmatch(run):
        raise InputError((f"--run {run!r}: a name has 1 to 64 letters, digits, dots, dashes or underscores",))
    matrix, lines = read_with_lines(path)
    models, engines = _look_up(matrix, lines)
    mistakes = check_axes(matrix, models, lines)
    if mistakes:
        raise InputError(mistakes)
    expansion = expand(matrix, models, engines)
    excluded = [Refusal(cell=cell, rule="excluded", sentence=by.because) for cell, by in expansion.excluded]
    plan = make_plan(
        run_id=run_id(matrix, run),
        run=run,
        matrix=matrix,
        cells=expansion.cells,
        refused=excluded,
        gate=lambda cell: gate(cell, frozenset({LOCAL})),
    )
    paths = {spec.name: _path(spec.path) for spec in matrix.models}
    return Planned(plan=plan, model_paths=paths)


def _path(given: str | None) -> Path | None:
    return None if given is None else Path(given)


def _look_up(matrix: Matrix, lines: Lines) -> tuple[dict[str, ModelInfo], dict[str, EngineInfo]]:
    mistakes: list[str] = []
    models: dict[str, ModelInfo] = {}
    for index, spec in enumerate(matrix.models):
        try:
            models[spec.name] = inspect(spec.name, _path(spec.path))
        except InputError as error:
            mistakes += [lines.mistake(("models", index, "path"), printable(one)) for one in error.mistakes]
    made_by = toolchain()
    engines = {name: replace(engine(name).info(), toolchain=made_by) for name in matrix.engines if name in names()}
    if mistakes:
        raise InputError(tuple(mistakes))
    return models, engines
