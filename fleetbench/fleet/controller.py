"""Feeds the state machine with what Ray reports, and carries out what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet import actor
from fleetbench.fleet.job import LaunchJob
from fleetbench.matrix.types import Outcome
from fleetbench.plan.machine import Action, Event, Interrupted, LaunchLost, Record, RunMachine, Start, TrialStarted
from fleetbench.plan.types import EngineLaunch

POLL_S = 0.1
"""How soon an interruption is seen."""


@dataclass(slots=True)
class Controller:
    """Runs launches to their end, or until `stop_wanted`, or until Ray itself is gone.

    patience_s: how long a trial may last without a word of its launch, which limits its trials by itself.
    """

    machine: RunMachine
    make_job: Callable[[Start], LaunchJob]
    record: Callable[[Record], Record]
    watch: Callable[[Start | Record | Event], None]
    stop_wanted: Callable[[], bool]
    ray_death: Callable[[], str | None]
    patience_s: float
    _silent_at: dict[str, float] = field(default_factory=dict)
    _open: dict[Any, tuple[str, Any]] = field(default_factory=dict)

    def run(self, launches: Sequence[EngineLaunch]) -> RunMachine:
        if self.stop_wanted():
            self.machine.handle(Interrupted())
        self._apply(self.machine.begin(launches))
        while not self.machine.finished:
            if self.stop_wanted() and not self.machine.interrupted:
                self._apply(self.machine.handle(Interrupted()))
                continue
            if death := self.ray_death():
                self._apply(self.machine.handle(Interrupted(outcome=Outcome.LOST, reason=death)))
                raise UnusableEnvironmentError(f"{death}; what is done is kept, and the same command goes on")
            ready, _ = ray.wait(list(self._open), num_returns=1, timeout=POLL_S)
            for stream in ready:
                self._take(stream)
            self._give_up_on_silent()
        return self.machine

    def _give_up_on_silent(self) -> None:
        for launch_id, since in list(self._silent_at.items()):
            if time.monotonic() - since > self.patience_s:
                reason = f"no word of the launch for {self.patience_s:g} s"
                self._handle(LaunchLost(launch_id=launch_id, reason=reason))

    def _take(self, stream: Any) -> None:
        launch_id, _ = self._open[stream]
        try:
            event: Event = ray.get(next(stream), timeout=30)
        except StopIteration:
            event = LaunchLost(launch_id=launch_id, reason="the launch ended without a word")
        except GetTimeoutError:
            event = LaunchLost(launch_id=launch_id, reason="the launch's node does not answer")
        except RayError as error:
            event = LaunchLost(launch_id=launch_id, reason=f"the launch's process died ({type(error).__name__})")
        self._handle(event)

    def _handle(self, event: Event) -> None:
        if not isinstance(event, Interrupted):
            self._silent_at.pop(event.launch_id, None)
        if isinstance(event, TrialStarted):
            self._silent_at[event.launch_id] = time.monotonic()
        self.watch(event)
        self._apply(self.machine.handle(event))

    def _apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                handle, stream = actor.start(self.make_job(action))
                self._open[stream] = (action.launch.launch_id, handle)
                self.watch(action)
            elif isinstance(action, Record):
                self.watch(self.record(action))
            else:
                self._end(action.launch_id)

    def _end(self, launch_id: str) -> None:
        for stream, (owner, handle) in list(self._open.items()):
            if owner == launch_id:
                ray.kill(handle)
                del self._open[stream]
