"""Groups cells that can share one engine start, and puts launches and trials in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from fleetbench.matrix.identity import digest, trial_id
from fleetbench.matrix.types import Cell, LoadPoint, Matrix, QualityPoint
from fleetbench.plan.types import EngineLaunch, Plan, Refusal, Role, Trial, sequence_tok

QUALITY_SLOTS = 4
"""Sequences at once that the embedded suite asks of an engine."""
OPEN_LOOP_SLOTS = 8
"""Sequences at once where requests come at a rate; more than these wait in the engine's queue, and are timed there."""

Gate = Callable[[Cell], Refusal | None]


def make_plan(
    *, run_id: str, run: str, matrix: Matrix, cells: Iterable[Cell], refused: Iterable[Refusal], gate: Gate
) -> Plan:
    """Gate every cell, group what may run, and append the control launches."""
    admitted: list[Cell] = []
    refusals = list(refused)
    for cell in cells:
        refusal = gate(cell)
        if refusal is None:
            admitted.append(cell)
        else:
            refusals.append(refusal)
    groups = _group(admitted)
    measured = [_launch(run_id, group, matrix, role="measure") for group in groups]
    controls = [
        _launch(run_id, points, matrix, role="control") for group in groups if (points := _control_points(group))
    ]
    return Plan(run_id=run_id, run=run, matrix=matrix, launches=(*measured, *controls), refusals=tuple(refusals))


def keep(plan: Plan, wanted: Callable[[Trial], bool]) -> Plan:
    """The plan with only the wanted trials, and no launch without one."""
    launches = (replace(launch, trials=tuple(filter(wanted, launch.trials))) for launch in plan.launches)
    return replace(plan, launches=tuple(launch for launch in launches if launch.trials))


def missing(plan: Plan, settled: Collection[str]) -> Plan:
    """Resume: the plan without the trials that are already settled."""
    return keep(plan, lambda trial: trial.trial_id not in settled)


def _group(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells by what an engine is started with: model by model in the matrix's order, the reference first."""
    groups: dict[tuple[object, ...], list[Cell]] = {}
    models: dict[str, int] = {}
    for cell in cells:
        recipe = replace(cell.recipe, name="")
        key = (cell.model.digest, cell.artifact_id, recipe, cell.engine, cell.hardware, cell.parallel)
        groups.setdefault(key, []).append(cell)
        models.setdefault(cell.model.name, len(models))
    return sorted(groups.values(), key=lambda group: (models[group[0].model.name], not group[0].reference))


def _control_points(group: list[Cell]) -> list[Cell]:
    """The reference's load points at its smallest batch: enough to see the machine drift, and cheap."""
    loads = [(cell, cell.work.batch or 0) for cell in group if cell.reference and isinstance(cell.work, LoadPoint)]
    least = min((batch for _, batch in loads), default=0)
    return [cell for cell, batch in loads if batch == least]


def _launch(run_id: str, cells: list[Cell], matrix: Matrix, *, role: Role) -> EngineLaunch:
    first = cells[0]
    slots = [
        QUALITY_SLOTS if isinstance(cell.work, QualityPoint) else cell.work.batch or OPEN_LOOP_SLOTS for cell in cells
    ]
    identity = [
        role,
        first.artifact_id,
        str(first.recipe.kv),
        first.engine.name,
        first.hardware,
        first.model.digest,
        first.recipe.activations,
        first.recipe.attention,
        str(first.parallel),
    ]
    return EngineLaunch(
        launch_id=digest([run_id, *identity])[:12],
        role=role,
        model=first.model,
        recipe=first.recipe,
        engine=first.engine,
        hardware=first.hardware,
        parallel=first.parallel,
        artifact_id=first.artifact_id,
        slots=max(slots),
        slot_tok=max(sequence_tok(cell) for cell in cells),
        trials=tuple(_round_robin(run_id, cells, matrix.repeats if role == "measure" else 1, role)),
    )


def _round_robin(run_id: str, cells: list[Cell], repeats: int, role: Role) -> Iterable[Trial]:
    """Repeat by repeat over all load points, so that drift spreads over them; quality once."""
    for repeat in range(repeats):
        for cell in cells:
            if repeat and cell.kind == "quality":
                continue
            identity = trial_id(run_id, cell.cell_id, repeat, role)
            yield Trial(trial_id=identity, cell=cell, repeat=repeat, role=role)
