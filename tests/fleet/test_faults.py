"""What a fleet may suffer, provoked for real: clocks apart, a kind that is nowhere or goes away while it is wanted."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.cluster import FakeFleet, FakeNode, fleet
from tests.fleet.test_cluster import SPEED, Shell
from tests.fleet.test_submit import read_until
from tests.small import write_matrix

pytestmark = [pytest.mark.engine, pytest.mark.ray]

SKEW_S = 7


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeFleet]:
    with fleet(
        [FakeNode(tag="sim-h100", name="right"), FakeNode(tag="sim-b200", name="leaves")], quick_health=True
    ) as up:
        yield up


@pytest.fixture
def shell(cluster: FakeFleet, tmp_path: Path, artifact_cache: Path) -> Shell:
    return Shell(cluster, tmp_path, artifact_cache)


@pytest.mark.tool
@pytest.mark.fleet
def test_a_clock_that_is_apart_is_told_of_before_anything_is_measured_there(shell: Shell, tmp_path: Path) -> None:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    library = tmp_path / "skewed_clock.so"
    source = Path(__file__).with_name("skewed_clock.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O2", "-o", str(library), str(source)], check=True)
    shell.cluster.env |= {"LD_PRELOAD": str(library), "SKEW_S": str(SKEW_S)}
    try:
        shell.cluster.add(FakeNode(tag="sim-mi300x", name="early"))
    finally:
        del shell.cluster.env["LD_PRELOAD"], shell.cluster.env["SKEW_S"]
    matrix = write_matrix(tmp_path, **SPEED, hardware="sim-mi300x", recipes="[f16]")
    _, _, err = shell.run("submit", str(matrix), "--run", "skewed")
    assert "node early: its clock is 7" in err
    assert "ahead of ours (set both by NTP)" in err
    # The kernel's own stamps of packets are not skewed along with it, as after a step of the clock.
    trials = shell.rows("SELECT outcome, reason, window_s, energy_j, power_status FROM trials")
    assert len(trials) == 3
    assert {(row["outcome"], row["window_s"], row["energy_j"]) for row in trials} == {("invalid", None, None)}
    assert all("stamps that run backwards" in row["reason"] for row in trials)


def test_a_kind_that_is_nowhere_is_refused_with_what_there_is(shell: Shell) -> None:
    matrix = write_matrix(shell.folder, **SPEED, hardware="sim-h200", recipes="[f16]")
    code, _, err = shell.run("submit", str(matrix), "--run", "nowhere")
    assert code == 1
    assert "no node of kind sim-h200 is joined; the cluster has" in err


@pytest.mark.fleet
def test_a_head_that_is_new_and_has_no_nodes_yet_changes_nothing_of_a_run(
    shell: Shell, tmp_path: Path, artifact_cache: Path
) -> None:
    matrix = write_matrix(
        tmp_path, **SPEED, hardware="sim-h100", recipes="[f16]", load="{batch: 1, context: 16, output: 8}"
    )
    code, _, err = shell.run("submit", str(matrix), "--run", "restarted")
    assert code == 0, err
    kept = shell.rows("SELECT trial_id, attempt FROM attempts ORDER BY ALL")
    wider = ["submit", str(matrix), "--run", "restarted"]
    with fleet(quick_health=True) as anew:
        again = Shell(anew, tmp_path, artifact_cache)
        code, _, err = again.run(*wider)
        assert code == 0, "nothing is left to do"
        next((tmp_path / "warehouse" / "landing" / "trials").rglob("*.parquet")).unlink()
        code, _, err = again.run(*wider)
        assert code == 4
        assert f"no node of kind sim-h100 has joined yet; {len(kept) - 1} trial" in err
        assert "of this run" in err
        assert again.rows("SELECT count(*) AS refused FROM refusals") == [{"refused": 0}]
        with again.start(*wider, "--wait-for-nodes", "2m") as waits:
            read_until(waits, "engine launch")
            anew.add(FakeNode(tag="sim-h100", name="back"))
            _, err = waits.communicate(timeout=180)
        assert waits.returncode == 0, err
        assert again.rows("SELECT trial_id, attempt FROM attempts ORDER BY ALL") == kept


@pytest.mark.fleet
def test_a_kind_that_goes_away_is_waited_for_and_said_to_be(shell: Shell) -> None:
    matrix = write_matrix(shell.folder, **SPEED, hardware="sim-b200", recipes="[f16, q8_0]", repeats="6")
    process = shell.start("submit", str(matrix), "--run", "away")
    read_until(process, "engine launches")
    shell.cluster.kill("leaves")
    read_until(process, "blocked sim-b200")
    shell.cluster.add(FakeNode(tag="sim-b200", name="comes"))
    _, err = process.communicate(timeout=240)
    assert process.returncode in (0, 1), err
    assert "Traceback" not in err
    nodes = {row["node"] for row in shell.rows("SELECT DISTINCT node FROM trials WHERE outcome IN ('ok', 'invalid')")}
    assert nodes <= {"leaves", "comes"}
    assert "comes" in nodes
