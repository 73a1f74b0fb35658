"""A short torture of a real fleet in network namespaces, one blow of each kind: `make torture` has the long one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.torture.machine import lacks
from tests.torture.moments import KINDS, moment

ROOT = Path(__file__).parents[2]
LONGEST_S = 540


def test_a_seed_alone_decides_the_moments_and_every_kind_has_its_turn() -> None:
    turn = [moment(7, number) for number in range(len(KINDS))]
    assert turn == [moment(7, number) for number in range(len(KINDS))]
    assert sorted(one.kind for one in turn) == sorted(KINDS)
    assert turn != [moment(8, number) for number in range(len(KINDS))]


@pytest.mark.ray
@pytest.mark.engine
@pytest.mark.tool
def test_a_fleet_that_is_hurt_in_every_way_loses_nothing_and_leaves_nothing_behind(tmp_path: Path) -> None:
    if why := lacks():
        pytest.skip(f"several machines cannot be played here: {why}")
    words = ["--seed", "1", "--moments", str(len(KINDS)), "--fleet", "short", "--hurry", "0.3"]
    log = tmp_path / "torture.log"
    with log.open("wb") as file:
        done = subprocess.run(
            [sys.executable, "-m", "tests.torture", *words],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            timeout=LONGEST_S,
            check=False,
        )
    assert done.returncode == 0, log.read_text()
