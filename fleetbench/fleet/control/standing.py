"""How a run stands: the machine's state in the words of its status."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

from fleetbench.fleet.control.status import LaunchStatus, RunStatus, State
from fleetbench.fleet.submission import Submission
from fleetbench.matrix.types import LoadPoint
from fleetbench.plan.events import Event, FleetSeen, Placed, Record, Start
from fleetbench.plan.lane import Running
from fleetbench.plan.machine import RunMachine
from fleetbench.plan.types import EngineLaunch, Trial


def trial_label(trial: Trial) -> str:
    """What is measured, in a few words."""
    work = trial.cell.work
    if not isinstance(work, LoadPoint):
        return f"quality {work.suite}"
    load = f"batch {work.batch}" if work.batch is not None else f"rate {work.rate:g}"
    return f"{load}, context {work.context_tok}"


@dataclass(slots=True)
class Standing:
    """Hears what happens, and says how the run stands."""

    submission: Submission
    machine: RunMachine
    address: str | None
    names: dict[str, str] = field(default_factory=dict)
    """Of nodes, by node_id."""
    launches: dict[str, EngineLaunch] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    began_s: float = field(default_factory=time.time)
    _placed: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.launches = {launch.launch_id: launch for launch in self.submission.todo.launches}
        self.trials = {trial.trial_id: trial for trial in self.submission.todo.trials}

    def hear(self, happened: Start | Record | Event) -> None:
        if isinstance(happened, FleetSeen):
            self.names |= {seen.node.node_id: seen.node.name for seen in happened.nodes}
        elif isinstance(happened, Start):
            self._placed.pop(happened.launch.launch_id, None)
        elif isinstance(happened, Placed):
            self._placed[happened.launch_id] = happened.node_ids

    def where(self, node_ids: tuple[str, ...]) -> str:
        return ", ".join(self.names.get(node_id, node_id[:8]) for node_id in node_ids)

    def node_of(self, launch_id: str) -> str | None:
        """The node that a launch's last attempt was on, the first of several; None where it never got one."""
        placed = self._placed.get(launch_id)
        return self.where(placed[:1]) if placed else None

    def now(self, state: State | None = None) -> RunStatus:
        """The status at this moment; a run that only waits for nodes is waiting."""
        plan, machine, now_s = self.submission.plan, self.machine, time.monotonic()
        placed = any(run.placed for run in machine.running.values())
        idle: State = "waiting" if machine.blocked and not placed else "running"
        priced = any(machine.rules.price_usd_h.values())
        return RunStatus(
            run_id=plan.run_id,
            run=plan.run,
            matrix=plan.matrix.name,
            state=idle if state in (None, "running") else state,
            host=socket.gethostname(),
            pid=os.getpid(),
            address=self.address,
            submitted_s=self.began_s,
            updated_s=time.time(),
            trials=len(plan.trials),
            outcomes=Counter(outcome.value for outcome in {**self.submission.outcomes, **machine.outcomes}.values()),
            waiting=machine.waiting,
            running=tuple(self._launch(run, now_s) for run in machine.running.values()),
            blocked=machine.blocked,
            unfit=machine.unfit,
            cost_usd=machine.cost_usd(now_s) if priced else None,
            left_s=machine.remaining_s(now_s),
            warehouse=str(self.submission.warehouse.root.resolve()),
        )

    def _launch(self, run: Running, now_s: float) -> LaunchStatus:
        trial = self.trials.get(run.in_flight or "")
        planned = len(run.waiting.trials)
        return LaunchStatus(
            launch_id=run.launch.launch_id,
            label=run.launch.label,
            hardware=run.launch.hardware,
            attempt=run.attempt,
            node=self.where(run.node_ids) if run.placed else None,
            trial=trial_label(trial) if trial else None,
            done=min(run.ended, planned),
            trials=planned,
            since_s=time.time() - (now_s - run.started_s),
        )
