"""How a run is conducted: what is tried again, when a node is given up, and what the run may cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["balanced", "first-come"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Limits of a run's conduct.

    window: launches of one hardware kind that wait to be placed, at most: Ray keeps 10,000 of them at 1.6 GB.
    tries: starts of a launch that gets no trial done, where the cause may pass. trial_tries: of one trial that is lost
    or runs into its limit. backoff_s: before the second start, doubled before each further one.
    breaker: launches in a row that come to nothing on a node before it is left alone for cooldown_s, while its
    kind has another. nodes_s: how long work waits for a node of its kind before it is given up. autoscaled: nodes come
    where launches wait to be placed, so some do though there is no room.
    silence_s: how long a trial may last without a word of its launch; None for as long as it takes.
    wall_s, cost_usd: of the whole run; price_usd_h: of one GPU by hardware tag, kinds without one cost nothing.
    order: `balanced` starts what decides the end first, `first-come` takes the plan's order.
    """

    window: int = 16
    tries: int = 3
    trial_tries: int = 3
    backoff_s: float = 2.0
    breaker: int = 3
    cooldown_s: float = 600.0
    nodes_s: float = 120.0
    autoscaled: bool = False
    silence_s: float | None = None
    wall_s: float | None = None
    cost_usd: float | None = None
    price_usd_h: Mapping[str, float] = field(default_factory=dict)
    order: Order = "balanced"
