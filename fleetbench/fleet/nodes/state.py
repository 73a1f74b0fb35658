"""What a node is good for now: how it is tagged against what is there. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from fleetbench.catalog.lookup import SIMULATED
from fleetbench.fleet.nodes.facts import NodeFacts
from fleetbench.fleet.nodes.labels import NODE, VERSION, label_value, node_of
from fleetbench.plan.nodes import Node

Verdict = Literal["ready", "busy", "stale", "mismatched", "other-version", "unreachable"]
Failure = Literal["silent", "gone", "lacks", "failed"]
"""Why a node could not be inspected: no answer in time, it died meanwhile, its fleetbench has no such function, or that
raised something."""
MEASURABLE: frozenset[Verdict] = frozenset({"ready", "busy"})
CLOCK_S = 1.0
"""Clocks further apart are told of: the times of what the two did cannot be put in order."""
LEFT = (1, 3, 4)
"""Ray's reasons of death that are none to tell of: it was ended, or drained because it was preempted or idle."""
_ROUNDING = 0.01
"""Ray counts shares in steps of 1/10,000."""
BACK = "see whether the machine is up, and bring it back there by fleetbench node up"
ANEW = "tag it anew: fleetbench node down and node up there"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """The outcome of an inspection; clock_offset_s: the node's clock less ours, at the middle of asking for it."""

    facts: NodeFacts | None = None
    clock_offset_s: float | None = None
    failure: Failure | None = None
    said: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A tagged node of the cluster as a survey found it.

    address: its IP; version: of fleetbench there, by its label; sentence: why this verdict; remedy: what to do about
    it; note: what else is to be known; gpus_total, gpus_free, share_total, share_free: of Ray's count of its GPUs and
    of `fb_node`, None where it is dead; launches: ids of those that are on it, `RUN:LAUNCH:ATTEMPT`.
    """

    node: Node
    alive: bool
    address: str
    version: str | None
    facts: NodeFacts | None
    clock_offset_s: float | None
    verdict: Verdict
    sentence: str
    remedy: str | None = None
    note: str | None = None
    gpus_total: float | None = None
    gpus_free: float | None = None
    share_total: float | None = None
    share_free: float | None = None
    launches: tuple[str, ...] = ()

    @property
    def measurable(self) -> bool:
        return self.verdict in MEASURABLE

    @property
    def gpus_open(self) -> int | None:
        """GPUs that a launch could get there now: all or none of a node that it would have whole.

        None where nobody knows, or nothing is measured.
        """
        if not self.measurable or self.gpus_free is None or self.share_free is None:
            return None
        if self.node.use == "whole":
            return int(self.gpus_free) if self.share_free >= (self.share_total or 0) else 0
        return int(min(self.gpus_free, self.share_free * self.node.gpus + _ROUNDING))


def judge(
    ray_node: Mapping[str, Any],
    node: Node,
    look: Look,
    *,
    free: Mapping[str, float] | None,
    launches: tuple[str, ...],
    ours: str,
    device_problem: Callable[[str, NodeFacts], str | None],
) -> NodeState:
    """The state of one node.

    Args:
        ray_node: its entry in `ray.nodes()`.
        node: the same as its tags say.
        look: what an inspection found.
        free: what Ray has to give there now, by resource; None where Ray does not know it.
        launches: that are on it.
        ours: the version of fleetbench here.
        device_problem: why what is there is not what a tag says.
    """
    alive: bool = ray_node["Alive"]
    total: Mapping[str, float] = ray_node.get("Resources") or {}
    labels: Mapping[str, str] = ray_node.get("Labels") or {}
    gpus, share = _counted("GPU", total, free, alive=alive), _counted(NODE, total, free, alive=alive)
    facts = look.facts
    version = labels.get(VERSION) or (facts.version if facts else None)
    verdict, sentence, remedy = (
        _dead(ray_node)
        or _unseen(look)
        or _other(version, ours)
        or _mismatched(node, facts, total, device_problem)
        or _taken(gpus, share, launches)
    )
    return NodeState(
        node=Node(
            node_id=node.node_id,
            name=node.name,
            hardware=node.hardware,
            gpus=node.gpus,
            use=node.use,
            pool=node.pool,
            engines=facts.engines if facts else None,
        ),
        alive=alive,
        address=ray_node.get("NodeManagerAddress", ""),
        version=version,
        facts=facts,
        clock_offset_s=look.clock_offset_s,
        verdict=verdict,
        sentence=sentence,
        remedy=remedy,
        note=_clock(look.clock_offset_s),
        gpus_total=gpus[0],
        gpus_free=gpus[1],
        share_total=share[0],
        share_free=share[1],
        launches=launches,
    )


Found = tuple[Verdict, str, str | None]
Counted = tuple[float | None, float | None]


def _counted(resource: str, total: Mapping[str, float], free: Mapping[str, float] | None, *, alive: bool) -> Counted:
    """What Ray counts there, and what of it is free: an entry that is missing in `free` is all taken."""
    if not alive:
        return None, None
    return total.get(resource, 0.0), None if free is None else free.get(resource, 0.0)


def _dead(ray_node: Mapping[str, Any]) -> Found | None:
    if ray_node["Alive"]:
        return None
    why = " ".join(str(ray_node.get("DeathReasonMessage") or "").split())
    return "stale", f"Ray takes it for dead{f': {why[:160]}' if why else ''}", BACK


def _unseen(look: Look) -> Found | None:
    match look.failure:
        case "silent":
            return "stale", f"it does not answer{f' within {look.said}' if look.said else ''}", BACK
        case "gone":
            return "stale", "it died while it was looked at", BACK
        case "lacks":
            return "other-version", "its fleetbench cannot be asked what it has", "install this version of it there"
        case "failed":
            return "unreachable", f"nothing can be started there: {look.said}", "see Ray's log on that machine"
    return None


def _other(theirs: str | None, ours: str) -> Found | None:
    if theirs is None or label_value(theirs) == label_value(ours):
        return None
    return "other-version", f"it has fleetbench {theirs}, and this machine {ours}", "install the same version on both"


def _mismatched(
    node: Node,
    facts: NodeFacts | None,
    total: Mapping[str, float],
    device_problem: Callable[[str, NodeFacts], str | None],
) -> Found | None:
    if facts is None:
        return None
    if facts.problem:
        return "mismatched", facts.problem, "put that right there, then fleetbench node up"
    if why := device_problem(node.hardware, facts):
        return "mismatched", why, ANEW
    there = sum(device.kind == node.hardware for device in facts.devices)
    if not node.hardware.startswith(SIMULATED) and facts.devices and there != node.gpus:
        return "mismatched", f"it is tagged with {_gpus(node.gpus)}, and has {there}", ANEW
    if total.get("GPU", 0.0) != node.gpus:
        return "mismatched", f"it is tagged with {_gpus(node.gpus)}, and Ray counts {total.get('GPU', 0.0):g}", ANEW
    return None


def _taken(gpus: Counted, share: Counted, launches: tuple[str, ...]) -> Found:
    taken = [
        f"{whole - free:g} of {whole:g} {what}"
        for what, (whole, free) in (("GPUs", gpus), ("of the node", share))
        if whole and free is not None and free < whole
    ]
    if launches:
        return "busy", f"measuring {', '.join(launches)}", None
    if not taken:
        return "ready", "nothing runs on it", None
    what = taken[0] if gpus[0] and taken[0].endswith("GPUs") else "the node, or a part of it, is"
    return "busy", f"{what} taken", None


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """A run that is being driven: its name, and what its launches are, by launch_id."""

    name: str
    launches: Mapping[str, str]


def with_names(state: NodeState, runs: Mapping[str, KnownRun]) -> NodeState:
    """The same, its sentence by the names of runs and launches where `runs` has them by run_id, instead of ids."""
    if state.verdict != "busy" or not state.launches:
        return state
    found: dict[str, list[str]] = {}
    for launch in state.launches:
        run_id, launch_id = launch.split(":")[:2]
        known = runs.get(run_id)
        found.setdefault(known.name if known else run_id, []).append(
            known.launches.get(launch_id, launch_id) if known else launch_id
        )
    said = ", ".join(f"{run} ({', '.join(what)})" for run, what in found.items())
    return replace(state, sentence=f"measuring {said}")


def _clock(offset_s: float | None) -> str | None:
    if offset_s is None or abs(offset_s) <= CLOCK_S:
        return None
    way = "ahead of" if offset_s > 0 else "behind"
    return f"its clock is {abs(offset_s):.1f} s {way} ours (set both by NTP)"


def _gpus(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"


def tagged(ray_node: Mapping[str, Any], living: frozenset[str]) -> Node | None:
    """The node of an entry that is worth telling of: tagged, and not one that left, or came back under another id.

    living: names of the living.
    """
    node = node_of(ray_node)
    if node is None or ray_node["Alive"]:
        return node
    return None if ray_node.get("DeathReason") in LEFT or node.name in living else node


def without_ghosts(states: Sequence[NodeState]) -> list[NodeState]:
    """All but what is silent under the name of one that answers: it is back, and its head has not noticed its death."""
    here = {state.node.name for state in states if state.facts is not None}
    return [state for state in states if state.verdict != "stale" or state.node.name not in here]
