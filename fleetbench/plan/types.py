"""What a plan is made of: trials grouped into engine launches, rulings and refusals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from fleetbench.matrix.types import Cell, Effort, EngineInfo, LoadPoint, Matrix, ModelInfo, Parallel, Recipe
from fleetbench.plan.nodes import Use

Role = Literal["measure", "control"]
Verdict = Literal[
    "native",
    "experimental",
    "emulated",
    "hardware_cannot",
    "engine_cannot",
    "contradictory",
    "does_not_fit",
    "not_here",
    "excluded",
]
"""Native and experimental run; emulated runs where the matrix allows it; of the others no launch can be made."""

QUALITY_TOK = 1024
"""Prompt and answer tokens of the embedded suite's longest item, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """How a cell will run: the kernel that the catalog expects, None where it expects none, and what to know of it."""

    verdict: Verdict
    kernel: str | None = None
    sentence: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A cell that does not run: the verdict, the rule that says so, the reason in a sentence, and who says it."""

    cell: Cell
    verdict: Verdict
    rule: str
    sentence: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeKind:
    """Nodes of one kind: GPUs of each, how many nodes, and the engines on them by version; None where nobody said."""

    hardware: str
    gpus: int
    nodes: int
    engines: Mapping[str, str] | None = None
    use: Use = "whole"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """What can be planned for, by hardware tag; about: whose it is, in a word, for messages.

    unfit: by tag, of kinds that have nodes which may not be measured on: which ones, and why.
    """

    kinds: Mapping[str, NodeKind]
    about: str
    unfit: Mapping[str, str] = field(default_factory=dict)


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

    slots: sequences served at once; slot_tok: prompt and output tokens that one sequence may hold; kernel: the one
    that the catalog expects to multiply the weights, None where it expects none.
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
    kernel: str | None = None
    trials: tuple[Trial, ...]

    @property
    def label(self) -> str:
        again = " (control)" if self.role == "control" else ""
        return f"{self.model.name} {self.recipe.name}{again}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a run does, in order; rulings: of its cells, by launch_id."""

    run_id: str
    run: str
    matrix: Matrix
    launches: tuple[EngineLaunch, ...]
    refusals: tuple[Refusal, ...]
    rulings: Mapping[str, Ruling]

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
