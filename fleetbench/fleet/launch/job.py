"""What a launch's actor is given: everything it needs, and nothing that is large."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetbench.matrix.types import Effort, Limits
from fleetbench.plan.types import EngineLaunch, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchJob:
    """One attempt of an engine launch.

    trial_attempts: counts earlier tries of each trial. model_path: as the submitter sees it, None for an embedded
    model. warehouse: None where the node does not see it, so that rows go through the controller; proof: the word that
    it has to show there, None on the submitter's own machine. cache: of a run on
    the submitter's own machine; a node of a cluster has its own.
    """

    run_id: str
    launch: EngineLaunch
    attempt: int
    trials: tuple[Trial, ...]
    trial_attempts: Mapping[str, int]
    model_path: Path | None
    effort: Effort
    limits: Limits
    warehouse: Path | None
    cache: Path
    proof: str | None = None
