"""Trials that ended alike, told of at once: an interruption or a kind without nodes may end hundreds of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fleetbench.matrix.types import Outcome
from fleetbench.plan.types import Trial

_RECIPES_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Bad:
    """A trial that did not end well."""

    trial: Trial
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Trials with one outcome and one reason."""

    trials: tuple[Trial, ...]
    outcome: Outcome
    reason: str


def fold(bad: Iterable[Bad]) -> list[Alike]:
    """Those that ended alike together, in the order in which they came."""
    found: dict[tuple[Outcome, str], list[Trial]] = {}
    for one in bad:
        found.setdefault((one.outcome, one.reason), []).append(one.trial)
    return [Alike(trials=tuple(trials), outcome=outcome, reason=reason) for (outcome, reason), trials in found.items()]


def counted(trials: Sequence[Trial]) -> str:
    """How many, and of which models and recipes."""
    recipes = list(dict.fromkeys(f"{trial.cell.model.name} {trial.cell.recipe.name}" for trial in trials))
    more = len(recipes) - _RECIPES_SHOWN
    named = ", ".join(recipes[:_RECIPES_SHOWN]) + (f" and {more} more recipes" if more > 0 else "")
    return f"{len(trials)} trials of {named}"
