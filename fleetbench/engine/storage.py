"""What kind of storage a path is read from, as Linux tells it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MEMORY = frozenset({"tmpfs", "ramfs", "hugetlbfs", "devtmpfs"})
NETWORK = re.compile(
    r"nfs\d*|cifs|smb\d*|smbfs|ceph|lustre|gpfs|beegfs|glusterfs|9p|afs|orangefs|pvfs2|ocfs2|gfs2|wekafs|virtiofs"
    r"|fuse|fuse\..*"
)
VIRTUAL = re.compile(r"(xv|v)d[a-z]+")
"""A virtual machine's disk: Linux inside it calls every one of them rotating."""
SLOWEST = ("disk", "virtual", "ssd", "nvme")
_ESCAPE = re.compile(r"\\(\d{3})")


class Mounted(NamedTuple):
    point: str
    device: str
    filesystem: str
    source: str


def kind(path: Path, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> str | None:
    """`nvme`, `ssd`, `disk`, `virtual`, `memory`, `network`, or the file system's name; None where nothing says.

    Of several devices under one file system the slowest kind counts. A network disk that a machine shows as its own
    NVMe cannot be told from one.

    Source: proc(5), mountinfo; Documentation/ABI/stable/sysfs-block: queue/rotational.
    """
    try:
        text = (proc / "self/mountinfo").read_text(errors="surrogateescape")
        real = path.resolve()
    except (OSError, RuntimeError):
        return None
    mounted = find(text, str(real))
    if mounted is None:
        return None
    if mounted.filesystem in MEMORY:
        return "memory"
    if NETWORK.fullmatch(mounted.filesystem):
        return "network"
    for device in (mounted.device, _number(mounted.source)):
        found = set(_kinds((sys / "dev/block" / device).resolve(), depth=0)) if device else set()
        if found:
            return next(name for name in SLOWEST if name in found)
    return mounted.filesystem


def find(mountinfo: str, path: str) -> Mounted | None:
    """The mount that a real path lies on: the deepest, and of those at one place the last."""
    best: Mounted | None = None
    for line in mountinfo.splitlines():
        words, _, rest = line.partition(" - ")
        fields, kinds = words.split(" "), rest.split(" ")
        if len(fields) < 5 or len(kinds) < 2:  # noqa: PLR2004  proc(5): five fields at least, two behind the dash
            continue
        point = _plain(fields[4])
        within = path == point or path.startswith(point.rstrip("/") + "/")
        if within and (best is None or len(point) >= len(best.point)):
            best = Mounted(point, fields[2], kinds[0], _plain(kinds[1]))
    return best


def _kinds(block: Path, depth: int) -> Iterator[str]:
    """Kinds of the devices below a block device: of a partition its disk, of a mapping all that it maps."""
    if not block.is_dir() or depth > 8:  # noqa: PLR2004  deeper than anyone stacks devices
        return
    if (block / "partition").exists():
        block = block.parent
    below = list((block / "slaves").iterdir()) if (block / "slaves").is_dir() else []
    for device in below:
        yield from _kinds(device.resolve(), depth + 1)
    if below:
        return
    if block.name.startswith("nvme"):
        yield "nvme"
    elif VIRTUAL.fullmatch(block.name):
        yield "virtual"
    elif (turns := _text(block / "queue/rotational")) is not None:
        yield "disk" if turns == "1" else "ssd"


def _number(source: str) -> str | None:
    """`major:minor` of a mount's source, which btrfs does not tell otherwise."""
    try:
        device = os.stat(source).st_rdev if source.startswith("/dev/") else 0  # noqa: PTH116  a name, not a path of ours
    except OSError:
        return None
    return f"{os.major(device)}:{os.minor(device)}" if device else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda found: chr(int(found[1], 8)), text)
