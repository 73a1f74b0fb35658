"""`fleetbench submit --address` as a user runs it, on a real cluster of nodes that play GPUs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetbench.engine.lease import holders
from fleetbench.fleet.nodes import labels
from tests.fleet.cluster import FakeFleet, FakeNode, fleet
from tests.fleet.test_submit import end_of, read_until
from tests.small import write_matrix

pytestmark = [pytest.mark.engine, pytest.mark.ray]

NODES = (
    FakeNode(tag="sim-h100", name="first"),
    FakeNode(tag="sim-h100", name="second", use="shared"),
    FakeNode(tag="sim-mi300x", gpus=4, name="third"),
    FakeNode(tag="h100", name="liar"),
    FakeNode(tag="sim-b200", name="old", labels={labels.VERSION: "0.0.1"}),
)
SPEED = {"models": "[{name: tiny, measure: [speed]}]", "quality": None}


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeFleet]:
    with fleet(NODES, quick_health=True) as up:
        yield up


@dataclass(frozen=True)
class Shell:
    """Runs `fleetbench` against the cluster, with a warehouse of its own."""

    cluster: FakeFleet
    folder: Path
    cache: Path

    def start(self, verb: str, *arguments: str) -> subprocess.Popen[str]:
        here = () if verb == "sql" else ("--address", self.cluster.address, "--token", str(self.cluster.token))
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "fleetbench",
                verb,
                *arguments,
                *here,
                "--warehouse",
                str(self.folder / "warehouse"),
            ],
            env={**os.environ, "FLEETBENCH_CACHE": str(self.cache), "COLUMNS": "80"},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, verb: str, *arguments: str) -> tuple[int, str, str]:
        with self.start(verb, *arguments) as process:
            out, err = process.communicate(timeout=180)
        assert "Traceback" not in err
        return process.returncode, out, err

    def rows(self, sql: str) -> list[dict[str, Any]]:
        code, out, err = self.run("sql", sql, "--format", "json")
        assert code == 0, err
        rows: list[dict[str, Any]] = json.loads(out)
        return rows


@pytest.fixture
def shell(cluster: FakeFleet, tmp_path: Path, artifact_cache: Path) -> Shell:
    return Shell(cluster, tmp_path, artifact_cache)


def test_each_launch_runs_where_its_hardware_is_and_nowhere_that_it_is_not(shell: Shell) -> None:
    matrix = write_matrix(shell.folder, **SPEED, hardware="[sim-h100, sim-mi300x, sim-b200, h100]")
    code, _, err = shell.run("submit", str(matrix))
    assert code == 0, err
    trials = shell.rows("SELECT DISTINCT hardware, node, outcome FROM trials ORDER BY ALL")
    assert {row["outcome"] for row in trials} == {"ok"}
    assert {row["node"] for row in trials if row["hardware"] == "sim-h100"} <= {"first", "second"}
    assert {row["node"] for row in trials if row["hardware"] == "sim-mi300x"} == {"third"}
    niceness = shell.rows("SELECT DISTINCT value FROM host WHERE name = 'niceness'")
    assert niceness == [{"value": str(os.getpriority(os.PRIO_PROCESS, 0))}]  # Ray's own is 15
    refused = shell.rows("SELECT DISTINCT hardware, verdict FROM refusals ORDER BY ALL")
    assert refused == [{"hardware": name, "verdict": "not_here"} for name in ("h100", "sim-b200")]
    assert err.startswith(f"joining {shell.cluster.address} ...\nlooking at 5 nodes ...\n")
    assert "node liar: the node is tagged h100, but has no GPU" in err
    assert "no node of kind h100 may be measured on: liar is mismatched (the node is tagged h100" in err
    assert "no node of kind sim-b200 may be measured on: old is other-version (it has fleetbench 0.0.1" in err
    assert "node old: it has fleetbench 0.0.1" in err
    before = shell.rows("SELECT trial_id, attempt FROM attempts ORDER BY ALL")
    code, _, err = shell.run("submit", str(matrix))
    assert code == 0, err
    assert shell.rows("SELECT trial_id, attempt FROM attempts ORDER BY ALL") == before


def test_where_no_node_is_fit_for_any_cell_it_says_why_and_what_to_do_and_prints_no_table(shell: Shell) -> None:
    matrix = write_matrix(shell.folder, **SPEED, hardware="[h100, sim-b200]")
    code, out, err = shell.run("submit", str(matrix))
    assert (code, out) == (1, "")
    assert "nothing can run, all 8 cells are refused:" in err
    assert err.count("may be measured on") == 2
    assert "Nothing was run. What to do:" in err
    assert f"`fleetbench nodes --address {shell.cluster.address}`" in " ".join(err.split())
    code, out, err = shell.run("submit", str(matrix), "--format", "json")
    assert code == 1, err
    panels = {panel["name"]: panel["rows"] for panel in json.loads(out)}
    assert {row["outcome"] for row in panels["speed"]} == {"refused"}
    assert [row["cells"] for row in panels["unmeasured"]] == [4, 4]


@pytest.mark.fleet
def test_where_no_node_comes_what_was_cancelled_is_one_line_and_one_reason(shell: Shell) -> None:
    matrix = write_matrix(shell.folder, **SPEED, hardware="sim-a100-80g")
    code, out, err = shell.run("submit", str(matrix), "--wait-for-nodes", "5")
    assert code == 1, err
    assert err.count("  cancelled ") == 1
    assert "cancelled 5 trials of tiny f16, tiny q2_k: no node of kind sim-a100-80g is in the fleet" in err
    assert out.splitlines()[:2] == [
        "Nothing was measured of 4 cells:",
        "- 4 cancelled on sim-a100-80g: no node of kind sim-a100-80g is in the fleet, and",
    ]
    assert "0 of 4 cells ok, 4 cancelled" in " ".join(out.split())
    assert "5 of 5 trials did not end well: 5 cancelled." in err
    assert "--retry-failed" not in err


@pytest.mark.fleet
def test_a_killed_driver_leaves_nothing_on_the_nodes_and_the_same_command_goes_on(shell: Shell) -> None:
    matrix = write_matrix(shell.folder, **SPEED, hardware="sim-h100", recipes="[f16, q8_0, q4_k, q2_k]", repeats="3")
    process = shell.start("submit", str(matrix))
    read_until(process, "1/5")
    run_id = shell.rows("SELECT run_id FROM runs")[0]["run_id"]
    running = [holder.pid for holder in holders() if holder.lease.startswith(run_id)]
    process.kill()
    process.communicate()
    assert end_of(running)
    kept = shell.rows("SELECT trial_id, attempt FROM trials WHERE outcome = 'ok' ORDER BY ALL")
    assert kept
    code, _, err = shell.run("submit", str(matrix))
    assert code == 0, err
    after = shell.rows("SELECT trial_id, attempt FROM trials WHERE outcome = 'ok' ORDER BY ALL")
    assert len(after) == 25
    assert [row for row in after if row in kept] == kept


@pytest.mark.fleet
def test_two_runs_share_the_cluster_and_one_is_cancelled_alone(shell: Shell) -> None:
    matrix = str(write_matrix(shell.folder, **SPEED, hardware="sim-mi300x", recipes="[f16, q8_0, q2_k]", repeats="4"))
    one, other = shell.start("submit", matrix, "--run", "one"), shell.start("submit", matrix, "--run", "other")
    try:
        read_until(one, "engine launches")
        read_until(other, "engine launches")
        code, out, err = shell.run("status", "--format", "json")
        assert code == 0, err
        assert {row["run"] for row in json.loads(out)} >= {"one", "other"}
        follower = shell.start("submit", matrix, "--run", "one")
        read_until(follower, "following it")
        code, _, err = shell.run("cancel", "other")
        assert code == 0, err
        _, said = other.communicate(timeout=60)
        assert other.returncode == 3, said
        assert "Go on with" in said
        _, said = one.communicate(timeout=120)
        assert one.returncode == 0, said
        _, said = follower.communicate(timeout=60)
        assert follower.returncode == 0, said
    finally:
        for process in (one, other):
            process.kill()
    ends = shell.rows(
        "SELECT run, count(*) FILTER (outcome = 'ok') AS ok FROM trials JOIN runs USING (run_id) GROUP BY run"
    )
    assert {row["run"]: row["ok"] == 19 for row in ends} == {"one": True, "other": False}
