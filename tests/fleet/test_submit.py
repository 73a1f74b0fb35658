"""`fleetbench submit` as a user runs it: real Ray, real engine, kills and resuming."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact.supply import supply
from fleetbench.engine.lease import holders
from fleetbench.fleet.launch.staging import need_of
from tests.small import job_of, planned, write_matrix

pytestmark = [pytest.mark.engine, pytest.mark.ray]

SPEED = "[{name: tiny, measure: [speed]}]"


class Shell:
    """Runs `fleetbench` with a warehouse and a cache of its own."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.warehouse = folder / "warehouse"
        self.environment = {
            **os.environ,
            "FLEETBENCH_CACHE": str(cache),
            "FLEETBENCH_WAREHOUSE": str(self.warehouse),
            "COLUMNS": "80",
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "fleetbench", *arguments],
            env=self.environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def rows(self, sql: str) -> list[dict[str, Any]]:
        code, out, err = self.run("sql", sql, "--format", "json")
        assert code == 0, err
        rows: list[dict[str, Any]] = json.loads(out)
        return rows


@pytest.fixture
def shell(tmp_path: Path, artifact_cache: Path) -> Shell:
    return Shell(tmp_path, artifact_cache)


def wait_for_line(process: subprocess.Popen[str], holds: Callable[[str], bool]) -> Iterator[str]:
    """Lines of stderr up to the first for which it holds."""
    assert process.stderr is not None
    for line in process.stderr:
        yield line
        if holds(line):
            return
    pytest.fail("the line never came")


def read_until(process: subprocess.Popen[str], word: str) -> None:
    list(wait_for_line(process, lambda line: word in line))


def test_a_matrix_becomes_tables_and_a_second_submission_runs_nothing(shell: Shell) -> None:
    matrix = str(write_matrix(shell.folder))
    code, out, err = shell.run("submit", matrix)
    assert code == 0, err
    assert "q2_k" in out
    trials = "SELECT trial_id, attempt, outcome FROM attempts ORDER BY ALL"
    before = shell.rows(trials)
    assert [row["outcome"] for row in before] == ["ok"] * len(before)
    niceness = shell.rows("SELECT DISTINCT value FROM host WHERE name = 'niceness'")
    assert niceness == [{"value": str(os.getpriority(os.PRIO_PROCESS, 0))}]  # Ray's own is 15
    code, again, err = shell.run("submit", matrix)
    assert code == 0, err
    assert shell.rows(trials) == before
    assert again == out


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.fleet)])
def test_an_interruption_keeps_what_is_done_and_the_same_command_goes_on(shell: Shell, number: signal.Signals) -> None:
    matrix = str(write_matrix(shell.folder, models=SPEED, quality=None, repeats="2"))
    process = shell.start("submit", matrix)
    read_until(process, "1/3")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "Go on with" in err
    kept = shell.rows("SELECT trial_id FROM trials WHERE outcome = 'ok'")
    assert kept
    code, _, err = shell.run("submit", matrix)
    assert code == 0, err
    ends = shell.rows("SELECT trial_id, outcome FROM trials")
    assert {row["outcome"] for row in ends} == {"ok"}
    attempts = {
        row["trial_id"]: row["n"] for row in shell.rows("SELECT trial_id, count(*) AS n FROM attempts GROUP BY ALL")
    }
    assert all(attempts[row["trial_id"]] == 1 for row in kept)


@pytest.mark.fleet
def test_a_killed_driver_leaves_no_engine_and_loses_no_committed_trial(shell: Shell) -> None:
    matrix = str(write_matrix(shell.folder, models=SPEED, quality=None, repeats="2"))
    process = shell.start("submit", matrix)
    read_until(process, "1/3")
    running = engines(shell.rows("SELECT run_id FROM runs")[0]["run_id"])
    process.kill()
    process.communicate()
    assert end_of(running)
    kept = shell.rows("SELECT trial_id, attempt FROM trials WHERE outcome = 'ok' ORDER BY ALL")
    assert len(kept) >= 4
    code, _, err = shell.run("submit", matrix)
    assert code == 0, err
    after = shell.rows("SELECT trial_id, attempt FROM trials WHERE outcome = 'ok' ORDER BY ALL")
    assert [row for row in after if row in kept] == kept
    assert len(after) > len(kept)


def engines(run_id: str) -> list[int]:
    """Processes of a run's launches: engines, their guards, load workers."""
    return [holder.pid for holder in holders() if holder.lease.startswith(run_id)]


def end_of(pids: list[int]) -> bool:
    """True once none of them lives, which guards see to within a second."""
    handles = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles.append(os.pidfd_open(pid))
    ended = [bool(select.select([handle], [], [], 10)[0]) for handle in handles]
    for handle in handles:
        os.close(handle)
    return all(ended)


@pytest.mark.fleet
def test_only_the_cells_that_are_wanted_run(shell: Shell) -> None:
    matrix = str(write_matrix(shell.folder, models=SPEED, quality=None))
    code, _, err = shell.run("submit", matrix, "--only", "recipe = 'q2_k' AND batch = 1")
    assert code == 0, err
    assert shell.rows("SELECT recipe, batch FROM trials") == [{"recipe": "q2_k", "batch": 1}]
    code, out, err = shell.run("submit", matrix, "--only", "kv_k = 'f16' AND batch = 2", "--format", "csv")
    assert code == 0, err
    assert {(row["recipe"], row["batch"]) for row in csv.DictReader(out.splitlines())} == {("f16", "2"), ("q2_k", "2")}


def test_a_cell_that_cannot_run_is_refused_as_a_row_and_the_others_run(shell: Shell) -> None:
    recipes = "[f16, {name: kv-fp8, weights: f16, kv: fp8}]"
    matrix = str(write_matrix(shell.folder, models=SPEED, quality=None, recipes=recipes))
    code, _, err = shell.run("submit", matrix)
    assert code == 0, err
    assert {(row["recipe"], row["rule"]) for row in shell.rows("SELECT * FROM refusals")} == {("kv-fp8", "kv")}
    assert {row["recipe"] for row in shell.rows("SELECT recipe FROM trials")} == {"f16"}
    assert {row["outcome"] for row in shell.rows("SELECT outcome FROM cells")} == {"ok", "refused"}


def test_where_nothing_can_run_it_says_why_and_keeps_the_refusals(shell: Shell) -> None:
    recipes = "[{name: kv-fp8, weights: f16, kv: fp8}]"
    matrix = write_matrix(shell.folder, models=SPEED, quality=None, recipes=recipes, reference="kv-fp8")
    code, out, err = shell.run("submit", str(matrix))
    assert (code, out) == (1, "")
    assert "nothing can run, all 2 cells are refused:" in err
    assert " by kv: " in err
    assert f"fleetbenchplan{matrix}" in "".join(err.split())  # which is folded, a long path too
    assert {row["rule"] for row in shell.rows("SELECT rule FROM refusals")} == {"kv"}


@pytest.mark.fleet
def test_a_trial_faster_than_the_hardware_allows_is_invalid(shell: Shell) -> None:
    """The catalog of one's own says that this machine reads a million bytes a second: no result can be true."""
    own = shell.folder / "own" / "gpus" / "local.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("bandwidth_bytes_s: {value: 1.0e+6, source: this test, date: 2026-11-24}\n")
    shell.environment["FLEETBENCH_CATALOG"] = str(own.parent.parent)
    load = "{batch: [1, 2], context: 16, output: 64, requests: 2, warmup: 1}"  # a few tokens may come in one read
    matrix = write_matrix(shell.folder, models=SPEED, quality=None, recipes="[f16]", load=load)
    code, _, err = shell.run("submit", str(matrix), "--only", "batch = 1")
    assert code == 1, err
    sql = "SELECT outcome, verdict, reason, ttft_p50_ms, ttft_floor_ms, itl_mean_ms, itl_floor_ms FROM trials"
    rows = shell.rows(f"{sql} WHERE role = 'measure'")
    assert [row["outcome"] for row in rows] == ["invalid"]
    assert "above_roofline" in rows[0]["verdict"].split(",")  # a busy machine may find more
    assert rows[0]["itl_mean_ms"] < 0.9 * rows[0]["itl_floor_ms"]
    assert rows[0]["ttft_p50_ms"] < 0.9 * rows[0]["ttft_floor_ms"]
    assert rows[0]["reason"].count("that the hardware allows at best") == 2
    assert {row["outcome"] for row in shell.rows("SELECT outcome FROM cells")} == {"invalid"}


@pytest.mark.fleet
def test_an_engine_that_dies_at_start_fails_its_cells_with_its_log_and_the_others_run(tmp_path: Path) -> None:
    shell = Shell(tmp_path, tmp_path / "cache")
    recipes = {"models": SPEED, "quality": None}
    plan = planned(tmp_path, **recipes)
    broken = next(launch for launch in plan.plan.launches if launch.recipe.name == "q2_k")
    job = job_of(plan, broken, warehouse=shell.warehouse, cache=tmp_path / "cache")
    artifact = supply(need_of(job), job.cache)
    assert artifact is not None
    gguf = artifact.path
    gguf.chmod(0o644)
    gguf.write_bytes(b"\0" * gguf.stat().st_size)
    code, _, err = shell.run("submit", str(write_matrix(tmp_path, **recipes)))
    assert code == 1, err
    assert "launch_failed 2 trials of tiny q2_k: " in err
    assert "2 of 5 trials did not end well: 2 launch_failed." in err
    assert err.splitlines()[-1].endswith(" --retry-failed")
    ends = {(row["recipe"], row["outcome"]) for row in shell.rows("SELECT recipe, outcome FROM trials")}
    assert ends == {("f16", "ok"), ("q2_k", "launch_failed")}
    (row,) = shell.rows("SELECT reason, log_tail FROM launches WHERE outcome = 'launch_failed'")
    assert "did not come up" in row["reason"]
    assert "gguf" in row["log_tail"]
    code, _, err = shell.run("submit", str(tmp_path / "small.yaml"))
    assert code == 1
    assert shell.rows("SELECT max(attempt) AS attempt FROM attempts") == [{"attempt": 0}]


def test_when_ray_dies_the_run_ends_by_a_word_and_the_same_command_goes_on(shell: Shell) -> None:
    matrix = str(write_matrix(shell.folder, models=SPEED, quality=None))
    process = shell.start("submit", matrix)
    read_until(process, "1/3")
    os.kill(child(process.pid, b"raylet/raylet"), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 4
    assert "Ray died on this machine (raylet)" in err
    assert "Traceback" not in err
    code, _, err = shell.run("submit", matrix)
    assert code == 0, err
    assert {row["outcome"] for row in shell.rows("SELECT outcome FROM trials")} == {"ok"}


def child(parent: int, program: bytes) -> int:
    """The child process that runs the program."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return next(int(pid) for pid in children if program in Path(f"/proc/{pid}/cmdline").read_bytes())
