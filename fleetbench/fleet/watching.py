"""The nodes of a cluster as they come and go while a run goes on."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fleetbench.fleet.launch.mounting import why_unseen
from fleetbench.fleet.nodes.labels import NODE, node_of
from fleetbench.fleet.nodes.state import NodeState, Verdict
from fleetbench.fleet.nodes.survey import survey
from fleetbench.plan.events import FleetSeen, Seen
from fleetbench.plan.types import Fleet, NodeKind

LOOK_S = 2.0
FIRST_LOOK_S = 30.0
"""A node's first answer needs a process there, and what it has needs its drivers and engines."""
WAREHOUSE_S = 5.0
"""Whether a node shares the warehouse is said and no more: one that was cut off meanwhile holds up nobody."""
ANSWER_S = 0.5
PART_S = 5.0
"""For the last answer; of a head that is silent none is waited for."""
SILENT_S = 10.0
"""A head that does not answer for so long is told of."""
GONE_S = 30.0
"""A head that does not answer for so long is given up: Ray itself ends this process after 60 s, without a word."""
UNSEEN: frozenset[Verdict] = frozenset({"stale", "unreachable"})
"""Of a living node: it did not answer, which may pass, so it is asked again."""


_MISSED = f"the cluster's head has not answered for {SILENT_S:g} s"


@dataclass(slots=True)
class ClusterFleet:
    """Looks at each node when it joins, and never while it measures: who looks uses its processors.

    say: hears in a sentence what a user should know of the nodes, once.
    """

    say: Callable[[str], None]
    states: dict[str, NodeState] = field(default_factory=dict)
    _said: set[str] = field(default_factory=set)
    _looked: float = 0.0
    _before: frozenset[str] = frozenset()
    _found: list[NodeState] = field(default_factory=list)
    _looking: threading.Thread | None = None
    _asking: threading.Thread | None = None
    _parted: bool = False
    _silent: str | None = None
    _asked: float | None = None
    _heard: queue.SimpleQueue[list[Mapping[str, Any]] | RayError] = field(default_factory=queue.SimpleQueue)
    _news: bool = False

    def begin(self) -> None:
        """Look at all nodes, before anything runs; where all that there were are gone, one may be coming back."""
        until = time.monotonic() + FIRST_LOOK_S
        if count := sum(entry["Alive"] and node_of(entry) is not None for entry in ray.nodes()):
            self.say(f"looking at {count} node{'s' if count > 1 else ''} ...")
        self._take(survey(FIRST_LOOK_S))
        if self.states and not self._any_measurable():
            self.say(f"no node can be measured on now; waiting up to {FIRST_LOOK_S:g} s for one to come back")
        while self.states and not self._any_measurable() and time.monotonic() < until:
            time.sleep(LOOK_S)
            self._take(survey(FIRST_LOOK_S))

    def look(self) -> FleetSeen | None:
        """All living nodes, where one came or went."""
        if time.monotonic() - self._looked < LOOK_S:
            return None
        self._looked = time.monotonic()
        living = self._living()
        if living is None:
            return None
        if self._looking is not None and not self._looking.is_alive():
            self._looking = None
            self._take(self._found)
        unseen = living - {node_id for node_id, state in self.states.items() if state.verdict not in UNSEEN}
        if unseen and self._looking is None:
            self._looking = threading.Thread(target=self._look_at, args=(unseen,), daemon=True)
            self._looking.start()
        known = frozenset(living & self.states.keys())
        if known == self._before and not self._news:
            return None
        for node_id in self._before - known:
            self.say(f"node {self.states[node_id].node.name} is gone")
            del self.states[node_id]
        self._before, self._news = known, False
        return FleetSeen(nodes=tuple(self._seen(self.states[node_id]) for node_id in sorted(known)))

    def part(self) -> None:
        """Ask Ray nothing more: it ends a process of which a thread asks it after the parting, by a line of its own."""
        self._parted = True
        for thread in (self._looking, self._asking):
            if thread is not None and self._silent is None:
                thread.join(PART_S)

    def death(self) -> str | None:
        """A sentence where the cluster's head does not answer any more."""
        return self._silent

    def lose(self, why: str) -> None:
        """From any thread: the head is gone."""
        self._silent = why

    def check_warehouse(self, warehouse: Path, run_id: str, proof: str) -> None:
        """Say of which nodes the rows will come through this controller, since they do not see the warehouse."""
        task: Any = ray.remote(num_cpus=0, max_retries=0)(why_unseen)
        asked = {
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(
                str(warehouse), run_id, proof
            ): state
            for node_id, state in self.states.items()
            if state.measurable
        }
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=WAREHOUSE_S) if asked else ([], [])
        for answer in answered:
            try:
                why = ray.get(answer)
            except RayError:  # it died: its launches will tell
                continue
            if why is not None:
                self.say(f"node {asked[answer].node.name} does not share the warehouse: {why}; its rows come from here")

    def planned(self) -> Fleet:
        """The kinds of node that there are, for a plan; one whose nodes are all gone just now is waited for."""
        kinds: dict[str, NodeKind] = {}
        for state in self.states.values():
            if state.verdict == "stale" and self._any_measurable():
                node = state.node
                kinds.setdefault(node.hardware, NodeKind(hardware=node.hardware, gpus=node.gpus, nodes=1))
        for state in self.states.values():
            if not state.measurable:
                continue
            node, has = state.node, kinds.get(state.node.hardware)
            kinds[node.hardware] = NodeKind(
                hardware=node.hardware,
                gpus=max(node.gpus, has.gpus if has else 0),
                nodes=1 + (has.nodes if has and has.engines is not None else 0),
                engines={**(has.engines or {} if has else {}), **(node.engines or {})},
            )
        return Fleet(kinds=kinds, about="the cluster", unfit=self._unfit())

    def _unfit(self) -> dict[str, str]:
        """By kind, nodes that are there and may not be measured on: the first by name with its reason."""
        found: dict[str, list[NodeState]] = {}
        for state in sorted(self.states.values(), key=lambda state: state.node.name):
            if not state.measurable:
                found.setdefault(state.node.hardware, []).append(state)
        return {
            kind: f"{states[0].node.name} is {states[0].verdict} ({states[0].sentence})"
            + (f", and {len(states) - 1} more" if len(states) > 1 else "")
            + ", see `fleetbench nodes`"
            for kind, states in found.items()
        }

    def _any_measurable(self) -> bool:
        return any(state.measurable for state in self.states.values())

    def _living(self) -> frozenset[str] | None:
        """The living nodes; None where the head does not answer now, for a thread of its own waits for it."""
        if self._asked is None:
            self._asked = time.monotonic()
            self._asking = threading.Thread(target=self._ask, daemon=True)
            self._asking.start()
        try:
            entries = self._heard.get(timeout=ANSWER_S)
        except queue.Empty:
            self._miss(time.monotonic() - self._asked)
            return None
        self._asked = None
        self._said.discard(_MISSED)
        if isinstance(entries, RayError):
            self._silent = f"the cluster's head does not answer any more ({type(entries).__name__})"
            return None
        return frozenset(entry["NodeID"] for entry in entries if entry["Alive"] and node_of(entry) is not None)

    def _ask(self) -> None:
        try:
            self._heard.put(ray.nodes())
        except RayError as error:
            self._heard.put(error)

    def _miss(self, silent_s: float) -> None:
        if silent_s > GONE_S:
            self._silent = f"the cluster's head has not answered for {GONE_S:g} s: see whether it is up"
        elif silent_s > SILENT_S and _MISSED not in self._said:
            self._said.add(_MISSED)
            self.say(f"{_MISSED}; the run waits for it, {GONE_S:g} s in all")

    def _look_at(self, node_ids: frozenset[str]) -> None:
        try:
            self._found = list(survey(FIRST_LOOK_S, only=node_ids, left=lambda: self._parted))
        except RayError:  # they are looked at again
            self._found = []

    def _take(self, states: object) -> None:
        for state in states if isinstance(states, (list, tuple)) else ():
            self._news |= self.states.get(state.node.node_id) != state
            self.states[state.node.node_id] = state
            for sentence in (self._seen(state).unfit, state.note):
                if sentence is not None and (text := f"node {state.node.name}: {sentence}") not in self._said:
                    self._said.add(text)
                    self.say(text)

    @staticmethod
    def _seen(state: NodeState) -> Seen:
        unfit = None
        if not state.measurable:
            unfit = f"{state.sentence} ({state.remedy})" if state.remedy else state.sentence
        elif not state.share_total:
            unfit = f"it has no {NODE} for launches to share (join it by fleetbench node up)"
        return Seen(node=state.node, unfit=unfit)
