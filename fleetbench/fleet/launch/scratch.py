"""A launch's folder for what it needs no longer than itself; what killed launches left is removed by the next one."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fleetbench.engine.guard import alive, read_stat

PREFIX = "fleetbench-launch-"
_NAME = re.compile(rf"{PREFIX}(?P<table>\d+)\.(?P<pid>\d+)\.(?P<ticks>\d+)-.*")


@contextmanager
def scratch() -> Iterator[Path]:
    """A fresh folder in the node's folder for temporary files, named after this process."""
    sweep()
    stat = read_stat(os.getpid())
    name = f"{PREFIX}{_table()}.{os.getpid()}.{stat.ticks if stat else 0}-"
    with tempfile.TemporaryDirectory(prefix=name, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def sweep() -> list[Path]:
    """Remove the folders of processes that are dead; those of another process table (a container's) are left alone."""
    swept = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        named = _NAME.fullmatch(folder.name)
        if named and named["table"] == _table() and not alive(int(named["pid"]), int(named["ticks"])):
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder)
    return swept


def _table() -> str:
    """Of processes: a number that containers of one machine do not share."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "0"
