"""What happens to a run, and what is to be done about it: the words between its state machine and the fleet."""

from __future__ import annotations

from dataclasses import dataclass

from fleetbench.matrix.types import Outcome
from fleetbench.plan.nodes import Node
from fleetbench.plan.types import EngineLaunch, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """The launch's actors run, on these nodes."""

    launch_id: str
    node_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionUp:
    """The launch's engine gave its first token."""

    launch_id: str
    ready_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialStarted:
    launch_id: str
    trial_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialEnded:
    """A trial has its outcome, and its row where the warehouse could keep it."""

    launch_id: str
    trial_id: str
    outcome: Outcome
    reason: str | None
    output_tok_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchEnded:
    """The engine is down: after its last trial, or because it could not go on.

    retriable: the cause may be gone at the next try; unfit: why its node may not be measured on, which is no fault of
    the launch; unfit_node: which of several.
    """

    launch_id: str
    outcome: Outcome
    reason: str | None
    retriable: bool = False
    unfit: str | None = None
    unfit_node: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchLost:
    """Nothing is known of the launch any more: its actor or its node died."""

    launch_id: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A node that is there; unfit: why it may not be measured on."""

    node: Node
    unfit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSeen:
    """All nodes that are there; one that was and is not named is gone."""

    nodes: tuple[Seen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """The run cannot go on, by the user's will or because the fleet is gone: what is in flight ends so."""

    outcome: Outcome = Outcome.CANCELLED
    reason: str = "interrupted by the user"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Time has passed, and nothing else."""


LaunchEvent = Placed | SessionUp | TrialStarted | TrialEnded | LaunchEnded | LaunchLost
Event = LaunchEvent | FleetSeen | Interrupted | Tick


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Start this launch with these trials, in this order.

    tries: of each trial that was tried before in this run. node_ids: where there is room and its weights are at best;
    a preference, for who places it sees more; none where nodes shall come for it. nodes: how many it takes. barred:
    those of its kind that it must not get. gpus: of each node; share: of each node's launches, 1 for a node of its own.
    """

    launch: EngineLaunch
    attempt: int
    trials: tuple[Trial, ...]
    tries: tuple[int, ...]
    node_ids: tuple[str, ...]
    barred: tuple[str, ...]
    gpus: int
    share: float
    nodes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Commit a row for a trial that its launch could not commit itself."""

    launch: EngineLaunch
    attempt: int
    trial: Trial
    tries: int
    outcome: Outcome
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End this launch now."""

    launch_id: str


Action = Start | Record | Stop
