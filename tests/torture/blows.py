"""What is done at a moment, for real: a signal, a cable that is pulled, a disk that is full."""

from __future__ import annotations

import errno
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.torture.aiming import Seen, wait_for
from tests.torture.machine import Machine
from tests.torture.moments import Moment
from tests.torture.processes import Process, look
from tests.torture.scene import Drivers, Scene

Target = TypeVar("Target")
FULL = "full-disk"
JITTER_S = 0.012
"""A commit's length: a blow that is aimed at one comes anywhere in it."""


@dataclass(kw_only=True)
class Blows:
    """Strikes, and undoes what lasts for a while; running: what is not undone yet, by what it is."""

    scene: Scene
    drivers: Drivers
    undone: dict[str, tuple[threading.Timer, Callable[[], None]]] = field(default_factory=dict)
    full_s: list[tuple[float, float]] = field(default_factory=list)
    """When the warehouse's disk was full, on the monotonic clock."""
    headless: bool = False
    """Whether the head was killed."""

    def strike(self, moment: Moment) -> str | None:
        """What was done, in words; None where there was nothing to do it to."""
        wanted = _PROCESSES.get(moment.kind, lambda _: True)
        seen = wait_for(moment.aim, self.scene, self.drivers, wanted)
        if seen is None or self.drivers.ended.is_set():
            return None
        if moment.aim in ("commit", "telling"):
            time.sleep(random.Random(f"{self.scene.seed} jitter {moment.number}").uniform(0, JITTER_S))  # noqa: S311
        done = self._on_process(moment, seen) if moment.kind in _PROCESSES else self._on_machine(moment, seen)
        return None if done is None else f"{done} ({seen.why})"

    def heal(self) -> None:
        """Undo all that lasts."""
        for timer, undo in list(self.undone.values()):
            timer.cancel()
            undo()

    def _on_process(self, moment: Moment, seen: Seen) -> str | None:
        if moment.kind == "controller":
            said = self.drivers.current
            if said is None or said.pid is None:
                return None
            self.drivers.shot.add(said.pid)
            os.kill(said.pid, signal.SIGKILL)
            return f"killed the controller, pid {said.pid}"
        processes = seen.processes or look()
        if moment.kind == "actor" and seen.writer is not None:
            processes = [one for one in processes if one.pid == seen.writer] or [
                one for one in look() if one.pid == seen.writer
            ]
        targets = [one for one in processes if _PROCESSES[moment.kind](one) and self._machine_of(one)]
        if moment.kind == "raylet":
            targets = [one for one in targets if self._machine_of(one) is not self.scene.head]
        target = _pick(targets, moment.pick)
        self.headless |= moment.kind == "head"
        number = signal.SIGSTOP if moment.kind == "freeze" else signal.SIGKILL
        if target is None or not target.kill(number):
            return None
        machine = self._machine_of(target)
        what = "froze an engine" if moment.kind == "freeze" else f"killed {_article(moment.kind)}"
        return f"{what}, pid {target.pid} on {machine.name if machine else '?'}: {target.title[:70]}"

    def _on_machine(self, moment: Moment, seen: Seen) -> str | None:
        if moment.kind == "disk-warehouse":
            folder = self.scene.warehouse
            began = time.monotonic()
            self._lasting(
                f"{moment.kind}", moment.lasts_s, lambda: self._fill(folder), lambda: self._free(folder, began)
            )
            return f"filled the warehouse's disk for {moment.lasts_s:.1f} s"
        machine = self._busy(moment, seen)
        if moment.kind == "network":
            self._lasting(f"network {machine.name}", moment.lasts_s, machine.cut, machine.join)
            return f"cut off {machine.name} for {moment.lasts_s:.1f} s"
        folder = Path(f"/proc/{machine.pid}/root{machine.scratch}")
        self._lasting(
            f"disk {machine.name}", moment.lasts_s, lambda: self._fill(folder), lambda: self._free(folder, None)
        )
        return f"filled the disk of {machine.name} for {moment.lasts_s:.1f} s"

    def _busy(self, moment: Moment, seen: Seen) -> Machine:
        """A node, one that measures where that was aimed at."""
        tables = {one.table for one in seen.processes if one.is_loader or (moment.aim == "start" and one.guards)}
        busy = [one for one in self.scene.machines if one.table in tables]
        chosen = _pick(busy or self.scene.machines, moment.pick)
        assert chosen is not None
        return chosen

    def _machine_of(self, process: Process) -> Machine | None:
        return next((one for one in self.scene.everyone if one.table == process.table), None)

    def _lasting(self, name: str, lasts_s: float, do: Callable[[], None], undo: Callable[[], None]) -> None:
        if name in self.undone:  # still so: it ends when the earlier one ends
            return
        do()

        def once() -> None:
            if self.undone.pop(name, None) is not None:
                undo()

        timer = threading.Timer(lasts_s, once)
        timer.daemon = True
        self.undone[name] = (timer, once)
        timer.start()

    @staticmethod
    def _fill(folder: Path) -> None:
        """To the last byte; what is freed meanwhile is taken too when somebody writes again."""
        handle = os.open(folder / FULL, os.O_WRONLY | os.O_CREAT, 0o600)
        block = b"\0" * (1 << 20)
        try:
            while block:
                try:
                    os.write(handle, block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    block = block[: len(block) // 2]
        finally:
            os.close(handle)

    def _free(self, folder: Path, began: float | None) -> None:
        (folder / FULL).unlink(missing_ok=True)
        if began is not None:
            self.full_s.append((began, time.monotonic()))


_PROCESSES: dict[str, Callable[[Process], bool]] = {
    "controller": lambda one: "fleetbench submit" in one.title,
    "actor": lambda one: one.is_actor,
    "raylet": lambda one: one.is_raylet,
    "head": lambda one: one.is_head,
    "engine": lambda one: one.is_engine,
    "guard": lambda one: one.guards is not None,
    "loader": lambda one: one.is_loader,
    "freeze": lambda one: one.is_engine,
}


def _pick(targets: Sequence[Target], pick: float) -> Target | None:
    return targets[int(pick * len(targets))] if targets else None


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
