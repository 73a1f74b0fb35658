"""From a matrix file to a plan: reads the file, looks at models, texts and engines, and expands."""

from __future__ import annotations

import errno
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from fleetbench.artifact import making
from fleetbench.artifact import models as found_models
from fleetbench.artifact.cache import default_cache
from fleetbench.artifact.hashing import file_sha256
from fleetbench.artifact.models import FoundModel
from fleetbench.artifact.need import Need
from fleetbench.artifact.toolchain import toolchain
from fleetbench.catalog import lookup
from fleetbench.engine import facts, registry
from fleetbench.errors import InputError
from fleetbench.fleet.fleet_file import ASSUMED_NODES, every_kind, read_fleet, this_machine
from fleetbench.fleet.start_check import refuse_start
from fleetbench.matrix.document import Lines, printable
from fleetbench.matrix.expand import NOT_FOUND, check_axes, expand
from fleetbench.matrix.identity import run_id
from fleetbench.matrix.read import read_with_lines
from fleetbench.matrix.types import Calibration, Cell, EngineAsk, EngineInfo, Matrix, Recipe
from fleetbench.plan.gate import Gate, Objection
from fleetbench.plan.launches import make_plan
from fleetbench.plan.types import Fleet, Plan, Refusal
from fleetbench.store.history import measured_with

TEXT_ALONE = frozenset({"transformers"})
"""Engines that refuse what the trials of a run ask with."""
RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, and where its models lie on this machine (None: embedded in fleetbench)."""

    plan: Plan
    model_paths: dict[str, Path | None]


def plan_file(path: Path, run: str, fleet: Path | None = None) -> Planned:
    """Plan a matrix file for a fleet, or for every kind of the catalog; nothing need be here but config.json.

    Raises:
        InputError: a file, a model in it or the run's name is wrong; every mistake at once.
    """
    matrix, lines = _read(path, run)
    return _plan(matrix, lines, run, read_fleet(fleet) if fleet else every_kind(matrix.hardware), here=False)


def plan_cluster(path: Path, run: str, fleet: Fleet, *, may_come: bool, warehouse: Path) -> Planned:
    """Plan a matrix file for a cluster's nodes; what a node lacks of a model or a tool, it says when it is asked.

    A run that has trials is planned for the kinds that it had, though their nodes are not there now: without them
    nobody says an engine's version, and with another one its cells would be others.

    Args:
        path: of the matrix.
        run: its name.
        fleet: the nodes that there are.
        may_come: whether more nodes are waited for, and such of other kinds.
        warehouse: where the run's trials are kept.

    Raises:
        InputError: as `plan_file`.
    """
    matrix, lines = _read(path, run)
    before = measured_with(warehouse, run_id(matrix, run))
    others = {
        name: replace(kind, gpus=max(kind.gpus, before.gpus.get(name, 0)))
        for name, kind in every_kind(matrix.hardware).kinds.items()
        if name in matrix.hardware and (may_come or (before.gpus and name not in before.absent))
    }
    here = dict(fleet.kinds)
    if may_come:
        here = {name: replace(kind, nodes=max(kind.nodes, ASSUMED_NODES)) for name, kind in here.items()}
    fleet = replace(fleet, kinds={**others, **here})
    return _plan(matrix, lines, run, fleet, here=False, versions=before.engines)


def plan_here(path: Path, run: str) -> Planned:
    """Plan a matrix file for this machine, with the engines, models and tools that it really has.

    Raises:
        InputError: as `plan_file`.
    """
    matrix, lines = _read(path, run)
    have = {ask.name: facts.info(ask.name).version for ask in matrix.engines if _startable(ask.name)}
    return _plan(matrix, lines, run, this_machine(have), here=True)


def _startable(name: str) -> bool:
    return name in registry.names() and facts.availability(name) is None


def _read(path: Path, run: str) -> tuple[Matrix, Lines]:
    if not RUN_NAME.fullmatch(run):
        raise InputError((f"--run {run!r}: a name has 1 to 64 letters, digits, dots, dashes or underscores",))
    return read_with_lines(path)


def _plan(
    matrix: Matrix,
    lines: Lines,
    run: str,
    fleet: Fleet,
    *,
    here: bool,
    versions: Mapping[str, str] = MappingProxyType({}),
) -> Planned:
    models, matrix = _look_up(matrix, lines)
    infos = {name: found.info for name, found in models.items()}
    mistakes = check_axes(matrix, infos, lines)
    if mistakes:
        raise InputError(mistakes)
    engines = {ask: _engine(ask, fleet, versions) for ask in matrix.engines}
    expansion = expand(matrix, infos, engines)
    excluded = [
        Refusal(cell=cell, verdict="excluded", rule="excluded", sentence=by.because, source="the matrix")
        for cell, by in expansion.excluded
    ]
    plan = make_plan(
        run_id=run_id(matrix, run),
        run=run,
        matrix=matrix,
        cells=expansion.cells,
        refused=excluded,
        rule=Gate(
            fleet=fleet,
            allow=matrix.allow,
            lacks=(lambda cell: _lacks_here(cell, models[cell.model.name].folder)) if here else refuse_start,
        ).rule,
    )
    return Planned(plan=plan, model_paths={name: found.folder for name, found in models.items()})


def _lacks_here(cell: Cell, folder: Path | None) -> Objection | None:
    """What the engine or this machine lacks of a cell that could run in principle."""
    if objection := refuse_start(cell):
        return objection
    if cell.engine.name in TEXT_ALONE:
        why = "it takes no prompts of token ids, so that lengths are not exact (`fleetbench bench URL` measures it)"
        return Objection(verdict="not_here", rule="prompts", sentence=why)
    for what, word in _beside(cell.recipe):
        if not Path(word).exists():
            why = f"the {what} {printable(word)} of recipe {cell.recipe.name} is not on this machine (give its path)"
            return Objection(verdict="not_here", rule=what.partition(" ")[0], sentence=why)
    need = Need(
        artifact_id=cell.artifact_id,
        engine=cell.engine.name,
        recipe=cell.recipe,
        model=cell.model,
        folder=folder,
    )
    lack = making.lacks(need, default_cache())
    return Objection(verdict="not_here", rule="checkpoint", sentence=lack) if lack else None


def _beside(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Paths that a recipe names beside the model."""
    yield from (("lora adapter", path) for path in recipe.lora)
    if recipe.draft is not None and recipe.draft.model is not None:
        yield "draft model", recipe.draft.model


def _engine(ask: EngineAsk, fleet: Fleet, before: Mapping[str, str]) -> EngineInfo:
    """The version that is asked for, else of the fleet's nodes, else before, else the newest that the catalog knows."""
    spec = lookup.engine_spec(ask.name)
    said = [kind.engines[ask.name] for kind in fleet.kinds.values() if kind.engines and ask.name in kind.engines]
    known = spec.known[0] if spec and spec.known else NOT_FOUND
    version = ask.version or next(iter(said), None) or before.get(ask.name) or known
    return EngineInfo(name=ask.name, version=version, toolchain=toolchain(ask.name), args=ask.args)


def _look_up(matrix: Matrix, lines: Lines) -> tuple[dict[str, FoundModel], Matrix]:
    """What the models are, and the matrix with its calibration texts read."""
    mistakes: list[str] = []
    models: dict[str, FoundModel] = {}
    for index, spec in enumerate(matrix.models):
        try:
            models[spec.name] = found_models.find(spec)
        except InputError as error:
            mistakes += [lines.mistake(("models", index, "path"), printable(one)) for one in error.mistakes]
    recipes: list[Recipe] = []
    for index, recipe in enumerate(matrix.recipes):
        try:
            recipes.append(replace(recipe, calibration=_read_text(recipe.calibration)))
        except OSError as error:
            why = (
                f"{recipe.calibration.path if recipe.calibration else ''}: {error.strerror or error} (name a text file)"
            )
            mistakes.append(lines.mistake(("recipes", index, "calibration"), printable(why)))
    if mistakes:
        raise InputError(tuple(mistakes))
    return models, replace(matrix, recipes=tuple(recipes))


def _read_text(text: Calibration | None) -> Calibration | None:
    if text is None:
        return None
    if not stat.S_ISREG(Path(text.path).stat().st_mode):  # a FIFO would be waited for, a device has no end
        raise OSError(errno.EINVAL, "it is not a regular file")
    return replace(text, sha256=file_sha256(Path(text.path)))
