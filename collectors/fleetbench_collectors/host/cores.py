"""How many cores this process may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

ROOT = Path("/")
Reader = Callable[[Path], float | None]


def free_cores(root: Path = ROOT) -> int:
    """Whole cores by affinity and by the cgroup's quota, at least 1."""
    affinity = len(os.sched_getaffinity(0))
    quota = quota_cores(root)
    return affinity if quota is None else max(1, min(affinity, int(quota)))


def quota_cores(root: Path = ROOT) -> float | None:
    """The tightest CPU quota of this process's cgroup and those above it, in cores; None where there is none."""
    found = [
        quota
        for base, group, read in _groups(root)
        for place in _upwards(base, group)
        if (quota := read(place)) is not None
    ]
    return min(found, default=None)


def _groups(root: Path) -> list[tuple[Path, str, Reader]]:
    """(mount, path below it, reader) of each CPU hierarchy that /proc/self/cgroup names, v2 and v1."""
    base = root / "sys/fs/cgroup"
    out: list[tuple[Path, str, Reader]] = []
    for line in (_text(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0" and not controllers:
            out.append((base, path, _quota_v2))
        elif "cpu" in controllers.split(","):
            mount = next((base / name for name in (controllers, "cpu") if (base / name).is_dir()), base / "cpu")
            out.append((mount, path, _quota_v1))
    return out


def _upwards(base: Path, group: str) -> list[Path]:
    """From the group to the mount; inside a container the path may be the host's, then only the mount is there."""
    place = base / group.strip("/")
    return [p for p in (place, *place.parents) if p == base or base in p.parents]


def _quota_v2(place: Path) -> float | None:
    quota, period = [*(_text(place / "cpu.max") or "").split(), "", ""][:2]
    return _ratio(quota, period)


def _quota_v1(place: Path) -> float | None:
    return _ratio(_text(place / "cpu.cfs_quota_us") or "", _text(place / "cpu.cfs_period_us") or "")


def _ratio(quota: str, period: str) -> float | None:
    """No quota is written `max` in v2 and -1 in v1."""
    try:
        cores = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
