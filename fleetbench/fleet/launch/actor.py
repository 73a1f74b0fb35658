"""The Ray actors of one launch: they hold its GPUs, own the engine, and die with the driver or without it."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import ray
from ray.exceptions import RayError

from fleetbench.artifact.types import ArtifactError
from fleetbench.catalog import lookup
from fleetbench.engine import start
from fleetbench.engine.follower import RankEnd
from fleetbench.engine.protocol import Span
from fleetbench.engine.runtime import AMD_CHOICE, CUDA_CHOICE
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.control.company import end_when_alone
from fleetbench.fleet.launch import mounting
from fleetbench.fleet.launch.job import LaunchJob
from fleetbench.fleet.launch.ranks import Held, Ranks, run_rank
from fleetbench.fleet.launch.staging import LOCAL, Staged, need_of, stage
from fleetbench.fleet.launch.under_way import Fitness
from fleetbench.fleet.launch.work import run_launch
from fleetbench.fleet.nodes.inspection import device_problem, gpus, idle_problem
from fleetbench.fleet.nodes.labels import GPU, HOST
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import LaunchEnded, LaunchEvent, LaunchLost, Placed

if TYPE_CHECKING:
    from fleetbench.fleet.launch.courier import Handed

IDLE_S = 20.0
"""How long memory that an ended engine held may take to be free."""
LOOK_S = 0.5
THREADS = "OMP_NUM_THREADS"


class LaunchActor:
    """Runs one launch and streams its events; nothing large crosses Ray where the warehouse is mounted.

    Of a launch that spans nodes the first actor runs it; the others are its members.
    """

    _staged: Staged

    def run(self, job: LaunchJob, members: Sequence[Any], desk: str | None) -> Iterator[LaunchEvent | Handed]:
        """members: actors that hold the other nodes of a launch that spans several; desk: name of the controller's."""
        try:
            if desk is not None:
                end_when_alone(desk)
            others: list[Held] = ray.get([member.hold.remote(job.launch.hardware, desk) for member in members])
            here = ray.get_runtime_context().get_node_id()
            yield Placed(launch_id=job.launch.launch_id, node_ids=(here, *(other.node_id for other in others)))
            if job.proof is not None and mounting.why_not_seen(job) is not None:
                job = replace(job, warehouse=None)
            unfit = next((why for other in others if (why := other.why_unfit()) is not None), None)
            ranks = Ranks.over(job, members, others) if members else None
            _restore_threads()
            yield from run_launch(
                job, lambda: unfit or _fitness_of(here, job.launch.hardware), _labels().get(HOST), ranks
            )
        except RayError as error:
            reason = f"another node of the launch was lost ({type(error).__name__})"
            yield LaunchLost(launch_id=job.launch.launch_id, reason=reason)
        except Exception as error:  # noqa: BLE001 - the one boundary where anything becomes an outcome
            last = traceback.extract_tb(error.__traceback__)[-1]
            reason = f"{type(error).__name__} in {last.name}: {error}"
            yield LaunchEnded(launch_id=job.launch.launch_id, outcome=Outcome.CRASHED, reason=reason)

    def hold(self, hardware: str, desk: str | None) -> Held:
        """Of a member: where it is, and why its node may not be measured on."""
        if desk is not None:
            end_when_alone(desk)
        start.sweep()
        node_id = ray.get_runtime_context().get_node_id()
        return Held(
            node_id=node_id,
            node=_labels().get(HOST) or node_id[:8],
            address=ray.util.get_node_ip_address(),
            unfit=fitness(hardware),
        )

    def stage(self, job: LaunchJob) -> str | None:
        """Of a member: get the launch's weights to its node; a sentence where that cannot be."""
        try:
            self._staged = stage(job, need_of(job))
        except (ArtifactError, InputError, UnusableEnvironmentError) as error:
            return str(error)
        return None

    def follow(self, job: LaunchJob, span: Span) -> RankEnd:
        """Of a member: run its rank of the engine until that ends; its own end is the rank's."""
        _restore_threads()
        return run_rank(job, self._staged, span)


def fitness(hardware: str) -> Fitness | None:
    """Why this node may not be measured on, or not now; None where it may. The engine will see the launch's GPUs."""
    if hardware == LOCAL:
        return None
    tag = _labels().get(GPU, "")
    if tag != hardware:
        return Fitness(reason=f"the node is tagged {tag or 'nothing'}, not {hardware}", lasting=True)
    if hardware.startswith(lookup.SIMULATED):
        return None
    seen = gpus()
    if why := device_problem(tag, seen):
        return Fitness(reason=why, lasting=True)
    given = ray.get_runtime_context().get_accelerator_ids().get("GPU", [])
    _show_devices(hardware, given)
    until = time.monotonic() + IDLE_S
    while (busy := idle_problem(gpus().devices, given)) and time.monotonic() < until:
        time.sleep(LOOK_S)
    return Fitness(reason=busy, lasting=False) if busy else None


def _fitness_of(node_id: str, hardware: str) -> Fitness | None:
    found = fitness(hardware)
    return found and replace(found, node_id=node_id)


def _labels() -> Mapping[str, str]:
    found: Any = ray.get_runtime_context().get_node_labels()  # whose annotation is wrong
    return cast("Mapping[str, str]", found)


def _restore_threads() -> None:
    """Ray holds a process that asks for no CPU to one thread, and engines would inherit that: as the node has it."""
    os.environ.pop(THREADS, None)
    with suppress(OSError):
        given = Path(f"/proc/{os.getppid()}/environ").read_bytes().split(b"\0")
        if entry := next((one for one in given if one.startswith(f"{THREADS}=".encode())), None):
            os.environ[THREADS] = entry.partition(b"=")[2].decode()


def _show_devices(hardware: str, given: Sequence[str]) -> None:
    """The engine inherits which GPUs are its own."""
    info = lookup.gpu_info(hardware)
    for name in (CUDA_CHOICE, *AMD_CHOICE):
        os.environ.pop(name, None)
    if info is not None and given:
        os.environ[CUDA_CHOICE if info.vendor == "nvidia" else "HIP_VISIBLE_DEVICES"] = ",".join(given)
