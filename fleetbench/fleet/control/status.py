"""What a run is doing, as its controller tells it to whoever asks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["waiting", "running", "ended", "interrupted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchStatus:
    """A launch that was started; node: None while Ray places it; trial: what is measured now; done, trials: counts."""

    launch_id: str
    label: str
    hardware: str
    attempt: int
    node: str | None
    trial: str | None
    done: int
    trials: int
    since_s: float
    """When it was started, in seconds since 1970 (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunStatus:
    """A run at one moment.

    host, pid: of its controller; address: of its cluster, None where it runs on a Ray of its own; warehouse: folder of
    its results, as that host sees it. outcomes: trials that have one, by outcome, those of earlier submissions
    included. waiting: launches that are still to be started.
    blocked: why, by hardware kind; unfit: nodes that are not measured on, with why. cost_usd: spent, None without
    prices; left_s: estimated seconds to the end, None where nobody knows. updated_s: seconds since 1970 (UTC).
    """

    run_id: str
    run: str
    matrix: str
    state: State
    host: str
    pid: int
    address: str | None
    submitted_s: float
    updated_s: float
    trials: int
    outcomes: Mapping[str, int]
    waiting: int
    running: tuple[LaunchStatus, ...] = ()
    blocked: Mapping[str, str] = field(default_factory=dict)
    unfit: Mapping[str, str] = field(default_factory=dict)
    cost_usd: float | None = None
    left_s: float | None = None
    warehouse: str | None = None
