from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact import maker, source
from fleetbench.artifact.types import ArtifactError
from fleetbench.errors import InputError

MAKES_FOREVER = """
import sys
from fleetbench.artifact import maker
base, target, fifo = sys.argv[1:]
maker.make("weights", base=base, target=target, weights="q3_k", protect=[], matrix=fifo, sha256="0")
"""


def tiny(target: Path, **change: Any) -> maker.Made:
    order = {"model": "tiny", "model_path": None, "digest": source.inspect("tiny", None).digest, "target": target}
    return maker.make("base", **(order | change))


def test_a_step_is_made_and_says_what_it_took(tmp_path: Path) -> None:
    made = tiny(tmp_path / "m.gguf")
    assert made.peak_rss_bytes is not None
    assert made.peak_rss_bytes > (tmp_path / "m.gguf").stat().st_size
    assert made.tokens is None


def test_the_memory_of_the_one_who_asks_is_not_counted(tmp_path: Path) -> None:
    held = bytearray(os.urandom(1024)) * (1 << 19)
    made = tiny(tmp_path / "m.gguf")
    assert made.peak_rss_bytes is not None
    assert made.peak_rss_bytes < len(held)


def test_failures_keep_their_kind(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="tiny is not the one that was planned"):
        tiny(tmp_path / "m.gguf", digest="0" * 64)
    with pytest.raises(InputError) as caught:
        tiny(tmp_path / "m.gguf", model="m", model_path=tmp_path)
    assert len(caught.value.mistakes) == 3
    with pytest.raises(OSError, match="No such file") as missing:
        tiny(tmp_path / "nowhere" / "m.gguf")
    assert missing.value.errno == errno.ENOENT


def test_a_step_that_breaks_is_a_sentence_with_its_last_line() -> None:
    with pytest.raises(ArtifactError, match=r"what makes the soup ended with exit code 1: KeyError: 'soup'"):
        maker.make("soup")


def test_a_step_that_is_killed_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(
        ArtifactError, match=r"the base was killed by signal 9 \(is there enough memory\?\): it said noth"
    ):
        tiny(tmp_path / "m.gguf")


def test_a_step_ends_with_the_one_who_asked_for_it(tiny_gguf: Path, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    owner = subprocess.Popen([sys.executable, "-c", MAKES_FOREVER, str(tiny_gguf), str(tmp_path / "q.gguf"), str(fifo)])
    handle = os.open(fifo, os.O_WRONLY)  # returns when the step reads it, for which it waits
    poll = select.poll()
    poll.register(handle, select.POLLERR)
    assert poll.poll(0) == []
    owner.kill()
    owner.wait()
    assert poll.poll(20_000) == [(handle, select.POLLERR)]
    os.close(handle)
