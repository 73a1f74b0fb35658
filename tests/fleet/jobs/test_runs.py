"""Submitting by a head's dashboard, from a machine that is in no cluster: a real head, real jobs, a real engine."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from fleetbench.cli.as_job import CONFIG, take_matrix
from fleetbench.errors import InputError
from fleetbench.fleet.jobs.api import JobsApi
from fleetbench.fleet.jobs.marks import MARK, MATRIX, PYTHON
from fleetbench.fleet.jobs.runs import entrypoint, submit_job
from tests.cli.shell import Said, fleetbench
from tests.fleet.cluster import FakeFleet, fleet
from tests.small import write_matrix

NOBODY = JobsApi(url="http://nobody", _host="127.0.0.1", _port=1, _base="", _headers={}, _tls=None)
SPEED = "[{name: tiny, measure: [speed]}]"


@pytest.fixture(scope="module")
def cluster(artifact_cache: Path) -> Iterator[FakeFleet]:
    with fleet([("sim-h100", 1)], dashboard=True, env={"FLEETBENCH_CACHE": str(artifact_cache)}) as up:
        yield up


def outside(cluster: FakeFleet, *words: str, folder: Path) -> Said:
    """A command on a machine that knows the dashboard and the token, and nothing else of the cluster."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "fleetbench", *words, "--address", cluster.env["DASHBOARD"]],
        env={**environment, "COLUMNS": "80", "RAY_AUTH_TOKEN_PATH": str(cluster.token)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.ray
@pytest.mark.fleet
@pytest.mark.engine
def test_a_matrix_is_run_from_elsewhere_and_again_without_measuring_anew(cluster: FakeFleet, tmp_path: Path) -> None:
    write_matrix(tmp_path, hardware="sim-h100", models=SPEED, recipes="[f16]", quality=None)
    words = ("submit", "small.yaml", "--warehouse", str(tmp_path / "there"), "--format", "json")
    first = outside(cluster, *words, folder=tmp_path)
    assert first.code in (0, 1), first.err  # a busy machine's trials may be invalid
    assert "1/" in first.err
    assert "is submitted, as job fleetbench-" in first.err
    panels = json.loads(first.out)
    assert any(panel["name"] == "speed" for panel in panels)
    again = outside(cluster, *words, folder=tmp_path)
    assert "in 0 engine launches" in again.err
    assert again.err.split(" as job ")[1].split()[0].endswith("-2")
    assert (again.code, json.loads(again.out)) == (first.code, panels)
    watched = outside(cluster, "watch", "small", folder=tmp_path)
    assert watched.code == first.code
    stood = json.loads(outside(cluster, "status", "small", "--format", "json", folder=tmp_path).out)
    assert (stood[0]["state"], stood[0]["done"]) == ("ended", stood[0]["trials"])


@pytest.mark.ray
@pytest.mark.fleet
@pytest.mark.engine
def test_a_detached_run_is_joined_listed_cancelled_and_gone_on_with(cluster: FakeFleet, tmp_path: Path) -> None:
    write_matrix(tmp_path, hardware="sim-h100", models=SPEED, recipes="[f16]", quality=None, repeats="500")
    words = ("submit", "small.yaml", "--run", "long", "--warehouse", str(tmp_path / "there"), "--detach")
    begun = outside(cluster, *words, folder=tmp_path)
    assert begun.code == 0
    assert "fleetbench watch " in begun.err
    joined = outside(cluster, *words, folder=tmp_path)
    assert "is being measured already, as job" in joined.err
    listed: list[dict[str, Any]] = []
    while not listed or listed[0]["state"] == "starting":
        listed = json.loads(outside(cluster, "status", "--format", "json", folder=tmp_path).out)
    assert (listed[0]["run"], listed[0]["state"]) == ("long", "running")
    assert listed[0]["cluster"].endswith(cluster.address.partition(":")[2])
    stopped = outside(cluster, "cancel", "long", folder=tmp_path)
    assert stopped.code == 0, stopped.err
    assert "has stopped: " in stopped.err
    watched = outside(cluster, "watch", "long", folder=tmp_path)
    assert watched.code == 3
    assert "cancelled by fleetbench cancel" in watched.err
    listed = json.loads(outside(cluster, "status", "--format", "json", folder=tmp_path).out)
    (stood,) = [row for row in listed if row["run"] == "long"]
    assert (stood["state"], stood["warehouse"]) == ("interrupted", str(tmp_path / "there"))
    logged = outside(cluster, "logs", "long", folder=tmp_path)
    assert (logged.code, logged.out) == (0, "")
    assert "trials are kept" in logged.err


@pytest.mark.ray
@pytest.mark.fleet
def test_a_mistake_that_only_the_head_sees_is_said_here(cluster: FakeFleet, tmp_path: Path) -> None:
    write_matrix(tmp_path, hardware="sim-h100", models="[{name: ours, path: /models/nowhere}]")
    said = outside(cluster, "submit", "small.yaml", "--warehouse", str(tmp_path / "there"), folder=tmp_path)
    assert said.code == 2
    assert "small.yaml:3: models[0].path: no such folder" in said.err
    listed = outside(cluster, "status", folder=tmp_path)
    assert re.search(r"small/default +failed", listed.out)
    assert re.search(r"failed: job fleetbench-\w+-1 ended with exit code 2", listed.err)
    assert "fleetbench status --warehouse DIR" in listed.err
    one = outside(cluster, "status", "small", "--format", "json", folder=tmp_path)
    assert [(row["run"], row["state"]) for row in json.loads(one.out)] == [("default", "failed")]
    at = ("--address", cluster.address, "--token", str(cluster.token))
    watched = fleetbench("watch", "small", *at, folder=tmp_path)
    assert (watched.code, "is not being measured: job fleetbench-" in watched.err) == (2, True)


def test_paths_that_only_this_machine_has_are_refused_each_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    recipes = "[f16, {name: awq, weights: q4_k, calibration: {path: corpus.txt}}]"
    path = write_matrix(tmp_path, models="[{name: ours, path: ours}]", recipes=recipes)
    with pytest.raises(InputError) as error:
        submit_job(NOBODY, path, run="default", warehouse=PurePosixPath("data"))
    first, second, third = error.value.mistakes
    assert "small.yaml:3: models[0].path: a relative path means nothing on the cluster" in first
    assert "small.yaml:7: recipes[1]: a relative path" in second
    assert "--warehouse data: give the whole path" in third


def test_a_draft_model_of_the_hub_is_no_path_unless_it_is_one_here(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, recipes="[f16, {name: fast, weights: f16, draft: org/small}]")
    with pytest.raises(InputError) as error:
        submit_job(NOBODY, path, run="default", warehouse=PurePosixPath("data"))
    assert len(error.value.mistakes) == 1
    (tmp_path / "org" / "small").mkdir(parents=True)
    with pytest.raises(InputError, match=r"recipes\[1\]: a relative path"):
        submit_job(NOBODY, path, run="default", warehouse=PurePosixPath("data"))


def test_a_matrix_that_is_wrong_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, recipes="[f17]")
    with pytest.raises(InputError, match="f17"):
        submit_job(NOBODY, path, run="default", warehouse=PurePosixPath("/data"))


def test_an_entry_point_takes_the_nodes_python_and_quotes_its_words() -> None:
    words = ["submit", "it's.yaml", "--only", "recipe = 'a b'; rm -rf ~"]
    assert shlex.split(entrypoint(words))[-len(words) :] == words
    done = subprocess.run(
        ["/bin/sh", "-c", entrypoint(words)],
        env={PYTHON: "/nowhere/python", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert done.stdout.startswith("error: the head's Python has no fleetbench")


def test_a_job_marks_its_output_and_finds_its_matrix(tmp_path: Path) -> None:
    packed = base64.b64encode(zlib.compress(b"name: x\nnonsense: 1\n")).decode()
    config = json.dumps({"runtime_env": {}, "metadata": {MATRIX: packed, "kept": "1"}})
    done = subprocess.run(
        [sys.executable, "-m", "fleetbench.cli.as_job", "submit", "../x.yaml", "--address", "auto"],
        env={**os.environ, CONFIG: config, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert [path.name for path in tmp_path.glob("fb-job-*/*")] == ["x.yaml"]
    shown = subprocess.run(
        [sys.executable, "-m", "fleetbench.cli.as_job", "runs", "--format", "csv", "--warehouse", str(tmp_path)],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.startswith(f"{MARK}run_id,")


def test_a_matrix_leaves_the_environment_of_what_the_job_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(CONFIG, raising=False)
    assert take_matrix("x.yaml") is None
    packed = base64.b64encode(zlib.compress(b"name: x\n")).decode()
    monkeypatch.setenv(CONFIG, json.dumps({"metadata": {MATRIX: packed, "kept": "1"}}))
    (left := tmp_path / "fb-job-999999999-x").mkdir()  # of a driver that was killed
    path = take_matrix("/any/x.yaml")
    assert path is not None
    assert (path.name, path.read_text(), left.exists()) == ("x.yaml", "name: x\n", False)
    assert json.loads(os.environ[CONFIG]) == {"metadata": {"kept": "1"}}
