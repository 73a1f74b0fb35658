"""Looks at a node: its GPUs, engines and settings; and whether it may be measured as it is tagged."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleetbench import __version__
from fleetbench.artifact.cache import default_cache
from fleetbench.catalog import lookup
from fleetbench.engine import facts, settings
from fleetbench.engine.settings import NodeSettings
from fleetbench.errors import FleetbenchError, UnusableEnvironmentError
from fleetbench.fleet.nodes.facts import Device, NodeFacts
from fleetbench_collectors.host import devices as host

IDLE_BYTES = 1 << 30
"""More than an idle GPU has in use: without the driver's reserve, which NVML counts apart, NVIDIA's has some MiB (112
MiB of a V100 whose driver counts it in), AMD's 284 MiB (MI300X, as rocm-smi printed it in ROCm issue 4750); and less
than any engine with weights takes. The context of a process that does nothing is below it, and is let pass."""
GIB = float(1 << 30)


class Looked(Protocol):
    """What was seen of a node's GPUs: `NodeFacts`, or `Gpus` where nothing else was looked at."""

    @property
    def devices(self) -> tuple[Device, ...]: ...

    @property
    def problem(self) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpus:
    """The GPUs of this machine; problem: why there may be some that could not be read."""

    devices: tuple[Device, ...]
    driver: str | None
    problem: str | None


def gpus() -> Gpus:
    """The GPUs that this machine has, by the catalog's kinds; their memory as it is now."""
    found = host.find()
    devices: list[Device] = []
    problem = found.problem
    for device in found.devices:
        try:
            kind = lookup.gpu_of_device(device.name)
        except FleetbenchError as error:  # a catalog of the user's own that is broken
            kind, problem = None, str(error)
        devices.append(
            Device(
                index=device.index,
                name=device.name,
                kind=kind.name if kind else None,
                uuid=device.uuid,
                memory_bytes=device.memory_bytes,
                used_bytes=device.used_bytes,
            )
        )
    return Gpus(devices=tuple(devices), driver=found.driver, problem=problem)


def inspect(environ: Mapping[str, str] = os.environ) -> NodeFacts:
    """The node as it is now; what could not be read is in `problem`, and nothing foreseeable is raised."""
    seen = gpus()
    problems = [seen.problem] if seen.problem else []
    node = NodeSettings(engines={})
    try:
        node = settings.read_settings(environ=environ)
    except FleetbenchError as error:
        problems.append(str(error))
    engines: dict[str, str] = {}
    unusable: dict[str, str] = {}
    for name, engine in node.engines.items():
        version, why = facts.look(name, engine)
        if why is None:
            engines[name] = version or facts.UNSAID
        else:
            unusable[name] = why
    cache = ""
    try:
        cache = str(node.cache or default_cache(environ))
    except UnusableEnvironmentError as error:
        problems.append(str(error))
    return NodeFacts(
        host=socket.gethostname(),
        version=__version__,
        python=platform.python_version(),
        devices=seen.devices,
        driver=seen.driver,
        engines=engines,
        unusable=unusable,
        use=node.use,
        pool=node.pool,
        cache=cache,
        cache_free_bytes=free_bytes(Path(cache)) if cache else None,
        wall_s=time.time(),
        problem="; ".join(line for text in problems for line in text.splitlines()) or None,
    )


def free_bytes(folder: Path) -> int | None:
    """Room on the disk that the folder is on, or will be; None where it cannot be asked."""
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            return shutil.disk_usage(place).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None


def device_problem(tag: str, node: Looked) -> str | None:
    """Why a node with this tag may not be measured: its devices are others; None where it may."""
    if tag.startswith(lookup.SIMULATED):
        return None
    kind = lookup.gpu_info(tag)
    if kind is None:
        return f"the node is tagged {tag}, which the catalog does not know (there are {', '.join(lookup.gpu_names())})"
    if kind.vendor == "cpu":
        return None
    others = {
        device.name: device.kind or "no kind of the catalog" for device in node.devices if device.kind != kind.name
    }
    if others:
        has = ", ".join(f"{name} ({known})" for name, known in others.items())
        return f"the node is tagged {tag}, but has {has}: tag it by what it has (`fleetbench node up` does)"
    if not node.devices:
        return f"the node is tagged {tag}, but has no GPU: {node.problem or 'neither NVML nor AMD SMI finds one'}"
    return None


def idle_problem(devices: Sequence[Device], gpus: Collection[int | str] | None = None) -> str | None:
    """Which of these GPUs somebody else has memory on, so that a measurement would not be alone; None where none.

    Args:
        devices: of the node.
        gpus: by index or UUID, those that are to be measured; None for all.
    """
    wanted = {str(gpu) for gpu in gpus} if gpus is not None else None
    busy = [
        f"GPU {device.index} has {device.used_bytes / GIB:.1f} GiB in use"
        for device in devices
        if wanted is None or wanted & {str(device.index), str(device.uuid)}
        if device.used_bytes is not None and device.used_bytes > IDLE_BYTES
    ]
    if not busy:
        return None
    return f"{', '.join(busy)} before the engine starts: end what runs there (an idle one has less than 1 GiB)"
