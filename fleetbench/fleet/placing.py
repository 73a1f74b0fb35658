"""What Ray is asked for: actors where the hardware is, with the GPUs and the share of the node that a launch needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from fleetbench.fleet.launch.actor import LaunchActor
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.nodes.labels import GPU, NODE
from fleetbench.plan.events import Start

NODE_ID = "ray.io/node-id"
"""A label that Ray gives every node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launched:
    """A launch's actors; stream: of its events."""

    actor: Any
    stream: Any
    members: tuple[Any, ...] = ()
    group: PlacementGroup | None = None

    def end(self) -> None:
        """Kill all of it; engines end with their actors."""
        for one in (self.actor, *self.members):
            ray.kill(one)
        if self.group is not None:
            remove_placement_group(self.group)


def launch(start: Start, job: LaunchJob, desk: str | None) -> Launched:
    """Ask Ray for the launch's actors; it finds the nodes, and the first event says that it did."""
    name = f"launch:{job.run_id}:{job.launch.launch_id}:{job.attempt}"
    if start.nodes > 1:
        return _spanning(start, job, desk, name)
    actor = _actor(start, name=name, **_where(start))
    return Launched(actor=actor, stream=_run(actor, job, (), desk))


def selector(start: Start) -> dict[str, str]:
    """Nodes of the launch's kind, but for those that it must not get."""
    barred = {NODE_ID: f"!in({','.join(start.barred)})"} if start.barred else {}
    return {GPU: start.launch.hardware, **barred}


def _where(start: Start) -> dict[str, Any]:
    """The preferred node, else any that will do: never one of another kind, which would change what is measured."""
    if not start.node_ids:
        return {"label_selector": selector(start)}
    preferred = {GPU: start.launch.hardware, NODE_ID: start.node_ids[0]}
    return {"label_selector": preferred, "fallback_strategy": [{"label_selector": selector(start)}]}


def _spanning(start: Start, job: LaunchJob, desk: str | None, name: str) -> Launched:
    """A node each, all of them or none."""
    count = start.nodes
    group = placement_group(
        [_resources(start)] * count, strategy="STRICT_SPREAD", bundle_label_selector=[selector(start)] * count
    )
    places = (
        PlacementGroupSchedulingStrategy(placement_group=group, placement_group_bundle_index=index)
        for index in range(count)
    )
    actors = [_actor(start, name=f"{name}:{index}", scheduling_strategy=place) for index, place in enumerate(places)]
    head, *members = actors
    return Launched(actor=head, stream=_run(head, job, members, desk), members=tuple(members), group=group)


def _resources(start: Start) -> dict[str, float]:
    return {NODE: start.share, **({"GPU": start.gpus} if start.gpus else {})}


def _actor(start: Start, *, name: str, **where: Any) -> Any:
    actor_class: Any = ray.remote(num_cpus=0, max_restarts=0)(LaunchActor)
    return actor_class.options(name=name, num_gpus=start.gpus, resources={NODE: start.share}, **where).remote()


def _run(actor: Any, job: LaunchJob, members: Sequence[Any], desk: str | None) -> Any:
    return actor.run.options(num_returns="streaming").remote(job, list(members), desk)
