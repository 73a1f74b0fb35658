from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from fleetbench.artifact import hashing


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large, and was written a while ago."""
    monkeypatch.setattr(hashing, "LARGE_BYTES", 4)
    monkeypatch.setenv("FLEETBENCH_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    os.utime(path, (1000, 1000))
    return path


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_large_file_is_read_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert hashing.remembered_sha256(large) == sha256(b"weights")
    monkeypatch.setattr(hashing, "file_sha256", lambda path: pytest.fail(f"{path} was read again"))
    assert hashing.remembered_sha256(large) == sha256(b"weights")


def test_a_changed_file_is_read_again(large: Path) -> None:
    hashing.remembered_sha256(large)
    large.write_bytes(b"WEIGHTS")
    os.utime(large, (1000, 1000))
    assert hashing.remembered_sha256(large) == sha256(b"WEIGHTS")


def test_a_file_that_was_just_written_is_not_remembered(large: Path, tmp_path: Path) -> None:
    os.utime(large)
    assert hashing.remembered_sha256(large) == sha256(b"weights")
    assert not (tmp_path / "cache").exists()


def test_a_damaged_note_is_made_anew(large: Path, tmp_path: Path) -> None:
    hashing.remembered_sha256(large)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_text("nonsense")
    assert hashing.remembered_sha256(large) == sha256(b"weights")
    assert note.read_text() == sha256(b"weights")


def test_a_cache_that_cannot_be_written_costs_time_alone(large: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    assert hashing.remembered_sha256(large) == sha256(b"weights")
