"""Feeds the state machine with what Ray reports, and carries out what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import ray
from ray.exceptions import GetTimeoutError, RayError

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.launch.courier import Handed
from fleetbench.fleet.placing import Launched
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import (
    Action,
    Event,
    FleetSeen,
    Interrupted,
    LaunchEvent,
    LaunchLost,
    Record,
    Start,
    Tick,
    TrialEnded,
)
from fleetbench.plan.machine import RunMachine

POLL_S = 0.1
"""How soon an interruption is seen."""
TICK_S = 1.0
"""How often time alone is told to the machine, and the run's state to those who ask."""
ANSWER_S = 30.0
"""An event that Ray has announced, and does not give."""


class FleetView(Protocol):
    """The nodes that there are."""

    def look(self) -> FleetSeen | None:
        """All of them, where something changed since it was asked last."""
        ...

    def death(self) -> str | None:
        """A sentence where the fleet as a whole is gone."""
        ...


@dataclass(slots=True, kw_only=True)
class Controller:
    """Runs launches to their end, or until a stop is wanted, or until Ray itself is gone.

    place: asks Ray for a launch's actors; record: commits a row; deliver: commits what a node could not, and says of
    which trials that failed; watch: hears all that happens; tell: is called once a while; stop_wanted: why the run
    should stop.
    """

    machine: RunMachine
    fleet: FleetView
    place: Callable[[Start], Launched]
    record: Callable[[Record], Record]
    deliver: Callable[[Handed], dict[str, str]]
    watch: Callable[[Start | Record | Event], None]
    tell: Callable[[], None]
    stop_wanted: Callable[[], str | None]
    _launched: dict[str, Launched] = field(default_factory=dict)
    _streams: dict[Any, str] = field(default_factory=dict)
    _unkept: dict[str, str] = field(default_factory=dict)

    def run(self) -> RunMachine:
        """The machine has begun; returns when it has finished."""
        self._stop_if_wanted()
        ticked = 0.0
        while not self.machine.finished:
            if death := self.fleet.death():
                self._apply(Interrupted(outcome=Outcome.LOST, reason=death))
                raise UnusableEnvironmentError(f"{death}; what is done is kept, and the same command goes on")
            if (seen := self.fleet.look()) is not None:
                self._apply(seen)
            if time.monotonic() - ticked >= TICK_S:
                ticked = time.monotonic()
                self._apply(Tick())
                self.tell()
            self._wait()
            self._stop_if_wanted()
        self.tell()
        return self.machine

    def _stop_if_wanted(self) -> None:
        if not self.machine.interrupted and (why := self.stop_wanted()) is not None:
            self._apply(Interrupted(reason=why))

    def _wait(self) -> None:
        """The next events of launches, of each that has some."""
        if not self._streams:
            time.sleep(POLL_S)
            return
        ready, _ = ray.wait(list(self._streams), num_returns=1, timeout=POLL_S)
        for stream in ready:
            self._take(stream)

    def _take(self, stream: Any) -> None:
        launch_id = self._streams[stream]
        try:
            event: LaunchEvent | Handed = ray.get(next(stream), timeout=ANSWER_S)
        except StopIteration:
            event = LaunchLost(launch_id=launch_id, reason="the launch ended without a word")
        except GetTimeoutError:
            event = LaunchLost(launch_id=launch_id, reason="the launch's node does not answer")
        except RayError as error:
            event = LaunchLost(launch_id=launch_id, reason=f"the launch's process died ({type(error).__name__})")
        if isinstance(event, Handed):
            self._unkept |= self.deliver(event)
            return
        if isinstance(event, TrialEnded) and (why := self._unkept.pop(event.trial_id, None)) is not None:
            event = replace(event, outcome=Outcome.LOST, reason=f"measured, but not kept: {why}")
        self._apply(event)

    def _apply(self, event: Event) -> None:
        self.watch(event)
        self._carry_out(self.machine.handle(event, time.monotonic()))

    def _carry_out(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, Start):
                launched = self.place(action)
                self._launched[action.launch.launch_id] = launched
                self._streams[launched.stream] = action.launch.launch_id
                self.watch(action)
            elif isinstance(action, Record):
                self.watch(self.record(action))
            elif (launched_ := self._launched.pop(action.launch_id, None)) is not None:
                del self._streams[launched_.stream]
                launched_.end()
