"""Runs a run's state machine against a virtual clock and a fleet on paper: the same machine that conducts real runs."""

from __future__ import annotations

import heapq
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from fleetbench.fleet.simulation.cluster import Cluster, Place
from fleetbench.fleet.simulation.faults import Faults
from fleetbench.fleet.simulation.schedule import Bar, Simulation
from fleetbench.fleet.simulation.scripts import Line, NodeDies, script
from fleetbench.fleet.simulation.times import Times, error_factor
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import (
    Action,
    Event,
    FleetSeen,
    LaunchEnded,
    LaunchEvent,
    LaunchLost,
    Placed,
    SessionUp,
    Start,
    Stop,
    Tick,
    TrialEnded,
    TrialStarted,
)
from fleetbench.plan.machine import RunMachine
from fleetbench.plan.nodes import Node
from fleetbench.plan.rules import Rules
from fleetbench.plan.types import EngineLaunch, Fleet

PLACE_S = 0.5
"""From the wish for an actor to its start on a free node; measured on Ray 2.60: 0.34 to 0.57 s."""
STOP_S = 0.2
"""From the end of an actor until its GPUs are free; measured."""
DEATH_S = 3.5
"""From a node's death until the cluster says so; measured with a killed raylet."""
NODE_GONE_S = 300.0
"""Nominal: how long a node that died stays away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the machine does not know.

    seed: of all chance; unsure: true times are within this share of the estimates; trial_limit_s: what a trial that
    hangs takes.
    """

    seed: int = 0
    unsure: float = 0.3
    faults: Faults = field(default_factory=Faults)
    trial_limit_s: float = 900.0


def nodes_of(fleet: Fleet) -> list[Node]:
    """Every node of a fleet, by name: its kind and a number."""
    return [
        Node(
            node_id=f"{kind.hardware}-{number:0{len(str(kind.nodes))}d}",
            name=f"{kind.hardware}-{number:0{len(str(kind.nodes))}d}",
            hardware=kind.hardware,
            gpus=kind.gpus,
            use=kind.use,
            engines=kind.engines,
        )
        for kind in fleet.kinds.values()
        for number in range(1, kind.nodes + 1)
    ]


def simulate(
    launches: Sequence[EngineLaunch],
    nodes: Sequence[Node],
    estimates: Mapping[str, Times],
    *,
    rules: Rules,
    world: World,
) -> Simulation:
    """Run launches to their end; the machine sees the estimates, the fleet takes its own time.

    estimates: by launch_id, for every launch.
    """
    chance = random.Random(f"{world.seed}/bad")  # noqa: S311 - repeatable
    bad = [node.name for node in nodes if chance.random() < world.faults.bad]
    run = _Run(estimates=estimates, world=world, machine=RunMachine(rules=rules), cluster=Cluster.of(nodes, bad))
    run.conduct(launches)
    return Simulation(
        nodes=tuple(nodes),
        bars=tuple(run.bars),
        outcomes=Counter(run.machine.outcomes.values()),
        trials=len(run.machine.outcomes),
        cells=len({trial.cell.cell_id for launch in launches for trial in launch.trials}),
        tries=sum(run.machine.tries.values()),
        cost_usd=run.machine.cost_usd(run.now_s),
        price_usd_h=rules.price_usd_h,
        machine_cpu_s=run.cpu_s,
    )


@dataclass(slots=True)
class _Life:
    """One try of a launch; lines: what will happen to it; silent_s: when nothing came any more."""

    start: Start
    places: list[Place] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    began_s: float = 0.0
    next: int = 0
    trials: int = 0
    outcome: Outcome = Outcome.CANCELLED
    reason: str | None = None
    silent_s: float | None = None
    over: bool = False


@dataclass(slots=True)
class _Run:
    """The virtual clock, and whose turn it is."""

    estimates: Mapping[str, Times]
    world: World
    machine: RunMachine
    cluster: Cluster
    bars: list[Bar] = field(default_factory=list)
    lives: dict[str, _Life] = field(default_factory=dict)
    now_s: float = 0.0
    cpu_s: float = 0.0
    _wake_s: float | None = None
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _serial: int = 0

    def conduct(self, launches: Sequence[EngineLaunch]) -> None:
        began = time.process_time()
        seconds = {name: times.total_s for name, times in self.estimates.items()}
        self.machine.begin(launches, seconds=seconds, now_s=0.0)
        self.cpu_s += time.process_time() - began
        self._tell(FleetSeen(nodes=self.cluster.seen()))
        while not self.machine.finished:
            wake_s = self._wake_s
            if self._heap and (wake_s is None or self._heap[0][0] <= wake_s):
                self.now_s, _, happen = heapq.heappop(self._heap)
                happen()
            elif wake_s is not None:
                self.now_s = max(self.now_s, wake_s)
                self._tell(Tick())
            else:
                raise RuntimeError("the run is not finished, and nothing is to come")  # a fault of ours

    def _after(self, delay_s: float, happen: Callable[[], None]) -> None:
        self._serial += 1
        heapq.heappush(self._heap, (self.now_s + delay_s, self._serial, happen))

    def _tell(self, event: Event) -> None:
        began = time.process_time()
        actions = self.machine.handle(event, self.now_s)
        if not isinstance(event, SessionUp | TrialStarted | TrialEnded):  # they move no time that is waited for
            self._wake_s = self.machine.wake_s
        self.cpu_s += time.process_time() - began
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        match action:
            case Start():
                life = self.lives[action.launch.launch_id] = _Life(start=action)
                self._after(PLACE_S, partial(self._ask_for, life))
            case Stop():
                self._end(self.lives.pop(action.launch_id))
            case _:  # a row: there is no warehouse here
                pass

    def _ask_for(self, life: _Life) -> None:
        if not life.over:
            self.cluster.request(life.start)
            self._place(life.start.launch.hardware)

    def _place(self, hardware: str) -> None:
        for start, places in self.cluster.place(hardware):
            life = self.lives[start.launch.launch_id]
            life.places, life.began_s = places, self.now_s
            life.lines = self._script(life)
            self._go_on(life)
            self._tell(Placed(launch_id=start.launch.launch_id, node_ids=tuple(p.host.node.node_id for p in places)))

    def _script(self, life: _Life) -> list[Line]:
        launch_id, seed = life.start.launch.launch_id, self.world.seed
        factor = error_factor(launch_id, seed=seed, unsure=self.world.unsure)
        estimate = self.estimates[launch_id]
        true = Times(
            start_s=factor * estimate.start_s,
            trials_s={trial.trial_id: factor * estimate.trials_s[trial.trial_id] for trial in life.start.trials},
        )
        return script(
            life.start,
            true,
            self.world.faults,
            rng=random.Random(f"{seed}/{launch_id}/{life.start.attempt}"),  # noqa: S311 - repeatable
            trial_limit_s=self.world.trial_limit_s,
            bad=any(place.host.bad for place in life.places),
        )

    def _go_on(self, life: _Life) -> None:
        """Set the clock for the life's next line."""
        at_s, event = life.lines[life.next]
        life.next += 1
        self._after(life.began_s + at_s - self.now_s, partial(self._happen, life, event))

    def _happen(self, life: _Life, event: LaunchEvent | NodeDies) -> None:
        if life.over or life.silent_s is not None:
            return
        if isinstance(event, NodeDies):
            self._kill_node(life.places[0])
            return
        match event:
            case LaunchEnded() | LaunchLost():
                life.outcome = event.outcome if isinstance(event, LaunchEnded) else Outcome.LOST
                life.reason = event.reason
            case TrialEnded():
                life.trials += 1
            case _:
                pass
        if life.next < len(life.lines):
            self._go_on(life)
        self._tell(event)

    def _kill_node(self, place: Place) -> None:
        """All on it is silent from now on; the cluster notices after a while, and later it joins again."""
        host = place.host
        for life in self.lives.values():
            if life.silent_s is None and any(one.host is host and one.there for one in life.places):
                life.silent_s, life.outcome, life.reason = self.now_s, Outcome.LOST, f"{host.node.name} died"
        host.here = False
        self._after(DEATH_S, self._look)

        def join_again() -> None:
            host.join_again()
            self._look()
            self._place(host.node.hardware)

        self._after(NODE_GONE_S, join_again)

    def _look(self) -> None:
        self._tell(FleetSeen(nodes=self.cluster.seen()))

    def _end(self, life: _Life) -> None:
        life.over = True
        if not life.places:
            self.cluster.withdraw(life.start)
            return
        self.bars.append(self._bar(life))

        def free() -> None:
            self.cluster.free(life.places)
            self._place(life.start.launch.hardware)

        self._after(STOP_S, free)

    def _bar(self, life: _Life) -> Bar:
        return Bar(
            launch=life.start.launch,
            attempt=life.start.attempt,
            nodes=tuple(place.host.node.name for place in life.places),
            gpus=tuple(place.gpus for place in life.places),
            held=sum(
                max(1, place.host.node.gpus) if life.start.share == 1 else len(place.gpus) for place in life.places
            ),
            start_s=life.began_s,
            end_s=self.now_s if life.silent_s is None else life.silent_s,
            trials=life.trials,
            outcome=life.outcome,
            reason=life.reason,
        )
