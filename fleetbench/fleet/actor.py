"""The Ray actor of one launch: it owns the engine and dies with the driver."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import Any

import ray

from fleetbench.fleet.embedded import LABEL, NODE
from fleetbench.fleet.job import LaunchJob
from fleetbench.fleet.work import run_launch
from fleetbench.matrix.types import Outcome
from fleetbench.plan.machine import Event, LaunchEnded


class LaunchActor:
    """Runs one launch and streams its events; nothing large crosses Ray."""

    def run(self, job: LaunchJob) -> Iterator[Event]:
        try:
            yield from run_launch(job)
        except Exception as error:  # noqa: BLE001 - the one boundary where anything becomes an outcome
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__} in {last.name}: {error}"
            yield LaunchEnded(launch_id=job.launch.launch_id, outcome=Outcome.CRASHED, reason=reason)


def start(job: LaunchJob) -> tuple[Any, Any]:
    """Place the launch's actor on a whole node of its kind; returns the actor and the stream of its events."""
    actor_class: Any = ray.remote(num_cpus=0, max_restarts=0)(LaunchActor)
    actor = actor_class.options(resources={NODE: 1}, label_selector={LABEL: job.launch.hardware}).remote()
    return actor, actor.run.options(num_returns="streaming").remote(job)
