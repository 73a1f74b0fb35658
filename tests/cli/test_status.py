"""`fleetbench status`, `watch`, `logs` and `cancel`, of a run that another process drives."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleetbench.cli.main import COMMANDS
from fleetbench.fleet.control.journal import Journal, control
from fleetbench.store.commit import Warehouse
from tests.cli.inside import inside
from tests.fleet.told import STATUS, status
from tests.samples import START, recipe_axes

RUN = STATUS.run_id
VERBS = ("status", "watch", "logs", "cancel")
DRIVER = """
import sys
import time
from dataclasses import replace
from pathlib import Path
from fleetbench.fleet.control.journal import Journal, control
from fleetbench.fleet.control.sole import sole_driver
from fleetbench.store.commit import Warehouse
from tests.fleet.told import status
root = Path(sys.argv[1])
Warehouse(root).create()
with sole_driver(Warehouse(root), status().run_id):
    journal = Journal(control(root, status().run_id))
    journal.clear()
    journal.say("start launch1: tiny f16")
    journal.tell(status())
    print("driving", flush=True)
    if sys.argv[2] == "until cancelled":
        while not journal.cancel_wanted():
            time.sleep(0.05)
        journal.say("stopping: cancelled")
        journal.tell(status(state="interrupted", running=()))
    else:
        sys.stdin.readline()
        journal.say("ended launch1")
        journal.tell(status(state="ended", running=(), waiting=0, outcomes={"ok": int(sys.argv[2])}))
"""


@contextmanager
def driver(folder: Path, how: str = "until cancelled") -> Iterator[subprocess.Popen[str]]:
    """A process that drives the run as a controller does, until it is cancelled, or spoken to: then so many are ok."""
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder / "warehouse"), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "driving\n"
            yield process
        finally:
            process.kill()


def speak(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go on\n")
    process.stdin.flush()


def test_a_driven_run_is_listed_and_described(tmp_path: Path) -> None:
    with driver(tmp_path):
        listed = inside("status", folder=tmp_path)
        one = inside("status", "zoo/nightly", folder=tmp_path)
        rows = json.loads(inside("status", "--format", "json", folder=tmp_path).out)
        table = list(csv.DictReader(io.StringIO(inside("status", RUN, "--format", "csv", folder=tmp_path).out)))
        marked = inside("status", RUN[:4], "--format", "markdown", folder=tmp_path)
    assert listed.code == one.code == 0
    assert re.search(rf"{RUN} +zoo/nightly +running +3/6 +1 +1 +1:15", listed.out)
    assert "trials: 3 of 6: 2 ok, 1 oom; about 1:15 left" in one.out
    assert re.search(r"tiny f16 sim-h100 +node-1 +batch 1, context 16 +1/3", one.out)
    assert "blocked h200: no node of this kind" in one.out
    assert max(map(len, (listed.out + one.out).splitlines())) <= 80
    assert (rows[0]["state"], rows[0]["running"][0]["node"], rows[0]["outcomes"]) == (
        "running",
        "node-1",
        {"ok": 2, "oom": 1},
    )
    assert (table[0]["done"], json.loads(table[0]["blocked"])) == ("3", {"h200": "no node of this kind"})
    assert "| zoo/nightly | running | 3/6 |" in marked.out


def test_a_run_whose_controller_was_killed_is_gone_and_says_how_to_go_on(tmp_path: Path) -> None:
    with driver(tmp_path) as process:
        process.kill()
        process.wait()
        said = inside("status", RUN, folder=tmp_path)
        watched = inside("watch", RUN, folder=tmp_path)
        listed = inside("status", folder=tmp_path)
    assert "gone" in said.out
    assert "the same `fleetbench submit` goes on" in said.out.replace("\n", " ")
    assert watched.code == 3
    assert f"{RUN} gone: its controller" in listed.err


@pytest.mark.parametrize(("ok", "code"), [("6", 0), ("5", 1)])
def test_watch_follows_to_the_end_and_exits_as_submit_does(tmp_path: Path, ok: str, code: int) -> None:
    with driver(tmp_path, ok) as process:
        speak(process)
        said = inside("watch", "nightly", folder=tmp_path)
    assert said.code == code
    assert said.out == ""
    assert re.search(r"^\d\d:\d\d:\d\dZ start launch1: tiny f16$", said.err, re.MULTILINE)
    assert re.search(r"^\d\d:\d\d:\d\dZ ended launch1$", said.err, re.MULTILINE)
    assert f"trials: {ok} of 6: {ok} ok" in said.err


def test_ctrl_c_leaves_the_watcher_and_not_the_run(tmp_path: Path) -> None:
    with driver(tmp_path) as process:
        main, terminal = pty.openpty()
        watcher = subprocess.Popen(
            [sys.executable, "-m", "fleetbench", "watch", RUN, "--warehouse", str(tmp_path / "warehouse")],
            stderr=terminal,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
        )
        os.close(terminal)
        said = ""
        while "launches: 1 running, 1 waiting" not in said:
            said += os.read(main, 4096).decode(errors="replace")
        watcher.send_signal(signal.SIGINT)
        while "fleetbench cancel" not in said:
            said += os.read(main, 4096).decode(errors="replace")
        assert watcher.wait() == 3
        os.close(main)
        assert process.poll() is None
    assert "3/6 trials" in said
    assert "1 failed" in said
    assert "left: the run goes on" in said


def test_cancel_waits_until_the_controller_has_stopped(tmp_path: Path) -> None:
    with driver(tmp_path) as process:
        said = inside("cancel", "zoo", folder=tmp_path)
        assert said.code == 0
        assert "has stopped: 3 of 6 trials are kept" in said.err
        assert process.wait() == 0
        again = inside("cancel", "zoo", folder=tmp_path)
    assert again.code == 1
    assert "is not being measured (interrupted)" in again.err
    assert inside("watch", "zoo", folder=tmp_path).code == 3


def test_cancel_without_waiting_says_where_to_see_it(tmp_path: Path) -> None:
    with driver(tmp_path) as process:
        said = inside("cancel", RUN, "--no-wait", folder=tmp_path)
        assert said.code == 0
        assert f"fleetbench watch {RUN} --warehouse" in said.err
        assert process.wait() == 0


def test_logs_are_printed_and_followed_to_the_end(tmp_path: Path) -> None:
    with driver(tmp_path, "6") as process:
        now = inside("logs", RUN, folder=tmp_path)
        speak(process)
        all_of_it = inside("logs", RUN, "--follow", folder=tmp_path)
    assert [line.partition(" ")[2] for line in now.out.splitlines()] == ["start launch1: tiny f16"]
    assert [line.partition(" ")[2] for line in all_of_it.out.splitlines()] == [
        "start launch1: tiny f16",
        "ended launch1",
    ]


def test_the_last_lines_of_an_engine_come_from_the_warehouse(tmp_path: Path) -> None:
    with driver(tmp_path):
        pass
    row = {
        **recipe_axes("f16"),
        "run_id": RUN,
        "launch_id": "launch1",
        "attempt": 0,
        "role": "measure",
        "outcome": "oom",
        "log_tail": "CUDA out of memory\nbye",
        "node": "node-1",
        "lease": "lease",
        "started_at": START,
        "wall_s": 1.0,
    }
    Warehouse(tmp_path / "warehouse").commit("launches", [row], run_id=RUN, name="launch1-0")
    said = inside("logs", RUN, "--launch", "launch", folder=tmp_path)
    assert said.code == 0
    assert "CUDA out of memory\nbye" in said.out
    wrong = inside("logs", RUN, "--launch", "nix", folder=tmp_path)
    assert wrong.code == 2
    assert f"run {RUN} has no launch nix" in wrong.err
    both = inside("logs", RUN, "--launch", "x", "--follow", folder=tmp_path)
    assert both.code == 2
    assert "keep one of them" in both.err


def test_of_two_runs_of_a_name_the_driven_one_is_meant(tmp_path: Path) -> None:
    other = Journal(control(tmp_path / "warehouse", "f" * 12))
    other.tell(status(run_id="f" * 12, state="ended"))
    with driver(tmp_path):
        assert "running" in inside("status", "zoo", folder=tmp_path).out
    another = Journal(control(tmp_path / "warehouse", "e" * 12))
    another.tell(status(run_id="e" * 12, state="ended"))
    said = inside("status", "zoo", folder=tmp_path)
    assert said.code == 2
    assert "zoo may be any of" in said.err


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_that_is_none_is_a_mistake_in_a_sentence(tmp_path: Path, verb: str) -> None:
    (tmp_path / "warehouse").mkdir()
    said = inside(verb, "nix", folder=tmp_path)
    assert said.code == 2
    assert said.err.count("\n") == 1
    assert "no runs yet" in said.err


def test_nothing_driven_is_said_and_an_empty_list(tmp_path: Path) -> None:
    assert json.loads(inside("status", "--format", "json", folder=tmp_path).out) == []
    said = inside("status", folder=tmp_path)
    assert (said.code, said.out) == (0, "")
    assert "no run is being measured in" in said.err
    assert "all that have ended" not in said.err, "the warehouse has them"


@pytest.mark.parametrize("verb", VERBS)
def test_help_fits_the_page_and_mistypings_get_a_hint(tmp_path: Path, verb: str) -> None:
    assert verb in COMMANDS
    said = inside(verb, "--help", folder=tmp_path)
    assert said.code == 0
    assert max(map(len, said.out.splitlines())) <= 80
    assert f"  fleetbench {verb}" in said.out.partition("Examples:")[2]
    assert f"Did you mean {verb}?" in inside(f"{verb}x", folder=tmp_path).err


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "https://127.0.0.1:1"])
def test_a_dashboard_that_is_not_there_is_said_with_what_to_do(tmp_path: Path, address: str) -> None:
    (tmp_path / "token").touch(mode=0o600)
    (tmp_path / "token").write_text("a-token")
    said = inside("status", "--address", address, "--token", "token", folder=tmp_path)
    assert said.code == 4
    assert f"nothing listens at {address}" in said.err
    assert "ssh -L" in said.err


def test_submitting_to_a_dashboard_needs_a_warehouse_that_is_the_clusters(tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text("name: m\n")
    said = inside("submit", "m.yaml", "--address", "http://127.0.0.1:1", folder=tmp_path)
    assert said.code == 2
    assert "needs --warehouse DIR" in said.err
