"""One driver a run: two would measure the same trials, each disturbing the other."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetbench.errors import FleetbenchError, UnusableEnvironmentError
from fleetbench.store.commit import Warehouse

GLANCE_S = 0.3
"""Longer than anybody holds a run's lock only to look at it."""


class BeingDrivenError(FleetbenchError):
    """Another controller drives the run now."""

    def __init__(self, run_id: str) -> None:
        super().__init__(run_id)
        self.run_id = run_id

    def __str__(self) -> str:
        return (
            f"run {self.run_id} is being measured already: fleetbench watch {self.run_id}, or take a run of your own "
            "with --new"
        )


@contextmanager
def sole_driver(warehouse: Warehouse, run_id: str) -> Iterator[None]:
    """Hold the run, as far as its warehouse is seen.

    Raises:
        BeingDrivenError: another process holds it.
        UnusableEnvironmentError: its lock cannot be taken.
    """
    path = lock_path(warehouse.root, run_id)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _no_lock(path, error) from error
    try:
        try:
            _take(handle)
        except BlockingIOError as error:
            raise BeingDrivenError(run_id) from error
        except OSError as error:
            raise _no_lock(path, error) from error
        yield
    finally:
        os.close(handle)


def _take(handle: int) -> None:
    """Not at once refused: who only looks whether a run is driven holds its lock for a moment."""
    until = time.monotonic() + GLANCE_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(GLANCE_S / 10)
        else:
            return


def is_driven(warehouse: Path, run_id: str) -> bool | None:
    """Whether a process holds the run, on any machine that sees the warehouse; None where that cannot be known."""
    try:
        handle = os.open(lock_path(warehouse, run_id), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no locks on this file system, or not for who may only read
        return None
    finally:
        os.close(handle)
    return False


def lock_path(warehouse: Path, run_id: str) -> Path:
    """The file that a run's driver holds locked."""
    return warehouse / "locks" / f"driver-{run_id}.lock"


def _no_lock(path: Path, error: OSError) -> UnusableEnvironmentError:
    return UnusableEnvironmentError(
        f"the lock {path} cannot be taken ({error.strerror}): see who made it, or choose another --warehouse"
    )
