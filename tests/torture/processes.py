"""The process table, as whoever tortures sees it: all machines' processes, and what each is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from fleetbench.engine.guard import GUARD_ENV, LEASE_ENV, pids, read_stat, send

LOADER = b"fleetbench_collectors.worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """table: of its machine; title: its command line; lease: that it carries; guards: the lease of its charge."""

    pid: int
    ticks: int
    table: str
    title: str
    lease: str | None
    guards: str | None

    @property
    def is_actor(self) -> bool:
        return self.title.startswith("ray::LaunchActor")

    @property
    def is_raylet(self) -> bool:
        return self.title.split(" ")[0].endswith("/raylet")

    @property
    def is_head(self) -> bool:
        return self.title.split(" ")[0].endswith("/gcs_server")

    @property
    def is_loader(self) -> bool:
        return self.lease is not None and LOADER.decode() in self.title

    @property
    def is_engine(self) -> bool:
        return self.lease is not None and not self.is_loader

    def kill(self, number: int) -> bool:
        return send(self.pid, self.ticks, number)


def look() -> list[Process]:
    """Every living process that can be read."""
    found = []
    for pid in pids():
        stat = read_stat(pid)
        if stat is None or stat.state in "ZX":
            continue
        try:
            place = Path(f"/proc/{pid}")
            title = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            environ = (place / "environ").read_bytes().split(b"\0")
            table = os.readlink(place / "ns" / "pid")  # noqa: PTH115 - hundreds of them, many times a second
        except OSError:
            continue
        values = dict(entry.split(b"=", 1) for entry in environ if b"=" in entry)
        found.append(
            Process(
                pid=pid,
                ticks=stat.ticks,
                table=table,
                title=title,
                lease=_text(values.get(LEASE_ENV.encode())),
                guards=_text(values.get(GUARD_ENV.encode())),
            )
        )
    return found


def within(table: str, number: int) -> int | None:
    """The pid, as the harness sees it, of pid `number` of a machine."""
    for pid in pids():
        try:
            if os.readlink(f"/proc/{pid}/ns/pid") != table:  # noqa: PTH115 - as above
                continue
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        if int(numbers[-1]) == number:
            return pid
    return None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")
