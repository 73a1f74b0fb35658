"""Files that are whole or not there: written under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from fleetbench.errors import FleetbenchError
from fleetbench.store import layout

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that has no hard links."""
_serial = itertools.count()


class StoreError(FleetbenchError):
    """Rows could not be kept; what was there before is untouched."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path, self.why = path, why

    def __str__(self) -> str:
        return f"cannot write {self.path}: {self.why}"


@contextlib.contextmanager
def staged(folder: Path, name: str, data: pa.Buffer | bytes) -> Iterator[Path]:
    """The bytes on disk under a temporary name; gone afterwards unless it was published.

    Raises:
        StoreError: no room, no rights.
    """
    tmp = tmp_path(folder, name)
    try:
        write(tmp, data)
        yield tmp
    finally:
        discard(tmp)


def tmp_path(folder: Path, name: str) -> Path:
    """A temporary name in a folder that is made; it says which process writes it.

    Raises:
        StoreError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(str(folder), sentence(error)) from error
    return folder / layout.tmp_name(layout.checked(name), next(_serial))


def write(path: Path, data: pa.Buffer | bytes) -> None:
    """A new file with these bytes, on disk when this returns."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            left = memoryview(data)
            while left:
                left = left[os.write(handle, left) :]
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StoreError(str(path), sentence(error)) from error


def sync(path: Path) -> None:
    """What was written to a file is on disk when this returns."""
    try:
        _fsync(path, os.O_RDONLY)
    except OSError as error:
        raise StoreError(str(path), sentence(error)) from error


def publish(tmp: Path, target: Path) -> None:
    """Durable before the next one starts, so that no trial's row survives a power cut without its tables."""
    try:
        tmp.replace(target)
        _fsync(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StoreError(str(target), sentence(error)) from error


def publish_new(tmp: Path, target: Path) -> bool:
    """The same, where nothing has that name yet; False where something has."""
    try:
        try:
            os.link(tmp, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if target.exists():
                return False
            tmp.replace(target)
        _fsync(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    except FileExistsError:
        return False
    except OSError as error:
        raise StoreError(str(target), sentence(error)) from error
    return True


def discard(path: Path) -> None:
    """Remove a file; one that cannot be removed stays, and is swept later."""
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(root: Path, name: str, *, wait: bool = True) -> Iterator[bool]:
    """Held by one process at a time, and let go at its death; False where another has it and `wait` is not set."""
    path = root / "locks" / f"{name}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StoreError(str(path), sentence(error)) from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def sentence(error: OSError) -> str:
    if error.errno in layout.NO_ROOM:
        return f"no room left ({error.strerror}): free some, or choose another with --warehouse"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return f"it is not writable ({error.strerror}): choose another with --warehouse"
    return f"{error.strerror or error}: choose another with --warehouse"


def _fsync(path: Path, flags: int) -> None:
    handle = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
