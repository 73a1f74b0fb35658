"""A run's state machine with a clock that a test moves, and launches and nodes to feed it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fleetbench.matrix.types import EngineInfo, Outcome, Parallel
from fleetbench.plan.events import (
    Action,
    Event,
    FleetSeen,
    LaunchEnded,
    LaunchLost,
    Placed,
    Record,
    Seen,
    SessionUp,
    Start,
    Tick,
    TrialEnded,
    TrialStarted,
)
from fleetbench.plan.machine import RunMachine
from fleetbench.plan.nodes import Node, Use
from fleetbench.plan.rules import Rules
from fleetbench.plan.types import EngineLaunch, Role
from tests.plan import examples

KIND = "h100"


def node(
    name: str,
    *,
    gpus: int = 1,
    hardware: str = KIND,
    use: Use = "shared",
    engines: Mapping[str, str] | None = None,
    unfit: str | None = None,
) -> Seen:
    there = Node(node_id=f"id-{name}", name=name, hardware=hardware, gpus=gpus, use=use, engines=engines)
    return Seen(node=there, unfit=unfit)


def launch(
    name: str,
    trials: int = 1,
    *,
    gpus: int = 1,
    hardware: str = KIND,
    engine: EngineInfo = examples.ENGINE,
    artifact: str | None = None,
    role: Role = "measure",
) -> EngineLaunch:
    return replace(
        examples.launch(name, trials),
        hardware=hardware,
        engine=engine,
        parallel=Parallel(tp=gpus),
        artifact_id=artifact or f"weights-{name}",
        role=role,
    )


def starts(actions: Iterable[Action]) -> list[Start]:
    return [action for action in actions if isinstance(action, Start)]


def rows(actions: Iterable[Action]) -> list[Record]:
    return [action for action in actions if isinstance(action, Record)]


def names(actions: Iterable[Action]) -> list[str]:
    """Of the launches that were started, in order."""
    return [start.launch.launch_id.removeprefix("launch-") for start in starts(actions)]


def told(actions: Iterable[Action]) -> list[tuple[str, int, Outcome]]:
    """Rows: of which trial, which try of it, how it ended."""
    return [(row.trial.trial_id.removeprefix("trial-"), row.tries, row.outcome) for row in rows(actions)]


@dataclass(slots=True)
class Run:
    """A machine, its clock, and all that it did."""

    rules: Rules = field(default_factory=Rules)
    now_s: float = 0.0
    actions: list[Action] = field(default_factory=list)
    machine: RunMachine = field(init=False)

    def __post_init__(self) -> None:
        self.machine = RunMachine(rules=self.rules)

    def begin(
        self,
        launches: Sequence[EngineLaunch],
        *fleet: Seen,
        seconds: Mapping[str, float] | None = None,
        first: Iterable[str] = (),
    ) -> list[Action]:
        """seconds, first: by the names of the launches."""
        by_id = {f"launch-{name}": value for name, value in (seconds or {}).items()}
        hurried = [f"launch-{name}" for name in first]
        self.machine.begin(launches, seconds=by_id, now_s=self.now_s, first=hurried)
        return self.see(*fleet) if fleet else []

    def tell(self, event: Event) -> list[Action]:
        actions = self.machine.handle(event, self.now_s)
        self.actions += actions
        return actions

    def see(self, *fleet: Seen) -> list[Action]:
        return self.tell(FleetSeen(nodes=fleet))

    def tick(self, after_s: float) -> list[Action]:
        self.now_s += after_s
        return self.tell(Tick())

    def sleep(self) -> list[Action]:
        """Until the machine says that something is to be done."""
        wake_s = self.machine.wake_s
        assert wake_s is not None, "the machine waits for nothing"
        self.now_s = max(self.now_s, wake_s)
        return self.tell(Tick())

    def place(self, name: str, *on: str) -> list[Action]:
        """On the nodes that the machine chose, if no others are named."""
        node_ids = tuple(f"id-{one}" for one in on) or self.machine.running[f"launch-{name}"].node_ids
        return self.tell(Placed(launch_id=f"launch-{name}", node_ids=node_ids))

    def up(self, name: str) -> list[Action]:
        self.place(name)
        return self.tell(SessionUp(launch_id=f"launch-{name}", ready_s=1.0))

    def fly(self, name: str, index: int) -> list[Action]:
        """The launch is within this trial."""
        return self.tell(TrialStarted(launch_id=f"launch-{name}", trial_id=f"trial-{name}-{index}"))

    def measure(self, name: str, index: int, outcome: Outcome = Outcome.OK) -> list[Action]:
        return self.fly(name, index) + self.tell(
            TrialEnded(
                launch_id=f"launch-{name}",
                trial_id=f"trial-{name}-{index}",
                outcome=outcome,
                reason=None if outcome is Outcome.OK else outcome.value,
                output_tok_s=None,
            )
        )

    def end(
        self,
        name: str,
        outcome: Outcome = Outcome.OK,
        *,
        retriable: bool = False,
        unfit: str | None = None,
        reason: str | None = None,
    ) -> list[Action]:
        why = reason or (None if outcome is Outcome.OK else outcome.value)
        return self.tell(
            LaunchEnded(launch_id=f"launch-{name}", outcome=outcome, reason=why, retriable=retriable, unfit=unfit)
        )

    def lose(self, name: str, reason: str = "its process died") -> list[Action]:
        return self.tell(LaunchLost(launch_id=f"launch-{name}", reason=reason))

    def finish(self, name: str) -> list[Action]:
        """All that is left of a launch goes well."""
        self.up(name)
        for trial in list(self.machine.running[f"launch-{name}"].todo):
            self.measure(name, int(trial.rsplit("-", 1)[1]))
        return self.end(name)

    def where(self, name: str) -> tuple[str, ...]:
        """The nodes of a running launch."""
        return tuple(one.removeprefix("id-") for one in self.machine.running[f"launch-{name}"].node_ids)

    def ended(self, name: str, index: int = 0) -> Outcome | None:
        return self.machine.outcomes.get(f"trial-{name}-{index}")
