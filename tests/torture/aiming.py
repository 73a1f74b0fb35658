"""Waits for something to be happening: a trial, an engine's start, a file that is being written."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import select
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetbench.engine.guard import read_stat
from tests.torture.processes import Process, look
from tests.torture.scene import Drivers, Scene

AIM_S = 12.0
IN_CREATE = 0x100
_TMP = re.compile(r".*\.(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-\d+-\d+\.tmp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What was seen: processes at that moment, and who wrote, by its pid; why: in words."""

    why: str
    processes: list[Process]
    writer: int | None = None


def wait_for(
    aim: str, scene: Scene, drivers: Drivers, wanted: Callable[[Process], bool], patience_s: float = AIM_S
) -> Seen | None:
    """Until it happens, and a process that is wanted is there; None where not in that time, or the run ended."""
    if aim in ("commit", "telling"):
        return _writing(scene, drivers, by_controller=aim == "telling")
    until = time.monotonic() + patience_s
    while time.monotonic() < until and not drivers.ended.is_set():
        processes = look()
        if not any(map(wanted, processes)):
            time.sleep(0.02)
            continue
        if aim == "now":
            return Seen(why="now", processes=processes)
        if aim == "start" and any(one.guards is not None and _young(one) for one in processes):
            return Seen(why="an engine was starting", processes=processes)
        if aim == "trial" and any(one.is_loader for one in processes):
            running = drivers.status().get("running")
            if isinstance(running, list) and any(one.get("trial") for one in running):
                return Seen(why="a trial was in flight", processes=processes)
        time.sleep(0.02)
    return None


def _young(process: Process) -> bool:
    stat = read_stat(process.pid)
    if stat is None:
        return False
    hertz = os.sysconf("SC_CLK_TCK")
    return time.clock_gettime(time.CLOCK_BOOTTIME) - stat.ticks / hertz < 1.0


def _writing(scene: Scene, drivers: Drivers, *, by_controller: bool) -> Seen | None:
    """Until somebody has begun a file of the warehouse."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        folders = [*(scene.warehouse / "landing").glob("*/*")]
        if by_controller:
            folders += [*(scene.warehouse / "control").glob("*")]
        for folder in folders:
            libc.inotify_add_watch(handle, os.fsencode(folder), IN_CREATE)
        writers = _writers(scene)
        refreshed = time.monotonic()
        until = time.monotonic() + AIM_S
        while time.monotonic() < until and not drivers.ended.is_set():
            ready, _, _ = select.select([handle], [], [], 0.3)
            names = _names(os.read(handle, 65536)) if ready else []
            for name in names:
                pid = _writer(name, writers)
                if by_controller and (pid is None or drivers.current is None or pid != drivers.current.pid):
                    continue
                if name.endswith(".tmp"):
                    return Seen(why=f"{name} was being written", processes=look() if pid is None else [], writer=pid)
            if time.monotonic() - refreshed > 1.0:
                writers, refreshed = _writers(scene), time.monotonic()
    finally:
        os.close(handle)
    return None


def _writer(name: str, writers: Mapping[tuple[str, int], int]) -> int | None:
    """Who writes a temporary file, as the harness sees it."""
    if name.startswith("status.json."):
        return writers.get(("", int(name.split(".")[2])))
    match = _TMP.fullmatch(name)
    return writers.get((match["host"], int(match["pid"]))) if match else None


def _writers(scene: Scene) -> dict[tuple[str, int], int]:
    """Pids as the harness sees them, by a machine's mark in temporary files (none: the head's) and the pid there."""
    found: dict[tuple[str, int], int] = {}
    for machine in scene.everyone:
        mark = hashlib.sha256(machine.name.encode()).hexdigest()[:8]
        table = machine.table
        for process in look():
            if process.table != table or not (process.is_actor or "fleetbench submit" in process.title):
                continue
            try:
                status = Path(f"/proc/{process.pid}/status").read_text()
            except OSError:
                continue
            own = int(next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[-1])
            found[mark, own] = process.pid
            if machine is scene.head:
                found["", own] = process.pid
    return found


def _names(data: bytes) -> list[str]:
    names = []
    while len(data) >= 16:
        *_, length = struct.unpack_from("iIII", data)
        names.append(data[16 : 16 + length].rstrip(b"\0").decode(errors="replace"))
        data = data[16 + length :]
    return names
