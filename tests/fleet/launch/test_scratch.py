"""A launch's temporary folder: private to it, gone with it, and removed by the next one where it was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fleetbench.fleet.launch import scratch

HOLD = """
import signal
from fleetbench.fleet.launch import scratch
with scratch.scratch() as folder:
    print(folder, flush=True)
    signal.pause()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def test_a_folder_is_gone_with_its_launch(place: Path) -> None:
    with scratch.scratch() as folder:
        assert folder.parent == place
        assert folder.stat().st_mode & 0o077 == 0
    assert list(place.iterdir()) == []


def test_what_a_killed_launch_left_is_removed_and_what_a_living_one_has_is_not(place: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        (folder / "engine.log").write_text("words")
        assert scratch.sweep() == []
        assert folder.is_dir()
        os.kill(process.pid, signal.SIGKILL)
    assert folder.is_dir()
    with scratch.scratch() as fresh:
        assert list(place.iterdir()) == [fresh]


def test_folders_of_another_process_table_are_left_alone(place: Path) -> None:
    with scratch.scratch() as folder:
        words = folder.name.removeprefix(scratch.PREFIX).split(".")
        foreign = place / f"{scratch.PREFIX}{int(words[0]) + 1}.999999999.{words[2]}"
        foreign.mkdir()
        (place / f"{scratch.PREFIX}mine").mkdir()
        assert scratch.sweep() == []
        assert foreign.is_dir()
