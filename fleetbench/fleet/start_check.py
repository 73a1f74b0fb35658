"""Whether an engine's version could be started as a cell asks: judged by its adapter, before anything is spent."""

from __future__ import annotations

from pathlib import Path

from fleetbench.artifact.kinds import SERVED, served_kind
from fleetbench.engine import flags, registry
from fleetbench.engine.protocol import LaunchSpec
from fleetbench.matrix.types import Cell
from fleetbench.plan.gate import Objection
from fleetbench.plan.types import sequence_tok

_NOWHERE = Path("/model")
_LONG_S = 600.0


def refuse_start(cell: Cell) -> Objection | None:
    """Why the adapter makes no command line of it: a flag or a format that this version lacks; None where it does."""
    if cell.engine.name == SERVED or cell.engine.name not in registry.names():
        return None
    spec = LaunchSpec(
        model_path=_NOWHERE,
        model_name=cell.model.name,
        checkpoint=served_kind(cell.engine.name, cell.recipe, cell.model),
        recipe=cell.recipe,
        dummy=cell.model.dummy,
        parallel=cell.parallel,
        hardware=cell.hardware,
        slots=1,
        context_tok=sequence_tok(cell),
        threads=1,
        seed=cell.seed,
        args=cell.engine.args,
        log=_NOWHERE,
        timeout_s=_LONG_S,
    )
    refused = flags.refusal(registry.engine(cell.engine.name), spec, cell.engine.version)
    if refused is None:
        return None
    why, source = refused
    return Objection(verdict="engine_cannot", rule="start", sentence=f"{cell.engine.name}: {why}", source=source)
