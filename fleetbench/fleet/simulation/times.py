"""How long launches and their trials take: as the scheduler believes, and as the simulated fleet has it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from fleetbench.plan.estimate import parts_s
from fleetbench.plan.types import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Of one launch: until its engine is up, and of each trial by trial_id."""

    start_s: float
    trials_s: Mapping[str, float]

    @property
    def total_s(self) -> float:
        return self.start_s + sum(self.trials_s.values())


def estimated(plan: Plan, history_s: Mapping[str, float]) -> dict[str, Times]:
    """By launch_id: from earlier trials of the same cells (`history_s`, by cell_id), else from nominal figures."""
    found: dict[str, Times] = {}
    for launch in plan.launches:
        start_s, *trials_s = parts_s(launch, plan.effort, history_s)
        ids = (trial.trial_id for trial in launch.trials)
        found[launch.launch_id] = Times(start_s=start_s, trials_s=dict(zip(ids, trials_s, strict=True)))
    return found


def error_factor(launch_id: str, *, seed: int, unsure: float) -> float:
    """True over estimated time of a launch, the same at each of its starts: uniform within `unsure` of 1."""
    return 1.0 + random.Random(f"{seed}/{launch_id}").uniform(-unsure, unsure)  # noqa: S311 - repeatable
