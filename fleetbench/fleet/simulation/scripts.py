"""What one try of a launch does in a simulated fleet, from its placing to its end."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from fleetbench.fleet.simulation.faults import Faults
from fleetbench.fleet.simulation.times import Times
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import LaunchEnded, LaunchEvent, LaunchLost, SessionUp, Start, TrialEnded, TrialStarted
from fleetbench.plan.types import Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDies:
    """The launch's first node goes, with all that runs on it."""

    launch_id: str


Line = tuple[float, LaunchEvent | NodeDies]
"""Seconds since the placing, and what happens then."""


def script(
    start: Start, times: Times, faults: Faults, *, rng: random.Random, trial_limit_s: float, bad: bool
) -> list[Line]:
    """All that happens, if nobody stops it: true times, and what the faults make of them."""
    launch_id = start.launch.launch_id
    fail, oom, lost, node = (rng.random() for _ in range(4))
    moment = rng.random()
    lines: list[Line]
    if bad or fail < faults.fail:
        why = "no engine comes up on this node" if bad else "the engine did not come up"
        lines = [(times.start_s, _ended(launch_id, Outcome.LAUNCH_FAILED, why))]
    elif oom < faults.oom:
        lines = [(times.start_s, _ended(launch_id, Outcome.OOM, "out of memory at its start"))]
    else:
        lines = list(_run(start, times, faults, rng, trial_limit_s))
    death: LaunchEvent | NodeDies | None = None
    if node < faults.node:
        death = NodeDies(launch_id=launch_id)
    elif lost < faults.lost:
        death = LaunchLost(launch_id=launch_id, reason="its actor died")
    if death is None:
        return lines
    at_s = moment * lines[-1][0]
    return [*(line for line in lines if line[0] < at_s), (at_s, death)]


def _run(start: Start, times: Times, faults: Faults, rng: random.Random, trial_limit_s: float) -> Iterator[Line]:
    launch_id, now_s = start.launch.launch_id, times.start_s
    yield now_s, SessionUp(launch_id=launch_id, ready_s=times.start_s)
    for trial in start.trials:
        yield now_s, TrialStarted(launch_id=launch_id, trial_id=trial.trial_id)
        chance, share, lasts_s = rng.random(), rng.random(), times.trials_s[trial.trial_id]
        if chance < faults.crash:
            now_s += lasts_s * share
            yield now_s, _trial_ended(launch_id, trial, Outcome.CRASHED, "the engine died")
            yield now_s, _ended(launch_id, Outcome.CRASHED, "the engine died")
            return
        if chance < faults.crash + faults.timeout:
            now_s += max(lasts_s, trial_limit_s)
            yield now_s, _trial_ended(launch_id, trial, Outcome.TIMEOUT, "it ran into its limit")
            yield now_s, _ended(launch_id, Outcome.TIMEOUT, "a trial ran into its limit")
            return
        now_s += lasts_s
        yield now_s, _trial_ended(launch_id, trial, Outcome.OK, None)
    yield now_s, _ended(launch_id, Outcome.OK, None)


def _trial_ended(launch_id: str, trial: Trial, outcome: Outcome, reason: str | None) -> TrialEnded:
    return TrialEnded(launch_id=launch_id, trial_id=trial.trial_id, outcome=outcome, reason=reason, output_tok_s=None)


def _ended(launch_id: str, outcome: Outcome, reason: str | None) -> LaunchEnded:
    return LaunchEnded(launch_id=launch_id, outcome=outcome, reason=reason)
