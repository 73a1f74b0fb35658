"""Matrix to cells: pure, deterministic, one pass."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fleetbench.catalog import lookup
from fleetbench.matrix import identity
from fleetbench.matrix.document import Lines, Loc, dotted
from fleetbench.matrix.resolve import resolve
from fleetbench.matrix.types import (
    Cell,
    EngineAsk,
    EngineInfo,
    Exclusion,
    LoadPoint,
    Matrix,
    ModelInfo,
    ModelSpec,
    QualityPoint,
    Recipe,
)

MAX_CELLS = 1_000_000
NOT_FOUND = "not found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expansion:
    """Cells to plan, and those that the author ruled out, each with the exclusion that did it."""

    cells: tuple[Cell, ...]
    excluded: tuple[tuple[Cell, Exclusion], ...]


def count(matrix: Matrix) -> int:
    """How many cells `expand` gives at most: exactly so many where every model knows the quality suite."""
    launches = len(matrix.recipes) * len(matrix.engines) * len(matrix.hardware) * len(matrix.parallel)
    speed = sum("speed" in model.measure for model in matrix.models) * len(matrix.load)
    quality = sum("quality" in model.measure for model in matrix.models) if matrix.quality else 0
    return launches * (speed + quality)


def expand(matrix: Matrix, models: Mapping[str, ModelInfo], engines: Mapping[EngineAsk, EngineInfo]) -> Expansion:
    """Every cell, by model, engine, hardware, parallel and recipe as the file orders them; quality after speed.

    Args:
        matrix: a validated matrix; its recipes are resolved here for each engine and model.
        models: what was found of each model, by its name in the matrix.
        engines: what was found of each engine; one that is missing gets the version `not found`, so that its
            cells exist and can be refused.

    Raises:
        KeyError: a model of the matrix is missing in `models`.
    """
    cells: list[Cell] = []
    excluded: list[tuple[Cell, Exclusion]] = []
    rules = [(rule, _values(rule)) for rule in matrix.exclude]
    for cell in _cells(matrix, models, engines):
        axes = _axes(cell) if rules else {}
        rule = next((rule for rule, values in rules if _matches(values, axes)), None)
        if rule is None:
            cells.append(cell)
        else:
            excluded.append((cell, rule))
    return Expansion(cells=tuple(cells), excluded=tuple(excluded))


def _cells(matrix: Matrix, models: Mapping[str, ModelInfo], engines: Mapping[EngineAsk, EngineInfo]) -> Iterator[Cell]:
    for spec in matrix.models:
        model = models[spec.name]
        works = [(work, identity.work_axes(work)) for work in _works(matrix, spec, model)]
        for ask in matrix.engines:
            engine = engines.get(ask) or EngineInfo(
                name=ask.name, version=ask.version or NOT_FOUND, toolchain=NOT_FOUND, args=ask.args
            )
            recipes = [_artifact(recipe, model, engine) for recipe in matrix.recipes]
            for hardware, parallel, (recipe, artifact) in itertools.product(matrix.hardware, matrix.parallel, recipes):
                start = identity.start_axes(
                    artifact_id=artifact,
                    recipe=recipe,
                    engine=engine,
                    hardware=hardware,
                    parallel=parallel,
                    seed=matrix.seed,
                )
                for work, axes in works:
                    yield Cell(
                        cell_id=identity.cell_id(start, axes),
                        model=model,
                        recipe=recipe,
                        engine=engine,
                        hardware=hardware,
                        parallel=parallel,
                        work=work,
                        artifact_id=artifact,
                        seed=matrix.seed,
                        reference=recipe.name == matrix.reference,
                    )


def _artifact(recipe: Recipe, model: ModelInfo, engine: EngineInfo) -> tuple[Recipe, str]:
    """The recipe as this engine runs it, and the id of the checkpoint that it needs."""
    resolved = _resolved(recipe, model, engine.name)
    return resolved, identity.artifact_id(model.digest, resolved, engine.toolchain)


def _resolved(recipe: Recipe, model: ModelInfo, engine: str) -> Recipe:
    spec, shape = lookup.engine_spec(engine), model.shape
    return resolve(recipe, spec, "f16") if shape is None else resolve(recipe, spec, shape.dtype, shape.quantized)


def _works(matrix: Matrix, spec: ModelSpec, model: ModelInfo) -> tuple[LoadPoint | QualityPoint, ...]:
    works: list[LoadPoint | QualityPoint] = list(matrix.load) if "speed" in spec.measure else []
    if matrix.quality is not None and "quality" in spec.measure and matrix.quality.suite in model.suites:
        suite = lookup.suite_info(matrix.quality.suite)
        version = suite.version if suite else "unknown"
        works.append(QualityPoint(suite=matrix.quality.suite, version=version, items=matrix.quality.items))
    return tuple(works)


def _values(rule: Exclusion) -> dict[str, set[str]]:
    """An axis that stands in `match` several times matches by any of its values."""
    values: dict[str, set[str]] = {}
    for axis, value in rule.match:
        values.setdefault(axis, set()).add(value)
    return values


def _matches(values: dict[str, set[str]], axes: dict[str, str]) -> bool:
    return all(axes.get(axis) in allowed for axis, allowed in values.items())


def _axes(cell: Cell) -> dict[str, str]:
    recipe, parallel, work = cell.recipe, cell.parallel, cell.work
    axes = {
        "model": cell.model.name,
        "recipe": recipe.name,
        "weights": recipe.weights,
        "activations": recipe.activations,
        "kv": str(recipe.kv),
        "kv_k": recipe.kv.k,
        "kv_v": recipe.kv.v,
        "attention": recipe.attention,
        "method": recipe.method,
        "engine": cell.engine.name,
        "hardware": cell.hardware,
        "tp": str(parallel.tp),
        "pp": str(parallel.pp),
        "dp": str(parallel.dp),
    }
    if isinstance(work, QualityPoint):
        return {**axes, "suite": work.suite}
    axes |= {"context": str(work.context_tok), "output": str(work.output_tok)}
    if work.batch is not None:
        axes["batch"] = str(work.batch)
    if work.rate is not None:
        axes["rate"] = f"{work.rate:g}"
    return axes


def check_axes(matrix: Matrix, models: Mapping[str, ModelInfo], lines: Lines | None = None) -> tuple[str, ...]:
    """Axis values that no cell can satisfy, one mistake each; with `lines`, each begins with its file and line."""
    found = [
        *_too_long(matrix, models),
        *_unmeasurable(matrix, models),
        *_same_models(matrix, models),
        *_twins(matrix, models),
    ]
    if lines is not None:
        return tuple(lines.mistake(loc, why) for loc, why in found)
    return tuple(f"{dotted(loc)}: {why}" for loc, why in found)


def _too_long(matrix: Matrix, models: Mapping[str, ModelInfo]) -> Iterator[tuple[Loc, str]]:
    limits = {spec.name: models[spec.name].max_context_tok for spec in matrix.models if "speed" in spec.measure}
    if not limits or not matrix.load:
        return
    longest = max(limits, key=lambda name: limits[name])
    contexts = list(dict.fromkeys(point.context_tok for point in matrix.load))
    outputs = list(dict.fromkeys(point.output_tok for point in matrix.load))
    limit = f"more than the {limits[longest]} of {longest}, the model with the longest context (make it shorter)"
    for index, context in enumerate(contexts):
        if (total := context + min(outputs)) > limits[longest]:
            why = f"{context} tokens and at least {min(outputs)} of output are {total}, {limit}"
            yield ("load", "context", index), why
    for index, output in enumerate(outputs):
        if (total := output + min(contexts)) > limits[longest]:
            why = f"{output} tokens after at least {min(contexts)} of prompt are {total}, {limit}"
            yield ("load", "output", index), why


def _unmeasurable(matrix: Matrix, models: Mapping[str, ModelInfo]) -> Iterator[tuple[Loc, str]]:
    if matrix.quality is None:
        return
    suite = matrix.quality.suite
    asked = [(index, spec) for index, spec in enumerate(matrix.models) if "quality" in spec.measure]
    for index, spec in asked:
        info = models[spec.name]
        if suite not in info.suites and spec.measure == ("quality",):
            why = "its weights are random" if info.random_weights else f"it does not know the suite {suite}"
            yield ("models", index), f"{spec.name} has no quality to measure: {why} (measure speed, or remove it)"
    if asked and not any(suite in models[spec.name].suites for _, spec in asked):
        yield ("quality", "suite"), f"no model that measures quality knows the suite {suite} (add one that does)"


def _same_models(matrix: Matrix, models: Mapping[str, ModelInfo]) -> Iterator[tuple[Loc, str]]:
    """Models of equal weights: their cells would be the same cells, by the same ids."""
    first: dict[str, str] = {}
    for index, spec in enumerate(matrix.models):
        other = first.setdefault(models[spec.name].digest, spec.name)
        if other != spec.name:
            yield ("models", index), f"{spec.name} is {other} under another name, by all that is known of it (keep one)"


def _twins(matrix: Matrix, models: Mapping[str, ModelInfo]) -> Iterator[tuple[Loc, str]]:
    """Recipes that an engine runs alike, once `auto` and spellings are resolved: their cells would be the same."""
    told: set[int] = set()
    for ask, model in itertools.product(matrix.engines, models.values()):
        first: dict[str, str] = {}
        for index, recipe in enumerate(matrix.recipes):
            axes = identity.canonical(identity.recipe_axes(_resolved(recipe, model, ask.name)))
            other = first.setdefault(axes, recipe.name)
            if other != recipe.name and index not in told:
                told.add(index)
                yield ("recipes", index), f"{recipe.name} is what {ask.name} runs as {other} too (keep one)"
