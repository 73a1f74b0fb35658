"""The account of a process tree has all that the tree used."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.bench.tree import Sample, Usage, run

BURN = "import time\nwhile time.process_time() < 0.2: pass\n"
LEAVES_A_CHILD = f"""
import subprocess, sys
subprocess.Popen([sys.executable, "-c", {BURN!r}])
"""
ENDLESS = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time; time.sleep(1000)"])
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def ran(code: str, folder: Path, limit_s: float = 60) -> Usage:
    command = [sys.executable, "-S", "-c", code]
    return run(command, cores=os.sched_getaffinity(0), folder=folder, environment={}, limit_s=limit_s)


@linux
def test_what_a_child_used_that_nobody_waited_for_is_counted(tmp_path: Path) -> None:
    usage = ran(LEAVES_A_CHILD, tmp_path)
    assert usage.returncode == 0
    assert usage.cpu_s >= 0.2


@linux
def test_a_tree_that_does_not_end_is_killed_at_the_limit(tmp_path: Path) -> None:
    usage = ran(ENDLESS, tmp_path, limit_s=0.3)
    assert usage.returncode is None
    assert usage.peak_rss_bytes >= usage.peak_pss_bytes > 0


@linux
def test_output_and_exit_code_are_kept(tmp_path: Path) -> None:
    usage = ran("import sys; print('said'); sys.exit(3)", tmp_path)
    assert usage.returncode == 3
    assert (tmp_path / "stdout").read_text() == "said\n"


def test_cpu_time_after_a_moment_is_linear_between_the_samples() -> None:
    samples = (Sample(at_ns=100, cpu_s=1.0), Sample(at_ns=200, cpu_s=3.0))
    usage = Usage(started_ns=0, returncode=0, cpu_s=4.0, samples=samples, peak_pss_bytes=1, peak_rss_bytes=1)
    assert usage.cpu_after_s(0) == pytest.approx(4.0)
    assert usage.cpu_after_s(50) == pytest.approx(3.5)
    assert usage.cpu_after_s(150) == pytest.approx(2.0)
    assert usage.cpu_after_s(300) == pytest.approx(1.0)
