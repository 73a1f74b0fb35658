"""The Ray processes of a node that `fleetbench node up` started on this machine, found and ended; no others.

Each inherits a mark in its environment. Some of Ray's agents write their title over their environment: these are
children of a marked process, and have a log open in the node's own folder.
"""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import socket
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetbench.engine.guard import alive, descendants, handle_of, pids, read_stat, send
from fleetbench.fleet.nodes.head import split_address

MARK = "FLEETBENCH_JOINED"
"""`NAME@FOLDER` of the node, in the environment of all its processes."""
NODE_FILE = "node.json"
RAYLET = "raylet"
GCS = "gcs_server"
VITAL = (RAYLET, GCS)
TITLES = ("ray::", "ray-dashboard")
"""Of Ray's processes that write over their environment. A driver has a log open there too, and is spared."""
GRACE_S = 4.0
"""For a raylet to end its workers and take its leave of the head; as long for the others, then for the head itself."""

_LOOPBACK = ("127.", "::1")

Process = tuple[int, int]
"""Pid, and start in clock ticks since boot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """A node on this machine whose processes live; address: of its head, where its folder says so; head: is it one."""

    name: str
    folder: Path
    address: str | None
    tag: str | None
    head: bool = False


def mark(name: str, folder: Path) -> str:
    return f"{name}@{folder}"


def local_nodes() -> list[LocalNode]:
    """This user's nodes on this machine, by name, heads last: the others take their leave of them."""
    marks = {found for pid in pids() if (found := _mark(pid))}
    return sorted((_node(*found.partition("@")[::2]) for found in marks), key=lambda node: (node.head, node.name))


def _node(name: str, folder: str) -> LocalNode:
    try:
        said = json.loads((Path(folder) / NODE_FILE).read_bytes())
    except (OSError, ValueError):  # a private /tmp, or not up yet
        said = {}
    return LocalNode(
        name=name, folder=Path(folder), address=said.get("address"), tag=said.get("tag"), head=said.get("head", False)
    )


def home_addresses() -> list[str]:
    """The heads of the clusters that this machine's nodes are in: mostly one."""
    return sorted({node.address for node in local_nodes() if node.address})


def of_cluster(nodes: Sequence[LocalNode], address: str) -> list[LocalNode]:
    """Those of the cluster whose head is at `HOST[:PORT]`; on the machine of a head, loopback is that head too."""
    host, port = split_address(address)
    meant = {host, *_resolved(host)}
    if any(one.startswith(_LOOPBACK) for one in meant):
        meant |= {_host(node.address) for node in nodes if node.head and node.address}
    return [node for node in nodes if node.address in {f"{one}:{port}" for one in meant}]


def _host(address: str) -> str:
    return address.rpartition(":")[0]


def _resolved(host: str) -> set[str]:
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return set()


def processes(node: LocalNode) -> list[Process]:
    """All that belong to the node, but for the one that asks and those above it."""
    wanted = mark(node.name, node.folder)
    spared = _spared()
    marked = [pid for pid in pids() if _mark(pid) == wanted]
    found = {(pid, stat.ticks) for pid in marked if (stat := read_stat(pid))}
    found |= {process for pid in marked for process in descendants(pid)}
    logging = [pid for pid in pids() if name_of(pid).startswith(TITLES) and _has_open(pid, node.folder)]
    found |= {(pid, stat.ticks) for pid in logging if (stat := read_stat(pid))}
    return sorted(process for process in found if process[0] not in spared and alive(*process))


def vital(node: LocalNode) -> list[Process]:
    """Those without which the node is none."""
    return [process for process in processes(node) if name_of(process[0]) in VITAL]


def end(node: LocalNode, *, ask: bool = True) -> int:
    """End the node's processes, asked first and then killed; returns how many there were."""
    every = processes(node)
    for phase in (0, 1, 2) if ask else ():
        asked = [process for process in every if _phase(name_of(process[0])) == phase]
        for process in asked:
            send(*process, signal.SIGTERM)
        _wait(asked, GRACE_S)
    until = time.monotonic() + GRACE_S
    while left := [*(one for one in every if alive(*one)), *processes(node)]:
        for process in left:
            send(*process, signal.SIGKILL)
        _wait(left, 1.0)
        every = sorted({*every, *left})
        if time.monotonic() > until:  # stuck in the kernel
            break
    return len(every)


def forget(node: LocalNode) -> None:
    """Remove what an ended node had on the disk: its sockets and Ray's logs."""
    shutil.rmtree(node.folder, ignore_errors=True)


def _phase(name: str) -> int:
    """The raylet before the others, and before the head that it takes its leave of: they wait for one that is gone."""
    return {RAYLET: 0, GCS: 2}.get(name, 1)


def _wait(asked: Sequence[Process], timeout_s: float) -> None:
    """Until all have ended, or the time is over."""
    until = time.monotonic() + timeout_s
    for pid, ticks in asked:
        try:
            handle = handle_of(pid) if alive(pid, ticks) else None
        except ProcessLookupError:
            continue
        while handle is None and alive(pid, ticks) and time.monotonic() < until:  # a kernel without pidfd
            time.sleep(0.05)
        if handle is not None:
            select.select([handle], [], [], max(until - time.monotonic(), 0))
            os.close(handle)


def _spared() -> Collection[int]:
    found = [os.getpid()]
    while (stat := read_stat(found[-1])) and stat.ppid > 0:
        found.append(stat.ppid)
    return frozenset(found)


def _mark(pid: int) -> str | None:
    """The mark of one of this user's processes."""
    try:
        place = Path(f"/proc/{pid}")
        if place.stat().st_uid != os.geteuid():
            return None
        entries = (place / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    start = f"{MARK}=".encode()
    found = next((os.fsdecode(entry[len(start) :]) for entry in entries if entry.startswith(start)), None)
    stat = read_stat(pid)
    return found if found and "@" in found and stat and stat.state not in "ZX" else None


def _has_open(pid: int, folder: Path) -> bool:
    try:
        handles = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
    for handle in handles:
        try:
            if handle.readlink().is_relative_to(folder):
                return True
        except OSError:
            continue
    return False


def name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""
