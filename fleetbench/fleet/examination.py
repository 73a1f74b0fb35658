"""What this machine has and lacks for measuring, each lack with its remedy."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from fleetbench.artifact.cache import default_cache
from fleetbench.engine import facts, settings
from fleetbench.engine.registry import names
from fleetbench.errors import InputError
from fleetbench.fleet.nodes.inspection import gpus
from fleetbench_collectors.host.cores import free_cores
from fleetbench_collectors.host.facts import cpu_model
from fleetbench_collectors.load import stamps
from fleetbench_collectors.power.common import Status, sources

BUSY_RATIO = 0.75
"""Of the free cores: more load than a run leaves behind by itself (one engine thread and its client on two cores)."""
CACHE_BYTES = 1_000_000_000
"""Room for the embedded models in every format, and some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """verdict: ok, note (measuring goes on without it) or lack (nothing can be measured)."""

    subject: str
    verdict: Literal["ok", "note", "lack"]
    found: str
    remedy: str | None = None


def examine(warehouse: Path) -> list[Finding]:
    """Everything that measuring on this machine depends on."""
    return [
        _python(),
        *_engines(),
        *_devices(),
        _package("ray", "Ray"),
        _package("duckdb", "DuckDB"),
        _cores(),
        machine_load(),
        _stamps(),
        _writable("warehouse", warehouse, "--warehouse DIR or FLEETBENCH_WAREHOUSE"),
        _writable("cache", default_cache(), "FLEETBENCH_CACHE"),
        *_power(),
    ]


def _python() -> Finding:
    found = ".".join(str(part) for part in sys.version_info[:3])
    return Finding(subject="python", verdict="ok", found=f"{found} on {sys.platform}")


def _engines() -> Iterator[Finding]:
    """Every engine that the node's settings name; the others are told in one line."""
    try:
        have = settings.read_settings().engines
    except InputError as error:
        yield Finding(subject="engines", verdict="lack", found="the node's settings are wrong", remedy=str(error))
        return
    for name in have:
        why = facts.availability(name)
        if why is None:
            yield Finding(subject=name, verdict="ok", found=f"version {facts.info(name).version}")
        else:
            yield Finding(subject=name, verdict="lack", found="not usable", remedy=why)
    others = [name for name in names() if name not in have]
    if others:
        remedy = f"say where they are, under `engines:` in {settings.settings_path()}"
        yield Finding(subject="engines", verdict="note", found=f"not set up: {', '.join(others)}", remedy=remedy)


def _devices() -> Iterator[Finding]:
    """GPUs by the names that NVML or AMD SMI print, and the catalog's tag for each."""
    seen = gpus()
    if seen.problem:
        remedy = "needed only to measure GPUs"
        yield Finding(subject="GPU", verdict="note", found=f"cannot be read: {seen.problem}", remedy=remedy)
    for name, kind in sorted({(device.name, device.kind or "") for device in seen.devices}):
        if kind:
            yield Finding(subject="GPU", verdict="ok", found=f"{name}: {kind} of the catalog")
        else:
            remedy = "add a file for it to a folder of your own and name that in FLEETBENCH_CATALOG"
            yield Finding(subject="GPU", verdict="note", found=f"{name}: no kind of the catalog", remedy=remedy)


def _package(package: str, subject: str) -> Finding:
    try:
        return Finding(subject=subject, verdict="ok", found=f"version {version(package)}")
    except PackageNotFoundError:
        return Finding(subject=subject, verdict="lack", found="not installed", remedy=f"pip install {package}")


def _cores() -> Finding:
    free = free_cores()
    model = cpu_model() or "unknown processor"
    if free > 1:
        return Finding(subject="cores", verdict="ok", found=f"{free} free, {model}")
    remedy = "engine and load generator share one core and disturb each other: use a machine with two or more"
    return Finding(subject="cores", verdict="note", found=f"{free} free, {model}", remedy=remedy)


def machine_load() -> Finding:
    """Whether other work would disturb a measurement now."""
    busy = os.getloadavg()[0]
    if busy <= free_cores() * BUSY_RATIO:
        return Finding(subject="load", verdict="ok", found=f"{busy:.1f} processes ran in the last minute")
    remedy = "other work disturbs what is measured: end it, or wait"
    return Finding(subject="load", verdict="note", found=f"{busy:.1f} processes ran in the last minute", remedy=remedy)


def _stamps() -> Finding:
    """Whether the kernel stamps what a socket receives."""
    with socket.socket() as sock:
        if stamps.switch_on(sock):
            return Finding(subject="stamps", verdict="ok", found="the kernel stamps what the load generator receives")
    remedy = "the client stamps arrivals itself: keep its core free, or use 64-bit Linux"
    return Finding(subject="stamps", verdict="note", found="no kernel receive stamps", remedy=remedy)


def _writable(subject: str, folder: Path, setting: str) -> Finding:
    """Whether a file can be made there, tried; the folder itself is not made."""
    # lexists: a link that leads nowhere or to itself is there, and nothing can be made below it.
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(path))
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free
    except OSError as error:
        found = f"{folder} cannot be written: {error.strerror}"
        return Finding(subject=subject, verdict="lack", found=found, remedy=f"set {setting}")
    found = f"{folder}, {free / 1e9:.0f} GB free"
    if free < CACHE_BYTES:
        return Finding(subject=subject, verdict="note", found=found, remedy=f"free some, or set {setting}")
    return Finding(subject=subject, verdict="ok", found=found)


def _power() -> Iterator[Finding]:
    for source in sources():
        opened = source.open()
        if opened.status is Status.AVAILABLE:
            devices = ", ".join(sorted({reading.device for reading in source.read()}))
            yield Finding(subject=f"power: {source.name}", verdict="ok", found=devices)
        else:
            words = opened.status.value.replace("_", " ")
            yield Finding(subject=f"power: {source.name}", verdict="note", found=words, remedy=opened.detail)
        source.close()
