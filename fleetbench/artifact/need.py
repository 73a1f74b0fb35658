"""The checkpoint that a launch asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleetbench.artifact.kinds import checkpoint_kind
from fleetbench.matrix.types import Checkpoint, ModelInfo, Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a launch asks for, and the plan has let pass: of weights that are published quantized, those alone.

    folder: the model's, None where it is embedded or not here.
    """

    artifact_id: str
    engine: str
    recipe: Recipe
    model: ModelInfo
    folder: Path | None

    @property
    def kind(self) -> Checkpoint:
        return checkpoint_kind(self.engine, self.recipe, self.model)
