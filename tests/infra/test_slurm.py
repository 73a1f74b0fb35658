"""The Slurm scripts: run by bash with a stand-in for Slurm, and Ray's own parsers for what they give to Ray."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetbench.fleet.nodes.labels import GPU, NODE
from tests.infra.files import INFRA, ROOT

FOLDER = INFRA / "slurm"
SCRIPTS = sorted(path for path in FOLDER.iterdir() if path.suffix in (".sh", ".sbatch"))
BATCH = FOLDER / "fleetbench.sbatch"

SRUN = """#!/bin/bash
while [[ $1 == --* ]]; do shift; done
SLURM_NODEID=0 exec "$@"
"""
"""On an allocation of one node, after its own options, srun runs the command."""

RAY = f"""#!{sys.executable}
import json, os, subprocess, sys
from ray.scripts.scripts import start
from ray.scripts.symmetric_run import curate_and_validate_ray_start_args, symmetric_run
given = sys.argv[2:]
own, entrypoint = given[: given.index("--")], given[given.index("--") + 1 :]
asked = symmetric_run.make_context("symmetric-run", list(own)).params
tags = start.make_context("start", list(curate_and_validate_ray_start_args(own))).params
with open(os.environ["SEEN"], "w") as file:
    keys = ("labels", "resources", "num_gpus", "dashboard_host")
    json.dump({{**{{key: tags[key] for key in keys}}, **asked, "token": os.environ["RAY_AUTH_TOKEN_PATH"]}}, file)
sys.exit(0 if os.environ.get("RAY_FAILS") else subprocess.run(entrypoint).returncode)
"""
"""What `ray symmetric-run` does on a head, but for starting Ray: its `ray stop` would end every Ray of this machine."""

FLEETBENCH = f"""#!{sys.executable}
import os, signal, subprocess, sys, time
if sys.argv[1] != "submit":
    sys.exit(subprocess.run([sys.executable, "-m", "fleetbench", *sys.argv[1:]]).returncode)
signal.signal(signal.SIGTERM, lambda *_: os._exit(3))
with open(os.environ["SUBMITTED"], "w") as file:
    print(*sys.argv[2:], file=file)
if "--hang" in sys.argv:
    signal.pause()
sys.exit(int(os.environ.get("CODE", "0")))
"""
"""The real command, but for `submit`, which needs the cluster."""

Sbatch = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def sbatch(tmp_path: Path) -> Sbatch:
    """Starts the batch script as Slurm does: a copy of it, in an allocation of one node."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("srun", SRUN), ("ray", RAY), ("fleetbench", FLEETBENCH)):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    copy = shutil.copy(BATCH, tmp_path / "slurm_script")

    def start(*options: str, **variables: str) -> subprocess.Popen[str]:
        environ = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "HOME": str(tmp_path),
            "SLURM_SUBMIT_DIR": str(ROOT),
            "SLURM_JOB_ID": f"test-{os.getpid()}-{tmp_path.name}",
            "SLURM_JOB_NAME": "weekly",
            "SLURM_JOB_NUM_NODES": "1",
            "FLEETBENCH_NODE_OPTIONS": "--simulate h100:8 --pool cluster",
            "FLEETBENCH_WAREHOUSE": str(tmp_path / "warehouse"),
            "SEEN": str(tmp_path / "seen.json"),
            "SUBMITTED": str(tmp_path / "submitted"),
            **variables,
        }
        environ.pop("RAY_AUTH_TOKEN_PATH", None)
        return subprocess.Popen(
            ["bash", str(copy), "matrix.yaml", *options], env=environ, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, cwd=tmp_path,
        )  # fmt: skip

    return start


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


def test_the_run_is_submitted_from_a_head_that_is_tagged_and_has_a_token(sbatch: Sbatch, tmp_path: Path) -> None:
    code, said = ended(sbatch("--retry-failed"))
    assert (code, said) == (0, said), said
    words = (tmp_path / "submitted").read_text().split()
    assert words[:4] == ["matrix.yaml", "--run", "weekly", "--retry-failed"]
    assert words[words.index("--address") + 1] == "auto"
    assert words[words.index("--warehouse") + 1] == str(tmp_path / "warehouse")
    seen = json.loads((tmp_path / "seen.json").read_text())
    assert f"{GPU}=sim-h100" in seen["labels"].split(",")
    assert json.loads(seen["resources"])[NODE] == 1
    assert (seen["min_nodes"], seen["dashboard_host"]) == (1, "127.0.0.1")
    token = Path(seen["token"])
    assert token.stat().st_mode & 0o777 == 0o600
    assert len(token.read_text().strip()) == 64


def test_the_exit_code_is_that_of_the_run(sbatch: Sbatch) -> None:
    assert ended(sbatch(CODE="1"))[0] == 1


def test_a_ray_that_did_not_start_is_no_success(sbatch: Sbatch) -> None:
    code, said = ended(sbatch(RAY_FAILS="1"))
    assert code == 4
    assert "Ray did not come up" in said


def test_the_run_is_stopped_in_order_when_the_time_is_nearly_up(sbatch: Sbatch, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun")
    begun = os.open(tmp_path / "begun", os.O_RDONLY | os.O_NONBLOCK)
    process = sbatch("--hang", SUBMITTED=str(tmp_path / "begun"))
    assert select.select([begun], [], [], 60)[0], "it was not submitted"
    os.close(begun)
    process.send_signal(signal.SIGUSR1)
    code, said = ended(process)
    assert code == 3
    assert "stopping the run" in said


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_bash_can_read_it(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True, timeout=60)


def shellcheck(*paths: Path) -> str:
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run([program, *paths], capture_output=True, text=True, timeout=60, check=False)
    return done.stdout + done.stderr


@pytest.mark.tool
def test_shellcheck_finds_nothing_in_the_scripts() -> None:
    assert shellcheck(*SCRIPTS) == ""


@pytest.mark.tool
def test_shellcheck_finds_a_mistake(tmp_path: Path) -> None:
    broken = tmp_path / "node.sh"
    broken.write_text((FOLDER / "node.sh").read_text().replace('"$RAY_ADDRESS"', "$RAY_ADDRES"))
    assert "RAY_ADDRES" in shellcheck(broken)
