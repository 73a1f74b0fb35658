"""Looks at every tagged node of the cluster that this process is connected to, at all of them at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import ray
from ray._private import state
from ray.exceptions import (
    NodeDiedError,
    RayError,
    RayTaskError,
    TaskUnschedulableError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fleetbench import __version__
from fleetbench.fleet.nodes.facts import NodeFacts
from fleetbench.fleet.nodes.inspection import device_problem, inspect
from fleetbench.fleet.nodes.state import Failure, Look, NodeState, judge, tagged, without_ghosts

ACTOR = "launch:"
"""Before `RUN:LAUNCH:ATTEMPT` in the name of a launch's actor."""
_LEFT_S = 0.5
"""How soon it is seen that nobody waits."""
_LACKS = ("failed to import on the worker", "ModuleNotFoundError", "ImportError", "AttributeError")


def clock() -> float:
    """This node's, in seconds since 1970 (UTC)."""
    return time.time()


def survey(
    timeout_s: float = 30.0,
    only: Collection[str] | None = None,
    watch: Callable[[int], None] = lambda _: None,
    left: Callable[[], bool] = lambda: False,
) -> tuple[NodeState, ...]:
    """The state of every tagged node, or `only` of these node_ids, by name; the whole takes `timeout_s` at most.

    watch: told how many nodes are looked at; left: whether nobody waits for it any more.
    """
    entries: list[dict[str, Any]] = ray.nodes()
    named = {entry["NodeID"]: tagged(entry, frozenset()) for entry in entries if entry["Alive"]}
    living = frozenset(node.name for node in named.values() if node)
    nodes = [
        (entry, node)
        for entry in entries
        if (only is None or entry["NodeID"] in only) and (node := tagged(entry, living))
    ]
    watch(len(nodes))
    looks = _looks([entry["NodeID"] for entry, _ in nodes if entry["Alive"]], timeout_s, left)
    free: Mapping[str, Mapping[str, float]] = state.available_resources_per_node()
    launches = _launches()
    states = [
        judge(
            entry,
            node,
            looks.get(node.node_id, Look()),
            free=free.get(node.node_id),
            launches=launches.get(node.node_id, ()),
            ours=__version__,
            device_problem=device_problem,
        )
        for entry, node in nodes
    ]
    return tuple(sorted(without_ghosts(states), key=lambda one: (one.node.name, not one.alive)))


def _looks(node_ids: list[str], timeout_s: float, left: Callable[[], bool]) -> dict[str, Look]:
    """By node. `inspect` is that of the fleetbench installed there; clocks are asked once processes are up."""
    until = time.monotonic() + timeout_s
    found = {node_id: Look(failure="silent", said=f"{timeout_s:g} s") for node_id in node_ids}
    for node_id, answer, _ in _ask(inspect, node_ids, until, left):
        found[node_id] = _looked(answer)
    seen = [node_id for node_id, one in found.items() if one.facts]
    asked_at = time.time()
    for node_id, answer, answered_at in _ask(clock, seen, until, left):
        with suppress(RayError):
            offset_s = ray.get(answer) - (asked_at + answered_at) / 2
            found[node_id] = replace(found[node_id], clock_offset_s=offset_s)
    return found


def _ask(
    function: Callable[[], object], node_ids: Sequence[str], until: float, left: Callable[[], bool]
) -> Iterator[tuple[str, Any, float]]:
    """Run it on all nodes at once; yields node, answer and its time as they come, until the deadline.

    It asks Ray for nothing, so that it finds room on a node that is taken.
    """
    task: Any = ray.remote(num_cpus=0, max_retries=0)(function)
    waiting = {
        task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(): node_id
        for node_id in node_ids
    }
    while waiting and not left() and (rest_s := until - time.monotonic()) > 0:
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=min(rest_s, _LEFT_S))
        for answer in ready:
            yield waiting.pop(answer), answer, time.time()
    for answer in waiting:
        ray.cancel(answer, force=True)


def _looked(answer: Any) -> Look:
    try:
        facts: NodeFacts = ray.get(answer)
    except (NodeDiedError, TaskUnschedulableError):
        return Look(failure="gone")
    except RayError as error:
        lines = str(error.cause if isinstance(error, RayTaskError) else error).strip().splitlines()
        lacks = isinstance(error, RayTaskError) and any(word in str(error) for word in _LACKS)
        failure: Failure = "lacks" if lacks else "failed"
        return Look(failure=failure, said=lines[-1][:200] if lines else type(error).__name__)
    except (ImportError, AttributeError, TypeError):  # facts of another version
        return Look(failure="lacks")
    return Look(facts=facts)


def _launches() -> dict[str, tuple[str, ...]]:
    """Launches by the node that they are on."""
    found: dict[str, tuple[str, ...]] = {}
    for actor in state.actors(actor_state_name="ALIVE").values():
        if (name := str(actor.get("Name") or "")).startswith(ACTOR):
            node_id = actor["Address"]["NodeID"]
            found[node_id] = (*found.get(node_id, ()), name.removeprefix(ACTOR))
    return found
