"""A launch under way: what is known of it so far, and what may come between."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from fleetbench.engine.protocol import Session, Span
from fleetbench.engine.session import Others
from fleetbench.errors import FleetbenchError
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.launch.staging import Staged
from fleetbench.matrix.types import Outcome

if TYPE_CHECKING:
    from fleetbench.fleet.launch.courier import Keeper


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitness:
    """Why a node may not be measured on; lasting: by what it is, not by what runs on it now; node_id: which node."""

    reason: str
    lasting: bool
    node_id: str | None = None


class RankError(FleetbenchError):
    """A node cannot take its part of a launch."""


class RankLostError(FleetbenchError):
    """The actor that holds a node for a launch, or the node, is gone."""


class Ranks(Others, Protocol):
    """The launch's part on other nodes, where it spans several."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """What they are called."""

    def stage(self) -> None:
        """Have every node get its weights, while this one gets its own."""

    def begin(self) -> Span:
        """Start them all, once all have their weights; returns the span of this node's rank."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(slots=True, kw_only=True)
class UnderWay:
    """One attempt of a launch as far as it came; becomes its row.

    began, staged_s: seconds on the monotonic clock, and from there to the start of the engine. keeper: of all rows of
    the launch, from its first one on.
    """

    job: LaunchJob
    lease: str
    started_at: datetime
    began: float
    node: str
    ranks: Ranks | None = None
    staged: Staged | None = None
    staged_s: float | None = None
    session: Session | None = None
    outcome: Outcome = Outcome.OK
    reason: str | None = None
    cause: str | None = None
    log_tail: str | None = None
    retriable: bool = False
    host: dict[str, str | None] = field(default_factory=dict)
    keeper: Keeper | None = None
