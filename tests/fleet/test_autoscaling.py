"""A cluster that grows by demand: Ray's own autoscaler over nodes that are processes here and never ran `node up`."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fleetbench.fleet.nodes import cluster_token, labels
from fleetbench.fleet.nodes.joining import Joining, ray_environment
from fleetbench.fleet.nodes.processes import LocalNode, end
from fleetbench.fleet.nodes.start import ray_program
from tests.fleet.cluster import bare_facts, free_ports
from tests.fleet.test_submit import read_until
from tests.small import write_matrix

pytestmark = [pytest.mark.engine, pytest.mark.ray, pytest.mark.fleet]

HEAD = "ray.head.default"
HEAD_ID = "f" * 51 + "00000"
KIND = "sim-h100"
IDLE_S = 2
LIMIT_S = 90.0
SPEED = {"models": "[{name: tiny, measure: [speed]}]", "quality": None, "recipes": "[f16]"}
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
"""By its module, for the name `fake_multinode` needs a file that is not in the wheel."""


def autoscaling(address: str) -> dict[str, Any]:
    """A cluster's configuration: a head, and as in KubeRay a type of node that has our labels and resources."""
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "test",
        "max_workers": 2,
        "upscaling_speed": 100.0,
        "idle_timeout_minutes": IDLE_S / 60,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "head_node_id": HEAD_ID,
            "launch_multiple": True,
            "gcs_address": address,
        },
        "available_node_types": {
            HEAD: {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "h100": {
                "resources": {"CPU": 1, "GPU": 8, labels.NODE: 1},
                "labels": {labels.GPU: KIND},
                "node_config": {},
                "max_workers": 1,
            },
        },
        "head_node_type": HEAD,
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in commands},
    }


@dataclass(frozen=True)
class Growing:
    """The cluster; env: for processes that are to use it."""

    address: str
    env: dict[str, str]

    def submit(self, matrix: Path, *more: str) -> subprocess.Popen[str]:
        where = ("--address", self.address, "--token", self.env[cluster_token.PATH], "--warehouse", str(matrix.parent))
        return subprocess.Popen(
            [sys.executable, "-m", "fleetbench", "submit", str(matrix), *where, *more],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, holds: Callable[[str], bool]) -> None:
        """Ask Ray how it stands until it does."""
        end_s = time.monotonic() + LIMIT_S
        while not holds(said := self.status()):
            assert time.monotonic() < end_s, said

    def status(self) -> str:
        command = [str(ray_program()), "status", "--address", self.address]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def growing(artifact_cache: Path) -> Iterator[Growing]:
    folder = Path(tempfile.mkdtemp(prefix="fba-", dir="/tmp"))
    (port,) = free_ports(1)
    token, config = folder / "token", folder / "autoscaling.json"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    head = Joining(
        facts=bare_facts(), tag=None, gpus=0, name="head", folder=folder, address=None, port=port, alone=False
    )
    env = {**os.environ, "FLEETBENCH_CACHE": str(artifact_cache)}
    cluster_token.hand_to_ray(token, env)
    inside = {
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_FAKE_CLUSTER": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
        "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    }
    # Ray takes another address than loopback's for it, and that is where its nodes find it.
    ip = subprocess.check_output([sys.executable, "-c", "import ray; print(ray.util.get_node_ip_address())"], text=True)
    config.write_text(json.dumps(autoscaling(f"{ip.strip()}:{port}")))
    try:
        with (folder / "ray-start.log").open("w") as log:
            done = subprocess.run(
                [
                    str(ray_program()),
                    "start",
                    "--head",
                    f"--port={port}",
                    "--num-cpus=1",
                    "--num-gpus=0",
                    f"--autoscaling-config={config}",
                    f"--temp-dir={folder / 'ray'}",
                    "--include-dashboard=false",
                    "--include-log-monitor=false",
                    "--disable-usage-stats",
                ],
                env={**ray_environment(head, dict(env)), **inside},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
        assert done.returncode == 0, (folder / "ray-start.log").read_text()
        yield Growing(f"{ip.strip()}:{port}", env)
    finally:
        end(LocalNode(name="head", folder=folder, address=None, tag=None, head=True))
        shutil.rmtree(folder, ignore_errors=True)


def test_a_node_comes_for_what_waits_is_measured_on_and_goes(growing: Growing, tmp_path: Path) -> None:
    (tmp_path / "never").mkdir()
    never = write_matrix(tmp_path / "never", **SPEED, hardware="sim-b200")
    with growing.submit(never, "--wait-for-nodes", "10m") as waits:
        try:
            read_until(waits, "no node of kind sim-b200 is in the fleet")
            with growing.submit(write_matrix(tmp_path, **SPEED, hardware=KIND), "--wait-for-nodes", "2m") as process:
                _, said = process.communicate(timeout=LIMIT_S)
            assert process.returncode == 0, said
            assert f"no node of kind {KIND} is in the fleet" in said
            growing.until(lambda status: "h100" not in status.partition("Recent failures")[0])
            assert "pending tasks/actors" in growing.status()
        finally:
            waits.kill()
    growing.until(lambda status: "pending tasks/actors" not in status)
