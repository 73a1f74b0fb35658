"""What Ray does with actors, as far as a schedule sees it: it counts GPUs and shares, and finds a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from fleetbench.plan.events import Seen, Start
from fleetbench.plan.nodes import Node

WHOLE = 10_000
"""A node's share in the ten-thousandths that Ray counts in."""


@dataclass(slots=True)
class Host:
    """A machine and what is free of it; each time it joins again it is another node to Ray.

    free: GPUs by number (the one CPU where there are none); share: of its launches, in ten-thousandths.
    """

    node: Node
    bad: bool = False
    here: bool = True
    joined: int = 0
    free: list[int] = field(default_factory=list)
    share: int = WHOLE

    def __post_init__(self) -> None:
        self._empty()

    def _empty(self) -> None:
        self.free, self.share = list(range(max(1, self.node.gpus))), WHOLE

    def join_again(self) -> None:
        self.joined += 1
        self.node = replace(self.node, node_id=f"{self.node.name}/{self.joined}")
        self.here = True
        self._empty()

    def has_room(self, start: Start) -> bool:
        return self.here and self.share >= _share(start) and len(self.free) >= start.gpus


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What an actor has of a host, as long as that stays joined."""

    host: Host
    joined: int
    gpus: tuple[int, ...]
    share: int

    @property
    def there(self) -> bool:
        return self.host.here and self.host.joined == self.joined


@dataclass(slots=True)
class Cluster:
    """Hosts by hardware kind, and requests that wait for room."""

    hosts: dict[str, list[Host]]
    waiting: dict[str, dict[str, Start]] = field(default_factory=dict)

    @staticmethod
    def of(nodes: Iterable[Node], bad: Iterable[str] = ()) -> Cluster:
        hosts: dict[str, list[Host]] = {}
        broken = frozenset(bad)
        for node in nodes:
            hosts.setdefault(node.hardware, []).append(Host(node=node, bad=node.name in broken))
        return Cluster(hosts=hosts)

    def seen(self) -> tuple[Seen, ...]:
        return tuple(Seen(node=host.node) for hosts in self.hosts.values() for host in hosts if host.here)

    def request(self, start: Start) -> None:
        self.waiting.setdefault(start.launch.hardware, {})[start.launch.launch_id] = start

    def withdraw(self, start: Start) -> None:
        self.waiting.get(start.launch.hardware, {}).pop(start.launch.launch_id, None)

    def place(self, hardware: str) -> list[tuple[Start, list[Place]]]:
        """What can be placed of what waits, in the order of the requests."""
        waiting = self.waiting.get(hardware, {})
        placed: list[tuple[Start, list[Place]]] = []
        for start in list(waiting.values()):
            hosts = self._find(start)
            if hosts:
                placed.append((start, [_take(host, start) for host in hosts]))
                del waiting[start.launch.launch_id]
        return placed

    def free(self, places: Sequence[Place]) -> None:
        for place in places:
            if place.there:
                place.host.free = sorted([*place.host.free, *place.gpus])
                place.host.share += place.share

    def _find(self, start: Start) -> list[Host]:
        """The preferred nodes where they have room, else any that have and are not barred."""
        hosts = self.hosts.get(start.launch.hardware, [])
        wanted = frozenset(start.node_ids)
        found = [host for host in hosts if host.node.node_id in wanted and host.has_room(start)]
        if len(found) < len(start.node_ids):
            barred = frozenset(start.barred) | wanted
            found += [host for host in hosts if host.node.node_id not in barred and host.has_room(start)]
        return found[: len(start.node_ids)] if len(found) >= len(start.node_ids) else []


def _share(start: Start) -> int:
    return int(start.share * WHOLE)


def _take(host: Host, start: Start) -> Place:
    count = max(1, start.gpus) if host.node.gpus == 0 else start.gpus
    gpus, host.free = tuple(host.free[:count]), host.free[count:]
    host.share -= _share(start)
    return Place(host=host, joined=host.joined, gpus=gpus, share=_share(start))
