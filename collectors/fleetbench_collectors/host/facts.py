"""What this machine is: kernel, CPU, memory, governor, GPUs and versions, each as read or None."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

from fleetbench_collectors.host.cores import ROOT, free_cores, quota_cores
from fleetbench_collectors.host.gpus import gpu_facts


def facts(versions: Mapping[str, str] | None = None, root: Path = ROOT) -> dict[str, str | None]:
    """Name to value, for rows of `tables.HOST`; None where the machine does not say.

    Args:
        versions: of the libraries in use, told by the caller; they come back as `version.NAME`.
        root: where /proc and /sys are found.
    """
    quota = quota_cores(root)
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "cpu_model": cpu_model(root),
        "cores": _number(os.cpu_count()),
        "affinity_cores": _number(len(os.sched_getaffinity(0))),
        "cgroup_quota_cores": None if quota is None else f"{quota:g}",
        "free_cores": _number(free_cores(root)),
        "memory_bytes": _number(memory_bytes(root)),
        "governor": governor(root),
        "niceness": _number(os.getpriority(os.PRIO_PROCESS, 0)),
        "python": platform.python_version(),
        **{f"version.{name}": version for name, version in sorted((versions or {}).items())},
        **gpu_facts(),
    }


def cpu_model(root: Path = ROOT) -> str | None:
    """x86 says "model name"; Arm servers often say nothing."""
    return _entry(root / "proc/cpuinfo", "model name")


def memory_bytes(root: Path = ROOT) -> int | None:
    """Installed memory; /proc/meminfo counts in KiB."""
    number = (_entry(root / "proc/meminfo", "MemTotal") or "").removesuffix("kB").strip()
    return int(number) * 1024 if number.isdigit() else None


def governor(root: Path = ROOT) -> str | None:
    """The frequency governors in use, joined by commas; virtual machines mostly have none."""
    found = set()
    for path in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"):
        try:
            found.add(path.read_text().strip())
        except OSError:
            continue
    return ",".join(sorted(found)) or None


def _entry(path: Path, name: str) -> str | None:
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return None
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), None)


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)
