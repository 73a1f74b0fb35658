"""Files that rows and reports are written to: whole, or as they were."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from fleetbench.errors import InputError


def check(path: Path, option: str) -> None:
    """Refuse a file that cannot be, before any work is done for it.

    Raises:
        InputError: it is a folder or a device, or its folder is not there or not writable.
    """
    try:
        is_folder, is_other = path.is_dir(), path.exists() and not path.is_file()
    except OSError as error:
        raise InputError((f"{option} {str(path)[:60]}...: {error.strerror or error}: name another",)) from error
    if is_folder:
        raise InputError((f"{option} {path}: is a folder: name a file in it",))
    if is_other:
        raise InputError((f"{option} {path}: is no file that could be replaced: name another",))
    if not path.parent.is_dir():
        raise InputError((f"{option} {path}: there is no folder {path.parent}: make it first",))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise InputError((f"{option} {path}: the folder {path.parent} is not writable: name a file elsewhere",))


def folder(path: Path, option: str) -> None:
    """Make the folder if it is not there.

    Raises:
        InputError: it cannot be made, or is no folder.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError((f"{option} {path}: cannot be made: {error.strerror or error}",)) from error


def replace(path: Path, content: bytes, option: str) -> None:
    """Write a file in the place of one that may be there: who reads it has the old one or the new one.

    Of a link it is what the link leads to.

    Raises:
        InputError: no room, no rights; what was there is as it was.
    """
    target = path.resolve()
    beside = target.with_name(f".{os.getpid()}-{hashlib.sha256(target.name.encode()).hexdigest()[:8]}.tmp")
    try:
        try:
            beside.write_bytes(content)
            beside.replace(target)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
    except OSError as error:
        raise InputError((f"{option} {path}: cannot be written: {error.strerror or error}",)) from error
