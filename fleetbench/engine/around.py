"""What an engine on this machine stands in: its GPUs, who may use them, and what names its process ids."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from fleetbench.engine.runtime import Mount, Surroundings, Vendor

NVIDIA_DEVICES = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
AMD_DEVICE = Path("/dev/kfd")
RENDER_NODES = Path("/dev/dri")
MAX_FILES = 10_000
MAX_STEPS = 40


def surroundings() -> Surroundings:
    return Surroundings(
        environ=dict(os.environ), python=Path(sys.executable), vendor=_vendor(), groups=tuple(_groups()), home=home()
    )


def home() -> str:
    """Names this boot's table of processes: a lease's pid means something only inside it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}.{Path('/proc/self/ns/pid').readlink().name.strip('pid:[]')}"
    except OSError:
        return "unknown"


def seen(path: Path) -> list[Mount]:
    """What a container must see so that this file or folder is whole: a hub's cache has links that lead out of it."""
    real = path.resolve()
    found = {real}
    if real.is_dir():
        for number, entry in enumerate(real.rglob("*")):
            if number >= MAX_FILES:
                break
            if entry.is_symlink() and entry.exists():
                found |= {step.parent for step in _steps(entry) if not step.is_relative_to(real)}
    outer = [place for place in found if not any(place != other and place.is_relative_to(other) for other in found)]
    return [Mount(source=place) for place in sorted(outer)]


def _steps(link: Path) -> Iterator[Path]:
    """Where a link leads, step by step, as its text says: that is what is followed inside a container."""
    for _ in range(MAX_STEPS):
        if not link.is_symlink():
            return
        link = Path(os.path.normpath(link.parent / link.readlink()))
        yield link


def _vendor() -> Vendor:
    if any(device.exists() for device in NVIDIA_DEVICES):
        return "nvidia"
    return "amd" if AMD_DEVICE.exists() else "none"


def _groups() -> Iterator[str]:
    """Ids of the groups that own the AMD device files: an image need not know their names."""
    files = [AMD_DEVICE, *(RENDER_NODES.glob("render*") if RENDER_NODES.is_dir() else ())]
    yield from sorted({str(file.stat().st_gid) for file in files if file.exists()})
