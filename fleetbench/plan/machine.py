"""The state machine of a run: events in, actions out. It knows no Ray, clock, file or thread; time is told to it.

Here is what starts, and when; what becomes of what ended is in `retries`, and what is given up in `ends`.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fleetbench.matrix.types import Outcome
from fleetbench.plan import breaker, ends, retries
from fleetbench.plan.events import (
    Action,
    Event,
    FleetSeen,
    Interrupted,
    LaunchEnded,
    LaunchEvent,
    LaunchLost,
    Placed,
    SessionUp,
    Tick,
    TrialEnded,
    TrialStarted,
)
from fleetbench.plan.lane import Lane, Running
from fleetbench.plan.rules import Rules
from fleetbench.plan.state import RunState
from fleetbench.plan.types import EngineLaunch
from fleetbench.plan.waiting import Waiting


@dataclass(slots=True)
class RunMachine:
    """Starts launches where there is room, and sees to it that every trial ends in an outcome.

    A launch that comes to nothing is tried again where its cause may pass, after a while and elsewhere if there is an
    elsewhere; one that made progress goes on with its next trial. What cannot pass is recorded at once.
    """

    rules: Rules = field(default_factory=Rules)
    interrupted: bool = False
    _state: RunState = field(init=False)
    _serial: int = 0

    def __post_init__(self) -> None:
        self._state = RunState(rules=self.rules)

    @property
    def running(self) -> Mapping[str, Running]:
        return self._state.running

    @property
    def outcomes(self) -> Mapping[str, Outcome]:
        """Of trials, the last one each."""
        return self._state.outcomes

    @property
    def tries(self) -> Counter[str]:
        """How often each trial was tried, and recorded."""
        return self._state.tries

    @property
    def finished(self) -> bool:
        return not self.running and not self.waiting

    @property
    def waiting(self) -> int:
        """Launches that are still to be started."""
        return self._state.waiting

    @property
    def blocked(self) -> dict[str, str]:
        """Why work waits for more than its turn, by hardware kind."""
        return {name: lane.blocked for name, lane in self._state.lanes.items() if lane.blocked is not None}

    @property
    def unfit(self) -> dict[str, str]:
        """Why a node is not measured on, by its name."""
        slots = (slot for lane in self._state.lanes.values() for slot in lane.yard.slots.values())
        return {slot.node.name: slot.why for slot in slots if slot.why is not None}

    @property
    def wake_s(self) -> float | None:
        """When something is to be done though nothing happens; None where nothing waits for time."""
        times = [self._state.later[0][0]] if self._state.later else []
        for lane in self._state.lanes.values():
            times += [slot.broken_until_s for slot in lane.yard.slots.values() if slot.broken is not None]
            if lane.blocked_since_s is not None:
                times.append(lane.blocked_since_s + self.rules.nodes_s)
        if (silence_s := self.rules.silence_s) is not None:
            times += [run.heard_s + silence_s for run in self.running.values() if run.heard_s is not None]
        for end_s in (self._state.budget.end_s, self._state.budget.spent_s(self.running.values())):
            if end_s is not None:
                times.append(end_s)
        return min(times, default=None)

    def demand(self) -> Counter[tuple[str, int]]:
        """How many launches of each (hardware, GPUs) there are to run or running: what a fleet must have nodes for."""
        runs = (run.waiting for run in self.running.values())
        later = (one for _, _, one in self._state.later)
        queued = (one for lane in self._state.lanes.values() for one in lane.queue)
        return Counter((one.launch.hardware, one.gpus) for group in (runs, later, queued) for one in group)

    def cost_usd(self, now_s: float) -> float:
        """Spent so far, on what runs included."""
        return self._state.budget.cost_usd(self.running.values(), now_s)

    def remaining_s(self, now_s: float) -> float | None:
        """Until all is done, were no GPU ever idle; None where launches keep more than they use."""
        if any(lane.yard.whole for lane in self._state.lanes.values()):
            return None
        return max((lane.remaining_s(now_s) for lane in self._state.lanes.values()), default=None)

    def begin(
        self,
        launches: Sequence[EngineLaunch],
        *,
        seconds: Mapping[str, float],
        now_s: float,
        first: Iterable[str] = (),
    ) -> None:
        """Take the plan's launches, in order, or none after an interruption; nothing starts before a fleet is seen.

        seconds: estimated, by launch_id; first: launch_ids that go before others.
        """
        self._state.budget.begin(now_s)
        if self.interrupted:
            return
        hurried = frozenset(first)
        for launch in launches:
            self._serial += 1
            self._state.lane(launch.hardware).queue.add(
                Waiting(
                    launch=launch,
                    seconds=seconds.get(launch.launch_id, 1.0),
                    priority=-1 if launch.role == "control" else int(launch.launch_id in hurried),
                    serial=self._serial,
                    trials=launch.trials,
                )
            )

    def handle(self, event: Event, now_s: float) -> list[Action]:
        """Advance by one event; events of launches that are no longer running mean nothing."""
        match event:
            case Interrupted():
                self.interrupted = True
                return ends.end_all(self._state, event.outcome, event.reason, now_s, waiting=False)
            case FleetSeen():
                lost = self._fleet_seen(event, now_s)
                return [*lost, *self._advance(now_s)]
            case Tick():
                return self._advance(now_s)
            case _:
                run = self.running.get(event.launch_id)
                return self._of_launch(run, event, now_s) if run is not None else []

    def _advance(self, now_s: float) -> list[Action]:
        actions = self._due(now_s)
        actions += [action for lane in self._state.lanes.values() for action in self._fill(lane, now_s)]
        return [*actions, *ends.unblock(self._state, now_s), *ends.unpaid(self._state, now_s)]

    def _of_launch(self, run: Running, event: LaunchEvent, now_s: float) -> list[Action]:
        actions: list[Action] = []
        lane = self._state.lane(run.launch.hardware)
        match event:
            case Placed():
                lane.place(run, event.node_ids, now_s)
            case SessionUp():
                run.up = True
                return []
            case TrialStarted():
                run.in_flight, run.heard_s = event.trial_id, now_s
                return []
            case TrialEnded():
                retries.end_trial(self._state, run, event)
                return []
            case LaunchEnded():
                actions = retries.end_launch(self._state, run, event, now_s)
                if event.unfit is not None:
                    actions += ends.unblock(self._state, now_s)
            case LaunchLost():
                actions = retries.lose_launch(self._state, run, event.reason, now_s)
        # Money that one kind has not spent is there for the others; and where nothing runs, nothing else would tell.
        lanes = [lane] if self.rules.cost_usd is None else list(self._state.lanes.values())
        actions += [action for one in lanes for action in self._fill(one, now_s)]
        return actions if self.running or self.finished else [*actions, *self._advance(now_s)]

    def _fleet_seen(self, event: FleetSeen, now_s: float) -> list[Action]:
        here = {(seen.node.hardware, seen.node.node_id) for seen in event.nodes}
        for seen in event.nodes:
            self._state.lane(seen.node.hardware).see(seen, self.running)
        lost: list[Action] = []
        for lane in self._state.lanes.values():
            for node_id in [one for one in lane.yard.slots if (lane.name, one) not in here]:
                slot = lane.yard.slots[node_id]
                for run in [self.running[one] for one in slot.mine if one in self.running]:
                    if run.placed:
                        lost += retries.lose_launch(self._state, run, f"its node {slot.node.name} is gone", now_s)
                    else:
                        lost += self._state.again(run, now_s, fruitless=run.waiting.fruitless)
                lane.yard.forget(node_id)
        return lost

    def _fill(self, lane: Lane, now_s: float) -> list[Action]:
        """Start what there is room for, in its turn."""
        actions: list[Action] = []
        while not self.interrupted and len(lane.queue) and lane.pending < self.rules.window:
            found = lane.next(self.running, self._state.affords(now_s), now_s, autoscaled=self.rules.autoscaled)
            if found is None:
                break
            one, slots = found
            run, start = lane.start(one, slots, [self.tries[trial.trial_id] for trial in one.trials], now_s)
            self._state.running[one.launch.launch_id] = run
            actions.append(start)
        return actions

    def _due(self, now_s: float) -> list[Action]:
        """What time has brought: a second try, a node's second chance, silence, the end of the budget."""
        while self._state.later and self._state.later[0][0] <= now_s:
            one = heapq.heappop(self._state.later)[2]
            self._state.lane(one.launch.hardware).queue.add(one)
        for lane in self._state.lanes.values():
            breaker.recover(lane, now_s, self.rules)
        actions: list[Action] = []
        if (silence_s := self.rules.silence_s) is not None:
            for run in list(self.running.values()):
                if run.heard_s is not None and now_s >= run.heard_s + silence_s:
                    why = f"no word of the launch for {silence_s:g} s"
                    actions += retries.lose_launch(self._state, run, why, now_s)
        over = self._state.budget.over(self.running.values(), now_s)
        if over is not None and not self.finished:
            actions += ends.end_all(self._state, Outcome.CANCELLED, over, now_s, waiting=True)
        return actions
