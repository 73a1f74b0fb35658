"""What can run where: every refusal names its rule and says why in a sentence."""

from __future__ import annotations

from collections.abc import Iterator

from fleetbench.catalog.lookup import EngineSpec, engine_names, engine_spec
from fleetbench.matrix.types import Cell
from fleetbench.plan.types import Refusal, sequence_tok


def gate(cell: Cell, available: frozenset[str]) -> Refusal | None:
    """The first rule that refuses the cell, or None. `available` holds the hardware kinds that have a node."""
    for rule, sentence in _objections(cell, available):
        return Refusal(cell=cell, rule=rule, sentence=sentence)
    return None


def _objections(cell: Cell, available: frozenset[str]) -> Iterator[tuple[str, str]]:
    spec = engine_spec(cell.engine.name)
    if spec is None:
        yield "engine-unknown", f"no engine {cell.engine.name} is known"
        return
    if not spec.implemented:
        yield "engine-not-implemented", f"{spec.name} is known, but this version runs only {', '.join(_implemented())}"
        return
    yield from _engine_objections(cell, spec)
    if cell.hardware not in available:
        yield "no-node", f"no node of kind {cell.hardware} is joined; this machine is `local`"
    asked = sequence_tok(cell)
    limit = cell.model.max_context_tok
    if asked > limit:
        yield (
            "context",
            f"{asked} tokens a sequence are asked, {cell.model.name} holds {limit}: shorten context or output",
        )


def _implemented() -> list[str]:
    return [name for name in engine_names() if (spec := engine_spec(name)) and spec.implemented]


def _engine_objections(cell: Cell, spec: EngineSpec) -> Iterator[tuple[str, str]]:
    recipe = cell.recipe
    if cell.hardware not in spec.hardware:
        yield "engine-hardware", f"this version runs {spec.name} on {', '.join(spec.hardware)}, not on {cell.hardware}"
    if recipe.weights not in spec.weights:
        yield "weights", f"{spec.name} has no weights format {recipe.weights}; it has {', '.join(spec.weights)}"
    for axis, kind in (("keys", recipe.kv.k), ("values", recipe.kv.v)):
        if kind not in spec.kv:
            yield "kv", f"{spec.name} has no {kind} cache for {axis}; it has {', '.join(spec.kv)}"
    if recipe.activations not in spec.activations:
        yield "activations", f"activations cannot be set for {spec.name}; remove them from recipe {recipe.name}"
    if recipe.method not in spec.methods:
        yield (
            "method",
            f"weights for {spec.name} are rounded to nearest (rtn); {recipe.method} is not available",
        )
    for axis, asked in (
        ("attention", recipe.attention not in spec.attention),
        ("group_size", recipe.group_size is not None),
        ("calibration", recipe.calibration is not None),
        ("protect", bool(recipe.protect)),
    ):
        if asked:
            yield axis, f"{axis} cannot be set for {spec.name}; remove it from recipe {recipe.name}"
    if (cell.parallel.tp, cell.parallel.pp, cell.parallel.dp) != (1, 1, 1):
        yield "parallel", f"{spec.name} on {cell.hardware} runs as one process: tp, pp and dp are 1"
