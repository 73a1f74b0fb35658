"""Stopping a run, and waiting for the machine: only one run at a time measures on it."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Stop:
    """Set from a signal handler. While the controller watches, it stops cleanly; before, there is nothing to keep."""

    wanted: bool = False
    _watched: bool = False

    def request(self) -> None:
        """Raises KeyboardInterrupt where nobody watches: while Ray starts or ends, or a lock is waited for."""
        self.wanted = True
        if not self._watched:
            raise KeyboardInterrupt

    def is_wanted(self) -> bool:
        return self.wanted

    @contextmanager
    def watched(self) -> Iterator[None]:
        self._watched = True
        try:
            yield
        finally:
            self._watched = False


@contextmanager
def sole_on_machine(say: Callable[[str], None]) -> Iterator[None]:
    """Wait until no other run measures on this machine, and say so: two would measure each other.

    Where the lock of another user cannot be opened, there is no waiting for them.
    """
    path = Path(tempfile.gettempdir()) / "fleetbench-machine.lock"
    try:
        handle = _open(path)
    except PermissionError:
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting: another run is measuring on this machine")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _open(path: Path) -> int:
    """Not created anew where it exists: kernels forbid that for another user's file in a shared folder."""
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
