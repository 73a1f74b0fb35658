"""Who listens on a port of this machine, out of /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fleetbench.engine import guard

LISTEN = "0A"


def is_foreign(port: int, root: int) -> bool:
    """Whether somebody listens there who is no descendant of `root`; False where /proc does not tell."""
    sockets = {f"socket:[{inode}]" for inode in _listeners(port)}
    if not sockets:
        return False
    ours = [pid for pid, _ in guard.descendants(root)]
    return not any(sockets & _open(pid) for pid in ours) and all(_readable(pid) for pid in ours)


def _listeners(port: int) -> Iterator[str]:
    """Inodes of listening sockets. Source: proc(5), net/tcp: local address, state and inode are fields 2, 4 and 10."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _open(pid: int) -> set[str]:
    found = set()
    for handle in _handles(pid):
        try:
            found.add(str(handle.readlink()))
        except OSError:
            continue
    return found


def _handles(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []


def _readable(pid: int) -> bool:
    return os.access(f"/proc/{pid}/fd", os.R_OK) or not Path(f"/proc/{pid}").exists()
