"""The ranks of a launch on other nodes, as its first node sees them: staged together, started together, ended together.

A rank that ends takes the engine with it; whatever is left of them ends with the launch.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError

from fleetbench.engine import start
from fleetbench.engine.follower import RankEnd
from fleetbench.engine.lease import new_lease
from fleetbench.engine.protocol import LaunchError, Span
from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.launch.scratch import scratch
from fleetbench.fleet.launch.staging import Staged
from fleetbench.fleet.launch.under_way import Fitness, RankError, RankLostError
from fleetbench.fleet.launch.work import spec_of

WAIT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A node that a member holds: what it is called, where it is reached, and why it may not be measured on."""

    node_id: str
    node: str
    address: str
    unfit: Fitness | None

    def why_unfit(self) -> Fitness | None:
        """The same, for a launch that spans several nodes."""
        unfit = self.unfit
        return unfit and replace(unfit, reason=f"node {self.node}: {unfit.reason}", node_id=self.node_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """An actor that holds another node, where that is, and what it is called."""

    actor: Any
    node: str
    address: str


@dataclass(slots=True, kw_only=True)
class Ranks:
    """Those above 0; address: of this node, where they meet rank 0."""

    job: LaunchJob
    members: Sequence[Member]
    address: str
    _staging: list[Any] = field(default_factory=list)
    _ended: RankEnd | None = None
    _closing: bool = False
    _end: Callable[[], object] | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def over(cls, job: LaunchJob, actors: Sequence[Any], held: Sequence[Held]) -> Ranks:
        """Those of a launch whose first node is this one."""
        members = [
            Member(actor=actor, node=one.node, address=one.address) for actor, one in zip(actors, held, strict=True)
        ]
        return cls(job=job, members=members, address=ray.util.get_node_ip_address())

    @property
    def nodes(self) -> tuple[str, ...]:
        return tuple(member.node for member in self.members)

    def stage(self) -> None:
        """Have every node get its weights, while this one gets its own."""
        self._staging = [member.actor.stage.remote(self.job) for member in self.members]

    def begin(self) -> Span:
        """Start them all, once all have their weights; returns the span of this node's rank.

        Raises:
            RankError: a node refuses, or cannot get the weights.
            RankLostError: a node is gone.
        """
        for member, staged in zip(self.members, self._staging, strict=True):
            try:
                refused: str | None = ray.get(staged)
            except RayError as error:
                raise RankLostError(f"node {member.node} was lost ({type(error).__name__})") from error
            if refused is not None:
                raise RankError(f"node {member.node}: {refused}")
        span = Span(
            nodes=len(self.members) + 1, rank=0, address=self.address, port=_free_port(self.address), own=self.address
        )
        running = {
            member.actor.follow.remote(self.job, replace(span, rank=rank, own=member.address)): (rank, member)
            for rank, member in enumerate(self.members, start=1)
        }
        threading.Thread(target=self._watch, args=(running,), daemon=True).start()
        return span

    def ended(self) -> RankEnd | None:
        """How the first of them ended; None while all run."""
        return self._ended

    def ends(self, end: Callable[[], object]) -> None:
        """What to do once one of them ends."""
        with self._lock:
            self._end = end
            if self._ended is None:
                return
        end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._closing = True
        for member in self.members:  # the engine's guard ends what its owner leaves
            ray.kill(member.actor)

    def _watch(self, running: dict[Any, tuple[int, Member]]) -> None:
        first = ray.wait(list(running), num_returns=1)[0][0]
        rank, member = running[first]
        where = f"rank {rank} on node {member.node}"
        try:
            told: RankEnd = ray.get(first)
            found = replace(told, reason=f"{where}: {told.reason}")
        except RayError as error:
            found = RankEnd(cause="lost", reason=f"{where} was lost ({type(error).__name__})")
        with self._lock:
            if self._closing:
                return
            self._ended = found
            end = self._end
        if end is not None:
            end()


def run_rank(job: LaunchJob, staged: Staged, span: Span) -> RankEnd:
    """Run a rank above 0 on this node until it ends."""
    with scratch() as folder:
        spec = spec_of(job, staged, folder / "engine.log", span)
        lease = new_lease(f"{job.run_id}-{job.launch.launch_id}-{job.attempt}-{span.rank}")
        try:
            follower = start.follow(job.launch.engine.name, spec, lease)
        except LaunchError as error:
            return RankEnd(cause=error.cause, reason=error.reason, log_tail=error.log_tail)
        except UnusableEnvironmentError as error:
            return RankEnd(cause="runtime", reason=str(error))
        while (ended := follower.wait(WAIT_S)) is None:
            pass
        return ended


def _free_port(address: str) -> int:
    with socket.create_server((address, 0)) as free:
        port: int = free.getsockname()[1]
        return port
