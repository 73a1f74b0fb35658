"""What holds of a run whatever happens to its fleet and its launches."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy, composite

from fleetbench.matrix.types import EngineInfo, Outcome
from fleetbench.plan.events import (
    Action,
    Event,
    FleetSeen,
    Interrupted,
    LaunchEnded,
    LaunchLost,
    Placed,
    Record,
    Seen,
    SessionUp,
    Start,
    Stop,
    Tick,
    TrialEnded,
    TrialStarted,
)
from fleetbench.plan.rules import Rules
from fleetbench.plan.types import EngineLaunch
from tests.plan.runs import Run, launch, node

KINDS = ("h100", "b200")
ENGINES = tuple(EngineInfo(name=name, version="1.0", toolchain="x") for name in ("vllm", "sglang"))
BAD = (Outcome.CRASHED, Outcome.OOM, Outcome.TIMEOUT, Outcome.LAUNCH_FAILED, Outcome.REFUSED, Outcome.CANCELLED)
Step = tuple[int, int, float]
Scripted = tuple[Rules, list[EngineLaunch], list[Seen], list[Step], dict[str, float], list[str]]


@composite
def _launches(draw: st.DrawFn) -> list[EngineLaunch]:
    return [
        launch(
            f"l{index}",
            draw(st.integers(1, 3)),
            gpus=draw(st.sampled_from((1, 2, 4, 8, 16))),
            hardware=draw(st.sampled_from(KINDS)),
            engine=draw(st.sampled_from(ENGINES)),
            artifact=draw(st.sampled_from("xyz")),
            role=draw(st.sampled_from(("measure", "measure", "control"))),
        )
        for index in range(draw(st.integers(1, 7)))
    ]


@composite
def _fleet(draw: st.DrawFn) -> list[Seen]:
    return [
        node(
            f"n{index}",
            gpus=draw(st.sampled_from((0, 2, 4, 8, 8))),
            hardware=draw(st.sampled_from(KINDS)),
            use=draw(st.sampled_from(("shared", "whole"))),
            engines=draw(st.sampled_from((None, None, {"vllm": "1.0"}, {"sglang": "1.0"}))),
        )
        for index in range(draw(st.integers(0, 5)))
    ]


def _rules() -> SearchStrategy[Rules]:
    return st.builds(
        Rules,
        window=st.integers(1, 4),
        tries=st.integers(1, 3),
        trial_tries=st.integers(1, 3),
        backoff_s=st.sampled_from((0.0, 2.0)),
        breaker=st.integers(0, 2),
        cooldown_s=st.sampled_from((5.0, 600.0)),
        nodes_s=st.sampled_from((0.0, 100.0, 900.0)),
        silence_s=st.sampled_from((None, 30.0)),
        wall_s=st.sampled_from((None, None, 500.0)),
        cost_usd=st.sampled_from((None, None, 1.0, 20.0)),
        price_usd_h=st.just({"h100": 3.0}),
        order=st.sampled_from(("balanced", "first-come")),
    )


@composite
def scripts(draw: st.DrawFn) -> Scripted:
    launches = draw(_launches())
    steps = st.tuples(st.integers(0, 11), st.integers(0, 9), st.sampled_from((0.0, 1.0, 7.0, 100.0)))
    seconds = {one.launch_id: draw(st.sampled_from((1.0, 60.0, 3600.0))) for one in launches}
    first = [one.launch_id for one in launches if draw(st.booleans())]
    return draw(_rules()), launches, draw(_fleet()), draw(st.lists(steps, max_size=40)), seconds, first


@dataclass(slots=True)
class World:
    """Drives a machine by a script, then honestly to its end, and checks what must hold at every step."""

    run: Run
    launches: list[EngineLaunch]
    fleet: list[Seen]
    attempts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """By trial, the number of each try that has a row, whoever wrote it."""
    gone: set[str] = field(default_factory=set)

    def tell(self, event: Event) -> None:
        for action in self.run.tell(event):
            self._check(action)
        running = self.run.machine.running.values()
        waiting = Counter(one.launch.hardware for one in running if not one.placed)
        assert all(count <= self.run.rules.window for count in waiting.values())
        held: Counter[str] = Counter()
        for one in running:
            held.update(dict.fromkeys(one.node_ids, one.gpus))
        units = {seen.node.node_id: max(1, seen.node.gpus) for seen in self.fleet}
        assert all(gpus <= units.get(node_id, 0) for node_id, gpus in held.items() if node_id not in self.gone)

    def _check(self, action: Action) -> None:
        match action:
            case Start():
                assert action.launch.launch_id not in self.attempts, "started twice"
                assert action.trials, "started for nothing"
                assert not set(action.node_ids) & set(action.barred)
                assert list(action.tries) == [len(self.rows[trial.trial_id]) for trial in action.trials]
                self.attempts[action.launch.launch_id] = action.attempt
            case Stop():
                del self.attempts[action.launch_id]
            case Record():
                self._row(action.trial.trial_id, action.tries)

    def _row(self, trial_id: str, tries: int) -> None:
        assert tries == len(self.rows[trial_id]), "tries are counted one by one"
        self.rows[trial_id].append(tries)

    def trial_ended(self, launch_id: str, trial_id: str, outcome: Outcome) -> None:
        self.tell(TrialStarted(launch_id=launch_id, trial_id=trial_id))
        self._row(trial_id, len(self.rows[trial_id]))
        self.tell(TrialEnded(launch_id=launch_id, trial_id=trial_id, outcome=outcome, reason=None, output_tok_s=None))

    def place(self, launch_id: str) -> None:
        self.tell(Placed(launch_id=launch_id, node_ids=self.run.machine.running[launch_id].node_ids))

    def see(self, which: int) -> None:
        """One node is gone, or all are there, one of them unfit."""
        there = list(self.fleet)
        if there:
            index = which % len(there)
            match which % 4:
                case 0:
                    there.pop(index)
                case 1:
                    there[index] = replace(there[index], unfit="stale")
        self.gone = {seen.node.node_id for seen in self.fleet} - {seen.node.node_id for seen in there}
        self.tell(FleetSeen(nodes=tuple(there)))

    def step(self, kind: int, which: int, after_s: float) -> None:
        self.run.now_s += after_s
        running = sorted(self.run.machine.running)
        if kind == 0 or not running:
            self.see(which)
        elif kind == 1:
            self.tell(Tick())
        elif kind in (2, 3):
            self.place(running[which % len(running)])
        else:
            self._hear(kind, running[which % len(running)], which)

    def _hear(self, kind: int, launch_id: str, which: int) -> None:
        """A launch says something of itself."""
        todo = list(self.run.machine.running[launch_id].todo)
        trial_id, bad = todo[which % len(todo)] if todo else "", BAD[which % len(BAD)]
        if kind in (6, 7):
            if todo:
                self.trial_ended(launch_id, trial_id, Outcome.OK if kind == 6 else bad)
            return
        ended = LaunchEnded(launch_id=launch_id, outcome=bad, reason=None, retriable=which > 4)
        words: dict[int, Event] = {
            4: SessionUp(launch_id=launch_id, ready_s=1.0),
            5: TrialStarted(launch_id=launch_id, trial_id=trial_id),
            8: ended,
            9: LaunchLost(launch_id=launch_id, reason="gone"),
            10: replace(ended, outcome=Outcome.REFUSED, unfit="it lies"),
            11: replace(ended, outcome=Outcome.OK, retriable=False),
        }
        self.tell(words[kind])

    def drive_to_the_end(self) -> None:
        """All goes well from here; where nothing runs, only the time that the machine asks for passes."""
        self.gone = set()
        self.tell(FleetSeen(nodes=tuple(self.fleet)))
        for _ in range(300):
            if self.run.machine.finished:
                return
            if not self.run.machine.running:
                wake_s = self.run.machine.wake_s
                assert wake_s is not None, f"nothing runs and nothing is waited for: {self.run.machine.blocked}"
                self.run.now_s = max(self.run.now_s, wake_s)
                self.tell(Tick())
                continue
            launch_id = min(self.run.machine.running)
            self.place(launch_id)
            for trial_id in list(self.run.machine.running[launch_id].todo):
                self.trial_ended(launch_id, trial_id, Outcome.OK)
            self.tell(LaunchEnded(launch_id=launch_id, outcome=Outcome.OK, reason=None))
        raise AssertionError("the run does not end")


def play(scripted: Scripted) -> World:
    rules, launches, fleet, steps, seconds, first = scripted
    world = World(run=Run(rules), launches=launches, fleet=fleet)
    world.run.machine.begin(launches, seconds=seconds, now_s=0.0, first=first)
    for step in steps:
        world.step(*step)
    return world


@given(scripts())
def test_every_trial_ends_in_one_outcome_and_its_tries_are_counted(scripted: Scripted) -> None:
    world = play(scripted)
    world.drive_to_the_end()
    machine, trials = world.run.machine, {trial.trial_id for one in world.launches for trial in one.trials}
    assert machine.finished
    assert not world.attempts, "what was started was stopped"
    assert set(machine.outcomes) == trials
    assert {trial: len(tries) for trial, tries in world.rows.items() if tries} == dict(machine.tries)
    assert machine.blocked == {}
    assert not machine.demand()


@given(scripts())
def test_the_same_events_give_the_same_actions(scripted: Scripted) -> None:
    assert play(scripted).run.actions == play(scripted).run.actions


@given(scripts())
def test_an_interruption_ends_everything_at_any_moment(scripted: Scripted) -> None:
    world = play(scripted)
    flying = {one.in_flight for one in world.run.machine.running.values() if one.in_flight in one.todo}
    before = len(world.run.actions)
    world.tell(Interrupted())
    assert {one.trial.trial_id for one in world.run.actions[before:] if isinstance(one, Record)} == flying
    assert world.run.machine.finished
    assert not world.attempts
    world.tell(FleetSeen(nodes=tuple(world.fleet)))
    world.run.now_s += 10_000
    world.tell(Tick())
    assert world.run.machine.finished
