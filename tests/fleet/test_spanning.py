"""Launches over several nodes, on a real cluster of two that play GPUs, with a program in the place of the engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetbench.engine.lease import holders
from tests.fleet.cluster import FakeFleet, FakeNode, fleet
from tests.fleet.test_submit import end_of
from tests.small import write_matrix

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.fleet]

LIMIT_S = 90.0
STEP_S = 0.05
OVER_TWO = {
    "models": "[{name: tiny, measure: [speed]}]",
    "engines": "vllm",
    "hardware": "sim-h100\nparallel: {tp: 2, pp: 2}",
    "reference": "bf16",
    "recipes": "[bf16]",
    "quality": None,
}
SOMEBODY = """
import sys, time, ray
from ray._private import state
from ray.util import placement_group_table
ray.init(address=sys.argv[1], log_to_driver=False)
class Somebody:
    def ping(self): pass
def take(node):
    kind = ray.remote(num_cpus=0, resources={"fb_node": 1}, label_selector={"fleetbench.io/host": node})(Somebody)
    one = kind.remote()
    ray.get(one.ping.remote())
    return one
second = take("second")
print("second", flush=True)
while not any(group["state"] == "PENDING" for group in placement_group_table().values()):
    time.sleep(0.05)
ray.kill(take("first"))
print("first", flush=True)
sys.stdin.read()
"""
"""Holds one node, and takes and leaves the other as soon as a launch waits for both."""


@dataclass(frozen=True)
class Two:
    """The cluster, and what its engine's ranks left in the record."""

    cluster: FakeFleet
    record: Path
    cache: Path

    def submit(self, matrix: Path) -> subprocess.Popen[str]:
        self.record.write_text("")
        here = ("--address", self.cluster.address, "--token", str(self.cluster.token))
        return subprocess.Popen(
            [sys.executable, "-m", "fleetbench", "submit", str(matrix), *here, "--warehouse", str(matrix.parent)],
            env={**os.environ, "FLEETBENCH_CACHE": str(self.cache)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ranks(self, submitted: subprocess.Popen[str], started: int = 2) -> list[list[str]]:
        """Rank, pid and whether headless, of the last two once so many were started."""
        until = time.monotonic() + LIMIT_S
        while len(lines := self.record.read_text().splitlines()) < started:
            assert submitted.poll() is None, submitted.communicate()
            assert time.monotonic() < until, lines
            time.sleep(STEP_S)
        return sorted(line.split() for line in lines[-2:])


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, artifact_cache: Path) -> Iterator[Two]:
    folder = tmp_path_factory.mktemp("two")
    program, record, node = folder / "vllm", folder / "record", folder / "node.yaml"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).with_name("stand_in_vllm.py")} "$@"\n')
    program.chmod(0o755)
    env = {"STAND_IN_RECORD": str(record)}
    node.write_text(f"engines: {{vllm: {{path: {program}, env: {json.dumps(env)}}}}}\n")
    nodes = [FakeNode(tag="sim-h100", gpus=2, name=name) for name in ("first", "second")]
    with fleet(nodes, env={"FLEETBENCH_NODE": str(node), "FLEETBENCH_CACHE": str(artifact_cache)}) as up:
        yield Two(up, record, artifact_cache)


def rows(folder: Path, sql: str) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "fleetbench", "sql", sql, "--format", "json", "--warehouse", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_a_launch_waits_for_all_of_its_nodes_and_holds_none_of_them_meanwhile(two: Two, tmp_path: Path) -> None:
    somebody = subprocess.Popen(
        [sys.executable, "-c", SOMEBODY, two.cluster.address],
        env=two.cluster.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with somebody:
        assert somebody.stdout is not None
        assert "second\n" in somebody.stdout
        with two.submit(write_matrix(tmp_path, **OVER_TWO, load="{batch: 1, context: 16, output: 8}")) as process:
            assert "first\n" in somebody.stdout
            assert two.record.read_text() == ""
            somebody.communicate("")
            _, said = process.communicate(timeout=LIMIT_S)
    assert {(rank, headless) for rank, _, headless in two.ranks(process)} == {("0", "False"), ("1", "True")}
    found = rows(tmp_path, "SELECT DISTINCT node, output_tok_s > 0 AS measured FROM trials")
    assert {row["node"] for row in found} <= {"first, second", "second, first"}, said
    assert all(row["measured"] for row in found), said
    launches = rows(tmp_path, "SELECT run_id, node, outcome FROM launches")
    assert {(" and ".join(sorted(row["node"].split(", "))), row["outcome"]) for row in launches} == {
        ("first and second", "ok")
    }
    assert end_of([holder.pid for holder in holders() if holder.lease.startswith(launches[0]["run_id"])])


def test_a_rank_that_dies_ends_the_launch_with_its_reason(two: Two, tmp_path: Path) -> None:
    load = "{batch: 1, context: 16, output: 200, requests: 100, warmup: 0}"
    with two.submit(write_matrix(tmp_path, **OVER_TWO, load=load)) as process:
        for started in (2, 4):  # the launch, and the control
            (_, first, _), (_, second, _) = two.ranks(process, started)
            os.kill(int(second), signal.SIGKILL)
            assert end_of([int(first), int(second)])
        _, said = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 1, said
    (row,) = rows(tmp_path, "SELECT DISTINCT outcome, reason FROM trials WHERE reason LIKE '%rank 1%'")
    assert row["outcome"] in ("launch_failed", "crashed")
    assert "rank 1 on node" in row["reason"]
    assert "killed by SIGKILL" in row["reason"]
