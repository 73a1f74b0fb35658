"""What a plan is made of: trials grouped into engine launches, and refusals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fleetbench.matrix.types import Cell, Effort, EngineInfo, LoadPoint, Matrix, ModelInfo, Parallel, Recipe

Role = Literal["measure", "control"]

QUALITY_TOK = 1024
"""Prompt and answer tokens of the embedded suite's longest item, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A cell that cannot run, with the rule that says so and the reason in a sentence."""

    cell: Cell
    rule: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One measured try of a cell."""

    trial_id: str
    cell: Cell
    repeat: int
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLaunch:
    """One engine start: weights load once, many trials follow in this order.

    slots: sequences served at once; slot_tok: prompt and output tokens that one sequence may hold.
    """

    launch_id: str
    role: Role
    model: ModelInfo
    recipe: Recipe
    engine: EngineInfo
    hardware: str
    parallel: Parallel
    artifact_id: str
    slots: int
    slot_tok: int
    trials: tuple[Trial, ...]

    @property
    def label(self) -> str:
        again = " (control)" if self.role == "control" else ""
        return f"{self.model.name} {self.recipe.name}{again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does, in order."""

    run_id: str
    run: str
    matrix: Matrix
    launches: tuple[EngineLaunch, ...]
    refusals: tuple[Refusal, ...]

    @property
    def effort(self) -> Effort:
        return self.matrix.effort

    @property
    def trials(self) -> tuple[Trial, ...]:
        return tuple(trial for launch in self.launches for trial in launch.trials)

    @property
    def cells(self) -> tuple[Cell, ...]:
        seen = {trial.cell.cell_id: trial.cell for trial in self.trials}
        return tuple(seen.values())


def sequence_tok(cell: Cell) -> int:
    """Prompt and output tokens that one sequence of the cell holds."""
    work = cell.work
    return work.context_tok + work.output_tok if isinstance(work, LoadPoint) else QUALITY_TOK
