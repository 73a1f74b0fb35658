"""A run that one `submit` drives, followed by a second one and stopped by a third process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.small import write_matrix


@pytest.mark.engine
@pytest.mark.ray
@pytest.mark.fleet
def test_a_second_submit_joins_the_run_and_both_end_as_it_is_cancelled(tmp_path: Path, artifact_cache: Path) -> None:
    write_matrix(tmp_path, models="[{name: tiny, measure: [speed]}]", recipes="[f16]", quality=None, repeats="500")
    environment = {**os.environ, "FLEETBENCH_CACHE": str(artifact_cache), "COLUMNS": "80"}

    def start(*words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fleetbench", *words, "--warehouse", "there"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with start("submit", "small.yaml") as first:
        assert first.stderr is not None
        while "engine launches" not in first.stderr.readline():  # it is planned, and holds the run
            pass
        with start("submit", "small.yaml") as second:
            assert second.stderr is not None
            assert "is being measured already" in second.stderr.readline()
            with start("cancel", "small") as third:
                assert "has stopped" in third.communicate(timeout=120)[1]
                assert third.returncode == 0
            joined = second.communicate(timeout=120)[1]
        said = first.communicate(timeout=120)[1]
    assert (first.returncode, second.returncode) == (3, 3)
    assert "Go on with" in said
    assert "interrupted" in joined
