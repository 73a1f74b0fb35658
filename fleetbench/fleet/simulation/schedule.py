"""What a simulation came to: who ran where and when, how busy the nodes were, and how far from the best possible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from fleetbench.matrix.types import Outcome
from fleetbench.plan.nodes import Node
from fleetbench.plan.types import EngineLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One try of a launch: where (its GPUs by number, of each node), from when to when, and how it ended.

    held: GPUs that nobody else could have meanwhile; trials: that ended in it.
    """

    launch: EngineLaunch
    attempt: int
    nodes: tuple[str, ...]
    gpus: tuple[tuple[int, ...], ...]
    held: int
    start_s: float
    end_s: float
    trials: int
    outcome: Outcome
    reason: str | None

    @property
    def seconds(self) -> float:
        return self.end_s - self.start_s

    @property
    def gpu_s(self) -> float:
        return self.seconds * self.held


@dataclass(frozen=True, slots=True, kw_only=True)
class KindShare:
    """How the nodes of one kind fared; gpus: of all of them; busy: GPU-seconds held over those until its last end."""

    hardware: str
    nodes: int
    gpus: int
    launches: int
    tries: int
    makespan_s: float
    bound_s: float
    busy: float | None
    cost_usd: float | None
    idle_usd: float | None

    @property
    def ratio(self) -> float | None:
        return self.makespan_s / self.bound_s if self.bound_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShare:
    """How one node fared; busy: GPU-seconds held over those until the last end of its kind."""

    node: Node
    tries: int
    failed: int
    busy: float | None
    last_s: float


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The schedule, in order of ends, and what became of the trials.

    machine_cpu_s: CPU seconds of the state machine itself; it is measured, all else is the same for the same seed.
    """

    nodes: tuple[Node, ...]
    bars: tuple[Bar, ...]
    outcomes: Counter[Outcome]
    trials: int
    cells: int
    tries: int
    cost_usd: float
    price_usd_h: Mapping[str, float]
    machine_cpu_s: float

    @cached_property
    def kinds(self) -> tuple[KindShare, ...]:
        return tuple(self._kind(name) for name in dict.fromkeys(node.hardware for node in self.nodes))

    @property
    def makespan_s(self) -> float:
        return max((bar.end_s for bar in self.bars), default=0.0)

    @property
    def bound_s(self) -> float:
        """No schedule of this work on these nodes is shorter."""
        return max((kind.bound_s for kind in self.kinds), default=0.0)

    @property
    def ratio(self) -> float | None:
        return self.makespan_s / self.bound_s if self.bound_s else None

    @cached_property
    def node_shares(self) -> tuple[NodeShare, ...]:
        ends = {kind.hardware: kind.makespan_s for kind in self.kinds}
        held: dict[str, float] = {}
        tries: Counter[str] = Counter()
        failed: Counter[str] = Counter()
        last: dict[str, float] = {}
        for bar in self.bars:
            for name in bar.nodes:
                held[name] = held.get(name, 0.0) + bar.gpu_s / len(bar.nodes)
                tries[name] += 1
                failed[name] += bar.outcome is not Outcome.OK
                last[name] = max(last.get(name, 0.0), bar.end_s)
        return tuple(
            NodeShare(
                node=node,
                tries=tries[node.name],
                failed=failed[node.name],
                busy=_share(held.get(node.name, 0.0), ends[node.hardware] * max(1, node.gpus)),
                last_s=last.get(node.name, 0.0),
            )
            for node in self.nodes
        )

    def _kind(self, hardware: str) -> KindShare:
        nodes = [node for node in self.nodes if node.hardware == hardware]
        bars = [bar for bar in self.bars if bar.launch.hardware == hardware]
        gpus = sum(max(1, node.gpus) for node in nodes)
        makespan_s = max((bar.end_s for bar in bars), default=0.0)
        gpu_s, price = sum(bar.gpu_s for bar in bars), self.price_usd_h.get(hardware)
        return KindShare(
            hardware=hardware,
            nodes=len(nodes),
            gpus=sum(node.gpus for node in nodes),
            launches=len({bar.launch.launch_id for bar in bars}),
            tries=len(bars),
            makespan_s=makespan_s,
            bound_s=bound_s(bars, nodes),
            busy=_share(gpu_s, gpus * makespan_s),
            cost_usd=None if price is None else price * gpu_s / 3600,
            idle_usd=None if price is None else price * (gpus * makespan_s - gpu_s) / 3600,
        )


def bound_s(bars: Iterable[Bar], nodes: Iterable[Node]) -> float:
    """A time below which no schedule of these bars on nodes of one kind can be, every try counted as work.

    The most of: the longest bar; GPU-seconds held over GPUs; node-seconds of bars that leave no room for another of
    their like (more than half of a node's GPUs) over nodes.
    """
    sizes = [max(1, node.gpus) for node in nodes]
    gpus, longest_s, held_s, alone_s = sum(sizes), 0.0, 0.0, 0.0
    for bar in bars:
        longest_s = max(longest_s, bar.seconds)
        held_s += bar.gpu_s
        if 2 * bar.held > max(sizes) * len(bar.nodes):
            alone_s += bar.seconds * len(bar.nodes)
    return max(longest_s, held_s / gpus, alone_s / len(sizes)) if sizes else longest_s


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None
