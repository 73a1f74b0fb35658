"""One cell asked for by hand, as `fleetbench fit` has it: found, resolved and ruled like those of a matrix."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from fleetbench.artifact import models
from fleetbench.artifact.toolchain import toolchain
from fleetbench.catalog import lookup
from fleetbench.catalog.shapes import ModelShape
from fleetbench.catalog.types import GpuInfo
from fleetbench.errors import InputError
from fleetbench.fleet.fleet_file import every_kind
from fleetbench.matrix.document import printable
from fleetbench.matrix.expand import NOT_FOUND
from fleetbench.matrix.fields import spell_model
from fleetbench.matrix.resolve import resolve
from fleetbench.matrix.types import (
    Cell,
    EngineInfo,
    KvFormat,
    LoadPoint,
    ModelSpec,
    Parallel,
    Recipe,
)
from fleetbench.plan.gate import Gate, Objection
from fleetbench.plan.types import Refusal, Ruling

Entry = TypeVar("Entry")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The cell, what its model and GPU are, and whether its engine runs it there."""

    cell: Cell
    shape: ModelShape
    gpu: GpuInfo
    ruled: Ruling | Objection


def ask(
    *, model: str, gpu: str, recipe: str, kv: str | None, engine: str, batch: int, context_tok: int, tp: int, pp: int
) -> Asked:
    """Find everything that was named.

    Raises:
        InputError: every name that is unknown, with the nearest ones, or a model that is broken.
    """
    mistakes: list[str] = []

    def known(what: str, word: str, found: Entry | None, names: Callable[[], tuple[str, ...]]) -> Entry | None:
        if found is None:
            near = lookup.nearest(word, names())
            remedy = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(names())}"
            mistakes.append(f"{what} {printable(word)!r} is not known ({remedy})")
        return found

    info = known("GPU", gpu, lookup.gpu_info(gpu), lookup.gpu_names)
    spec = known("engine", engine, lookup.engine_spec(engine), lookup.engine_names)
    spelled = _recipe(recipe, kv, mistakes)
    try:
        found = models.find(_model(model))
    except InputError as error:
        near = lookup.nearest(model, (*lookup.embedded_names(), *lookup.aliases("models")))
        if near and not _is_folder(model):
            mistakes.append(f"model {printable(model)!r} is not known (did you mean {' or '.join(near)}?)")
            raise InputError(tuple(mistakes)) from error
        raise InputError((*mistakes, *map(printable, error.mistakes))) from error
    if info is None or spec is None or spelled is None or mistakes:
        raise InputError(tuple(mistakes))
    shape = found.info.shape
    if shape is None:
        raise InputError((f"model {model}: nothing says what its shape is (give a folder with config.json)",))
    version = spec.known[0] if spec.known else NOT_FOUND
    cell = Cell(
        cell_id="asked",
        model=found.info,
        recipe=resolve(spelled, spec, shape.dtype, shape.quantized),
        engine=EngineInfo(name=spec.name, version=version, toolchain=toolchain(spec.name)),
        hardware=info.name,
        parallel=Parallel(tp=tp, pp=pp),
        work=LoadPoint(batch=batch, context_tok=max(context_tok - 1, 1), output_tok=min(context_tok - 1, 1)),
        artifact_id="",
        seed=0,
        reference=False,
    )
    gate = Gate(fleet=every_kind(), allow=("experimental", "emulated"))
    return Asked(cell=cell, shape=shape, gpu=info, ruled=_rule(gate, cell))


def _rule(gate: Gate, cell: Cell) -> Ruling | Objection:
    """Of the start, and of a context that the model does not have; whether memory is enough is the answer itself."""
    ruled = gate.rule(cell)
    if isinstance(ruled, Refusal) and ruled.rule == "context":
        return Objection(verdict=ruled.verdict, rule=ruled.rule, sentence=ruled.sentence, source=ruled.source)
    return gate.rule_start(cell)


def _model(word: str) -> ModelSpec:
    spelled = spell_model(word)
    path = spelled.get("path") or (word if _is_folder(word) else None)
    if Path(word).name == "config.json":
        path = str(Path(word).parent)
    return ModelSpec(
        name=spelled["name"] if path is None else Path(path).absolute().name,
        path=path and os.path.expanduser(path),  # noqa: PTH111 - which leaves the home of nobody as it is
        measure=("speed",),
        hub=None if path else spelled.get("hub"),
        revision=spelled.get("revision"),
    )


def _is_folder(word: str) -> bool:
    try:
        return Path(word).is_dir()
    except OSError:  # too long a name, or no right to look
        return False


def _recipe(word: str, kv: str | None, mistakes: list[str]) -> Recipe | None:
    """A recipe of the catalog or a weight format, its cache replaced where `kv` says so."""
    from fleetbench.matrix.read import recipe_of  # noqa: PLC0415 - pydantic's forms, for this command alone

    recipe = recipe_of(word, mistakes)
    if kv is None:
        return recipe
    if kv not in lookup.format_names("kv") and (kv := lookup.aliases("formats").get(kv.casefold(), kv)) not in (
        names := lookup.format_names("kv")
    ):
        near = lookup.nearest(kv, names) or list(names)
        mistakes.append(f"KV format {printable(kv)!r} is not known (did you mean {' or '.join(near[:3])}?)")
        return None
    return recipe and replace(recipe, kv=KvFormat(k=kv, v=kv))
