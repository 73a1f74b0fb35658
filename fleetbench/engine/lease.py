"""Leases: who owns a process, written in its environment, so that the left-behind can be found and killed.

A lease is `label@pid.ticks`: the owner's pid and its start in clock ticks since boot, which together
name one process for the uptime of the machine.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import NamedTuple

from fleetbench.engine import guard

LEASE_ENV = guard.LEASE_ENV


class Owner(NamedTuple):
    pid: int
    ticks: int


class Holder(NamedTuple):
    """A process that carries a lease (or, a guard, the lease of its charge)."""

    pid: int
    ticks: int
    lease: str
    is_guard: bool


def new_lease(label: str) -> str:
    """A lease owned by this process; the label must be unique among its launches."""
    if not label or not label.isprintable():
        raise ValueError(f"a lease's label must be printable text: {label!r}")
    pid = os.getpid()
    stat = guard.read_stat(pid)
    if stat is None:
        raise OSError(f"/proc/{pid}/stat cannot be read: leases need a mounted /proc")
    return f"{label}@{pid}.{stat.ticks}"


def owner(lease: str) -> Owner | None:
    """The process that a lease names; None where the text is no lease."""
    pid, _, ticks = lease.rpartition("@")[2].partition(".")
    ours = "@" in lease and all(part.isascii() and part.isdigit() for part in (pid, ticks))
    return Owner(int(pid), int(ticks)) if ours else None


def owner_alive(lease: str) -> bool:
    """Whether the owner still runs: same pid and same start, and no zombie."""
    named = owner(lease)
    return named is not None and guard.alive(*named)


def holders() -> list[Holder]:
    """Every readable process of this PID namespace that carries a lease, this one left out."""
    here = _namespace(os.getpid())
    found: list[Holder] = []
    for pid in guard.pids():
        stat = guard.read_stat(pid)
        if stat is None or pid == os.getpid() or _namespace(pid) != here:
            continue
        environment = _environment(pid)
        for name in (guard.LEASE_ENV, guard.GUARD_ENV):
            lease = environment.get(name.encode())
            if lease is not None:
                text = lease.decode(errors="replace")
                found.append(Holder(pid, stat.ticks, text, name == guard.GUARD_ENV))
    return found


def kill_lease(lease: str) -> list[int]:
    """Kills every process that carries this lease; returns their pids."""
    return _kill([holder for holder in holders() if holder.lease == lease])


def sweep() -> list[int]:
    """Kills every process whose lease's owner is dead; returns their pids.

    A guard of a dead owner is woken instead of killed: it knows children that dropped their environment.
    What carries no well-formed lease is left alone.
    """
    left = [holder for holder in holders() if owner(holder.lease) and not owner_alive(holder.lease)]
    return _kill(left)


def _kill(found: list[Holder]) -> list[int]:
    killed: list[int] = []
    for holder in found:
        if holder.is_guard:
            guard.send(holder.pid, holder.ticks, signal.SIGCONT)
        elif guard.send(holder.pid, holder.ticks, signal.SIGKILL):
            killed.append(holder.pid)
    return killed


def _namespace(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return None


def _environment(pid: int) -> dict[bytes, bytes]:
    try:
        entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return {}
    return {name: value for name, found, value in (entry.partition(b"=") for entry in entries) if found}
