"""The state machine of a run: events in, actions out. It knows no Ray, clock, file or thread; time is told to it."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fleetbench.matrix.types import Outcome
from fleetbench.plan import breaker
from fleetbench.plan.budget import Budget
from fleetbench.plan.events import (
    Action,
    Event,
    FleetSeen,
    Interrupted,
    LaunchEnded,
    LaunchEvent,
    LaunchLost,
    Placed,
    Record,
    SessionUp,
    Stop,
    Tick,
    TrialEnded,
    TrialStarted,
)
from fleetbench.plan.lane import Affords, Lane, Running
from fleetbench.plan.rules import Rules
from fleetbench.plan.types import EngineLaunch, Trial
from fleetbench.plan.waiting import Queue, Waiting

MAY_PASS = frozenset({Outcome.LOST, Outcome.TIMEOUT})
"""Outcomes of a trial that another try may mend."""
OF_THE_LAUNCH = frozenset({Outcome.OOM, Outcome.REFUSED, Outcome.CANCELLED})
"""Outcomes of a launch that it would have on every node."""


@dataclass(slots=True)
class RunMachine:
    """Starts launches where there is room, and sees to it that every trial ends in an outcome.

    A launch that comes to nothing is tried again where its cause may pass, after a while and elsewhere if there is an
    elsewhere; one that made progress goes on with its next trial. What cannot pass is recorded at once.

    outcomes: of trials, the last one each; tries: how often each was tried, and recorded.
    """

    rules: Rules = field(default_factory=Rules)
    running: dict[str, Running] = field(default_factory=dict)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    tries: Counter[str] = field(default_factory=Counter)
    interrupted: bool = False
    _lanes: dict[str, Lane] = field(default_factory=dict)
    _later: list[tuple[float, int, Waiting]] = field(default_factory=list)
    _serial: int = 0
    _budget: Budget = field(init=False)

    def __post_init__(self) -> None:
        self._budget = Budget(rules=self.rules)

    @property
    def finished(self) -> bool:
        return not self.running and not self.waiting

    @property
    def waiting(self) -> int:
        """Launches that are still to be started."""
        return sum(len(lane.queue) for lane in self._lanes.values()) + len(self._later)

    @property
    def blocked(self) -> dict[str, str]:
        """Why work waits for more than its turn, by hardware kind."""
        return {name: lane.blocked for name, lane in self._lanes.items() if lane.blocked is not None}

    @property
    def unfit(self) -> dict[str, str]:
        """Why a node is not measured on, by its name."""
        slots = (slot for lane in self._lanes.values() for slot in lane.yard.slots.values())
        return {slot.node.name: slot.why for slot in slots if slot.why is not None}

    @property
    def wake_s(self) -> float | None:
        """When something is to be done though nothing happens; None where nothing waits for time."""
        times = [self._later[0][0]] if self._later else []
        for lane in self._lanes.values():
            times += [slot.broken_until_s for slot in lane.yard.slots.values() if slot.broken is not None]
            if lane.blocked_since_s is not None:
                times.append(lane.blocked_since_s + self.rules.nodes_s)
        if (silence_s := self.rules.silence_s) is not None:
            times += [run.heard_s + silence_s for run in self.running.values() if run.heard_s is not None]
        for end_s in (self._budget.end_s, self._budget.spent_s(self.running.values())):
            if end_s is not None:
                times.append(end_s)
        return min(times, default=None)

    def demand(self) -> Counter[tuple[str, int]]:
        """How many launches of each (hardware, GPUs) there are to run or running: what a fleet must have nodes for."""
        runs = (run.waiting for run in self.running.values())
        later = (one for _, _, one in self._later)
        queued = (one for lane in self._lanes.values() for one in lane.queue)
        return Counter((one.launch.hardware, one.gpus) for group in (runs, later, queued) for one in group)

    def cost_usd(self, now_s: float) -> float:
        """Spent so far, on what runs included."""
        return self._budget.cost_usd(self.running.values(), now_s)

    def remaining_s(self, now_s: float) -> float | None:
        """Until all is done, were no GPU ever idle; None where launches keep more than they use."""
        if any(lane.yard.whole for lane in self._lanes.values()):
            return None
        return max((lane.remaining_s(now_s) for lane in self._lanes.values()), default=None)

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
        self._budget.begin(now_s)
        if self.interrupted:
            return
        hurried = frozenset(first)
        for launch in launches:
            self._serial += 1
            self._lane(launch.hardware).queue.add(
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
                return self._end_all(event.outcome, event.reason, now_s, waiting=False)
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
        actions += [action for lane in self._lanes.values() for action in self._fill(lane, now_s)]
        return [*actions, *self._unblock(now_s), *self._unpaid(now_s)]

    def _of_launch(self, run: Running, event: LaunchEvent, now_s: float) -> list[Action]:
        actions: list[Action] = []
        lane = self._lane(run.launch.hardware)
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
                self._trial_ended(run, event)
                return []
            case LaunchEnded():
                actions = self._launch_ended(run, event, now_s)
            case LaunchLost():
                actions = self._launch_lost(run, event.reason, now_s)
        # Money that one kind has not spent is there for the others; and where nothing runs, nothing else would tell.
        lanes = [lane] if self.rules.cost_usd is None else list(self._lanes.values())
        actions += [action for one in lanes for action in self._fill(one, now_s)]
        return actions if self.running or self.finished else [*actions, *self._advance(now_s)]

    def _fleet_seen(self, event: FleetSeen, now_s: float) -> list[Action]:
        here = {(seen.node.hardware, seen.node.node_id) for seen in event.nodes}
        for seen in event.nodes:
            self._lane(seen.node.hardware).see(seen, self.running)
        lost: list[Action] = []
        for lane in self._lanes.values():
            for node_id in [one for one in lane.yard.slots if (lane.name, one) not in here]:
                slot = lane.yard.slots[node_id]
                for run in [self.running[one] for one in slot.mine if one in self.running]:
                    if run.placed:
                        lost += self._launch_lost(run, f"its node {slot.node.name} is gone", now_s)
                    else:
                        lost += self._again(run, now_s, fruitless=run.waiting.fruitless)
                lane.yard.forget(node_id)
        return lost

    def _trial_ended(self, run: Running, event: TrialEnded) -> None:
        run.in_flight = run.heard_s = None
        trial = run.todo.pop(event.trial_id, None)
        if trial is None:
            return
        run.ended += 1
        self.tries[event.trial_id] += 1
        self.outcomes[event.trial_id] = event.outcome
        if self._may_mend(event.trial_id, event.outcome):
            run.todo[event.trial_id] = trial
        elif event.outcome is Outcome.OK:
            run.good = True
            breaker.absolve(self._lane(run.launch.hardware).slots(run))

    def _launch_ended(self, run: Running, event: LaunchEnded, now_s: float) -> list[Action]:
        if event.unfit is not None:
            lane = self._lane(run.launch.hardware)
            breaker.expose(lane, run, event.unfit, now_s, self.rules, node_id=event.unfit_node)
            return [*self._again(run, now_s, fruitless=run.waiting.fruitless), *self._unblock(now_s)]
        if event.outcome is Outcome.OK and not run.todo:
            return self._drop(run, now_s)
        if event.outcome is Outcome.OK and run.ended:
            return self._again(run, now_s)
        reason = event.reason or "the engine ended before this trial"
        outcome = Outcome.LAUNCH_FAILED if event.outcome is Outcome.OK else event.outcome
        return self._cut_short(run, outcome, reason, now_s, may_pass=event.retriable)

    def _launch_lost(self, run: Running, reason: str, now_s: float) -> list[Action]:
        return self._cut_short(run, Outcome.LOST, reason, now_s, may_pass=True)

    def _cut_short(self, run: Running, outcome: Outcome, reason: str, now_s: float, *, may_pass: bool) -> list[Action]:
        """A launch that leaves trials undone: the one in flight gets a row, the others another launch or one too."""
        flying = run.todo.get(run.in_flight or "")
        rows = self._record(run, [flying], outcome, reason) if flying else []
        lane, lasting = self._lane(run.launch.hardware), outcome in OF_THE_LAUNCH
        if not run.good and not lasting:
            breaker.blame(lane, run, reason, now_s, self.rules)
        if not run.todo:
            return [*rows, *self._drop(run, now_s)]
        progress = bool(rows or run.ended)
        fruitless = 0 if run.ended else run.waiting.fruitless + (not rows)
        failures = max(fruitless, self.tries[flying.trial_id] if flying else 0, 1)
        delay_s = self.rules.backoff_s * 2 ** (failures - 1) if may_pass or outcome in MAY_PASS else 0.0
        if progress or (may_pass and not lasting and fruitless < self.rules.tries):
            return [*rows, *self._again(run, now_s, fruitless=fruitless, delay_s=delay_s)]
        if not lasting and fruitless == 1 and lane.yard.others_than(run.waiting.avoid, run.launch):
            return self._again(run, now_s, fruitless=fruitless)
        return self._give_in(run, outcome, reason, now_s)

    def _give_in(self, run: Running, outcome: Outcome, reason: str, now_s: float) -> list[Action]:
        """What is left of the launch will not be done."""
        trials, run.todo = list(run.todo.values()), {}
        rows: list[Action] = [self._row(run.waiting, trial, outcome, reason) for trial in trials]
        return [*rows, *self._drop(run, now_s)]

    def _record(self, run: Running, trials: Sequence[Trial], outcome: Outcome, reason: str) -> list[Action]:
        """Rows for trials that their launch cannot write; one that another try may mend stays, at the end."""
        run.in_flight = run.heard_s = None
        rows: list[Action] = []
        for trial in trials:
            del run.todo[trial.trial_id]
            rows.append(self._row(run.waiting, trial, outcome, reason))
            if self._may_mend(trial.trial_id, outcome):
                run.todo[trial.trial_id] = trial
        return rows

    def _row(self, waiting: Waiting, trial: Trial, outcome: Outcome, reason: str) -> Record:
        tries = self.tries[trial.trial_id]
        self.tries[trial.trial_id] += 1
        self.outcomes[trial.trial_id] = outcome
        return Record(
            launch=waiting.launch, attempt=waiting.attempt, trial=trial, tries=tries, outcome=outcome, reason=reason
        )

    def _may_mend(self, trial_id: str, outcome: Outcome) -> bool:
        """Whether it should be tried again: a lost one as often as the rules say, one at its limit once more."""
        most = self.rules.trial_tries if outcome is Outcome.LOST else min(2, self.rules.trial_tries)
        return outcome in MAY_PASS and self.tries[trial_id] < most

    def _again(
        self,
        run: Running,
        now_s: float,
        *,
        fruitless: int = 0,
        delay_s: float = 0.0,
    ) -> list[Action]:
        """Another launch for what is left, if anything is; elsewhere, if it came to nothing where it was."""
        if not run.todo:
            return self._drop(run, now_s)
        share = len(run.todo) / max(1, len(run.waiting.trials))
        one = replace(
            run.waiting,
            attempt=run.attempt + 1,
            trials=tuple(run.todo.values()),
            seconds=run.waiting.seconds * min(1.0, share),
            fruitless=fruitless,
            avoid=frozenset() if run.good else run.waiting.avoid,
            blamed=frozenset() if run.good else run.waiting.blamed,
        )
        actions = self._drop(run, now_s)
        if delay_s:
            heapq.heappush(self._later, (now_s + delay_s, one.serial, one))
        else:
            self._lane(run.launch.hardware).queue.add(one)
        return actions

    def _drop(self, run: Running, now_s: float) -> list[Action]:
        del self.running[run.launch.launch_id]
        self._budget.pay(run, now_s)
        self._lane(run.launch.hardware).end(run)
        return [Stop(launch_id=run.launch.launch_id)]

    def _fill(self, lane: Lane, now_s: float) -> list[Action]:
        """Start what there is room for, in its turn."""
        actions: list[Action] = []

        while not self.interrupted and len(lane.queue) and lane.pending < self.rules.window:
            found = lane.next(self.running, self._affords(now_s), now_s, autoscaled=self.rules.autoscaled)
            if found is None:
                break
            one, slots = found
            run, start = lane.start(one, slots, [self.tries[trial.trial_id] for trial in one.trials], now_s)
            self.running[one.launch.launch_id] = run
            actions.append(start)
        return actions

    def _affords(self, now_s: float) -> Affords:
        left_usd = self._budget.left_usd(self.running.values(), now_s)

        def affords(one: Waiting, gpus: int) -> bool:
            usd = self._budget.usd(one, gpus)
            return not usd or usd <= left_usd

        return affords

    def _due(self, now_s: float) -> list[Action]:
        """What time has brought: a second try, a node's second chance, silence, the end of the budget."""
        while self._later and self._later[0][0] <= now_s:
            one = heapq.heappop(self._later)[2]
            self._lane(one.launch.hardware).queue.add(one)
        for lane in self._lanes.values():
            breaker.recover(lane, now_s, self.rules)
        actions: list[Action] = []
        if (silence_s := self.rules.silence_s) is not None:
            for run in list(self.running.values()):
                if run.heard_s is not None and now_s >= run.heard_s + silence_s:
                    actions += self._launch_lost(run, f"no word of the launch for {silence_s:g} s", now_s)
        over = self._budget.over(self.running.values(), now_s)
        if over is not None and not self.finished:
            actions += self._end_all(Outcome.CANCELLED, over, now_s, waiting=True)
        return actions

    def _unblock(self, now_s: float) -> list[Action]:
        """Say what waits for nodes that are not there, and give it up after a while."""
        actions: list[Action] = []
        for lane in self._lanes.values():
            stuck, called = lane.stuck(), lane.called(self.running)
            if not stuck and not called:
                lane.blocked = lane.blocked_since_s = None
                continue
            lack = lane.lack(stuck[0] if stuck else called[0].waiting)
            count = len(stuck) + len(called)
            lane.blocked = f"{count} launch{'es wait' if count > 1 else ' waits'}: {lack}"
            if lane.blocked_since_s is None:
                lane.blocked_since_s = now_s
            if now_s >= lane.blocked_since_s + self.rules.nodes_s:
                why = f"{lack}, and none came for {self.rules.nodes_s:g} s"
                for one in stuck:
                    lane.withdraw(one)
                    actions += [self._row(one, trial, Outcome.CANCELLED, why) for trial in one.trials]
                for run in called:
                    actions += self._give_in(run, Outcome.CANCELLED, why, now_s)
                lane.blocked = lane.blocked_since_s = None
        return actions

    def _unpaid(self, now_s: float) -> list[Action]:
        """Where nothing runs and nothing that waits can be paid, nothing will change that."""
        if self.rules.cost_usd is None or self.running or self._later or self.finished:
            return []
        affords, lanes = self._affords(now_s), [lane for lane in self._lanes.values() if len(lane.queue)]
        hope = any(lane.blocked for lane in lanes)
        if hope and any(affords(one, lane.yard.kept(one.launch)) for lane in lanes for one in lane.queue):
            return []
        why = f"of the run's {self.rules.cost_usd:g} USD too little is left for another launch (limits: cost_usd)"
        return self._end_all(Outcome.CANCELLED, why, now_s, waiting=True)

    def _end_all(self, outcome: Outcome, reason: str, now_s: float, *, waiting: bool) -> list[Action]:
        """End what runs, and start nothing more; with rows for what is in flight, and for what waits if asked."""
        left = [one for lane in self._lanes.values() for one in lane.queue.clear()]
        left += [one for _, _, one in self._later]
        self._later.clear()
        for lane in self._lanes.values():
            lane.blocked = lane.blocked_since_s = None
        actions: list[Action] = []
        for run in list(self.running.values()):
            trial = run.todo.pop(run.in_flight or "", None)
            if trial:
                actions.append(self._row(run.waiting, trial, outcome, reason))
            left.append(replace(run.waiting, trials=tuple(run.todo.values())))
            actions += self._drop(run, now_s)
        if waiting:
            actions += [self._row(one, trial, outcome, reason) for one in left for trial in one.trials]
        return actions

    def _lane(self, hardware: str) -> Lane:
        if hardware not in self._lanes:
            self._lanes[hardware] = Lane(name=hardware, queue=Queue(order=self.rules.order))
        return self._lanes[hardware]
