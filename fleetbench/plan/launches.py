"""Groups cells that can share one engine start, and puts launches and trials in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import cache

from fleetbench.matrix.identity import digest, start_axes, trial_id
from fleetbench.matrix.types import Cell, EngineInfo, LoadPoint, Matrix, Parallel, QualityPoint, Recipe
from fleetbench.plan.types import EngineLaunch, Plan, Refusal, Role, Ruling, Trial, sequence_tok

Rule = Callable[[Cell], Ruling | Refusal]

QUALITY_SLOTS = 4
"""Sequences at once that the embedded suite asks of an engine."""
OPEN_LOOP_SLOTS = 8
"""Sequences at once where requests come at a rate; more than these wait in the engine's queue, and are timed there."""


def make_plan(
    *, run_id: str, run: str, matrix: Matrix, cells: Iterable[Cell], refused: Iterable[Refusal], rule: Rule
) -> Plan:
    """Rule on every cell, group what may run, and append the control launches."""
    groups: dict[tuple[str, ...], list[Cell]] = {}
    ruled: dict[tuple[str, ...], Ruling] = {}
    refusals = list(refused)
    for cell in cells:
        found = rule(cell)
        if isinstance(found, Refusal):
            refusals.append(found)
        else:
            start = _start(cell)
            groups.setdefault(start, []).append(cell)
            ruled.setdefault(start, found)
    ordered = _ordered(groups)
    measured = [_launch(run_id, groups[start], matrix, ruling=ruled[start], role="measure") for start in ordered]
    controls = [
        _launch(run_id, points, matrix, ruling=ruled[start], role="control")
        for start in ordered
        if (points := _control_points(groups[start]))
    ]
    rulings = {launch.launch_id: ruled[start] for launch, start in zip(measured, ordered, strict=True)}
    return Plan(
        run_id=run_id,
        run=run,
        matrix=matrix,
        launches=(*measured, *controls),
        refusals=tuple(refusals),
        rulings=rulings,
    )


def keep(plan: Plan, wanted: Callable[[Trial], bool]) -> Plan:
    """The plan with only the wanted trials, and no launch without one."""
    launches = (replace(launch, trials=tuple(filter(wanted, launch.trials))) for launch in plan.launches)
    return replace(plan, launches=tuple(launch for launch in launches if launch.trials))


def missing(plan: Plan, settled: Collection[str]) -> Plan:
    """Resume: the plan without the trials that are already settled."""
    return keep(plan, lambda trial: trial.trial_id not in settled)


def _start(cell: Cell) -> tuple[str, ...]:
    """What an engine is started with."""
    return _start_of(cell.model.digest, cell.artifact_id, cell.recipe, cell.engine, cell.hardware, cell.parallel)


@cache
def _start_of(  # noqa: PLR0917 - kept by position
    model: str, artifact: str, recipe: Recipe, engine: EngineInfo, hardware: str, parallel: Parallel
) -> tuple[str, ...]:
    axes = start_axes(artifact_id=artifact, recipe=recipe, engine=engine, hardware=hardware, parallel=parallel, seed=0)
    return (model, axes)


def _ordered(groups: dict[tuple[str, ...], list[Cell]]) -> list[tuple[str, ...]]:
    """Model by model in the matrix's order, the reference first."""
    models: dict[str, int] = {}
    for group in groups.values():
        models.setdefault(group[0].model.name, len(models))
    return sorted(groups, key=lambda start: (models[groups[start][0].model.name], not groups[start][0].reference))


def _control_points(group: list[Cell]) -> list[Cell]:
    """The reference's load points at its smallest batch: enough to see the machine drift, and cheap."""
    loads = [(cell, cell.work.batch or 0) for cell in group if cell.reference and isinstance(cell.work, LoadPoint)]
    least = min((batch for _, batch in loads), default=0)
    return [cell for cell, batch in loads if batch == least]


def _launch(run_id: str, cells: list[Cell], matrix: Matrix, *, ruling: Ruling, role: Role) -> EngineLaunch:
    first = cells[0]
    slots = [
        QUALITY_SLOTS if isinstance(cell.work, QualityPoint) else cell.work.batch or OPEN_LOOP_SLOTS for cell in cells
    ]
    return EngineLaunch(
        launch_id=digest([run_id, role, *_start(first)])[:12],
        role=role,
        model=first.model,
        recipe=first.recipe,
        engine=first.engine,
        hardware=first.hardware,
        parallel=first.parallel,
        artifact_id=first.artifact_id,
        slots=max(slots),
        slot_tok=max(sequence_tok(cell) for cell in cells),
        kernel=ruling.kernel,
        trials=tuple(_round_robin(run_id, cells, matrix, role)),
    )


def _repeats(cell: Cell, matrix: Matrix) -> int:
    """Quality is asked once, and of the reference as often as its own churn wants."""
    if cell.kind == "speed":
        return matrix.repeats
    return matrix.parity.reference_runs if cell.reference else 1


def _round_robin(run_id: str, cells: list[Cell], matrix: Matrix, role: Role) -> Iterable[Trial]:
    """Repeat by repeat over all load points, so that drift spreads over them."""
    repeats = [_repeats(cell, matrix) if role == "measure" else 1 for cell in cells]
    for repeat in range(max(repeats)):
        for cell, asked in zip(cells, repeats, strict=True):
            if repeat >= asked:
                continue
            identity = trial_id(run_id, cell.cell_id, repeat, role)
            yield Trial(trial_id=identity, cell=cell, repeat=repeat, role=role)
