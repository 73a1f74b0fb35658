"""Real processes: what they say over a FIFO, and when they are dead."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LIMIT_MS = 30_000


class Fifo:
    """What processes under test say, line by line, by opening `path` for writing."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDWR)
        self._text = b""

    def line(self) -> str:
        poller = select.poll()
        poller.register(self._end, select.POLLIN)
        while b"\n" not in self._text:
            assert poller.poll(LIMIT_MS), f"nothing more was said than {self._text!r}"
            self._text += os.read(self._end, 4096)
        line, _, self._text = self._text.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.close(self._end)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Fifo]:
    said = Fifo(tmp_path / "said")
    yield said
    said.close()


@pytest.fixture
def dies() -> Callable[[int], bool]:
    """Whether a process of this pid ends (or is gone already); waits for it."""

    def wait(pid: int) -> bool:
        try:
            handle = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        ended = bool(poller.poll(LIMIT_MS))
        os.close(handle)
        return ended

    return wait
