"""However `fleetbench bench` is ended: what was done is reported, nothing is left over, nobody waits."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import fleetbench
from tests.truth.run import Server, build, serve

LONG = ("--seconds", "60", "--batch", "4", "--output", "400", "--format", "json")
ENDS_S = 5.0
OURS = re.compile(r"/fleetbench/(?!__main__|cli/entry)")
"""A line of a traceback that is not of Python's own start, in which nobody can take a signal yet."""


@pytest.fixture(autouse=True)
def _heard() -> Iterator[None]:
    """Signals as a terminal leaves them: what a job in the background starts would inherit that they are ignored."""
    interrupt = signal.signal(signal.SIGINT, signal.default_int_handler)
    end = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, end)


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build(tmp_path_factory.getbasetemp() / "truth-server")


@pytest.fixture
def server(truth: list[str]) -> Iterator[Server]:
    with serve(truth, ttft_us=20_000, itl_us=5_000) as running:
        yield running


def start(url: str, *arguments: str, **streams: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "fleetbench", "bench", url, *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, **{"stderr": subprocess.PIPE, **streams}, text=True)


def children(owner: int) -> list[int]:
    """The load generator's processes of an owner, by their command lines: they outlive it with another parent."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"fleetbench_collectors.load.process" in words and str(owner).encode() in words:
                found.append(int(folder.name))
    return sorted(found)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def connections(server: Server) -> int:
    """Sockets that are open on the server's side."""
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))


def loaded(server: Server, idle: int, batch: int = 4) -> None:
    """Waits until the load is on: the places' connections are open."""
    until(lambda: connections(server) >= idle + batch)


def ended(process: subprocess.Popen[str]) -> tuple[dict[str, Any], str]:
    """The report, if any; no process may be left."""
    try:
        out, err = process.communicate(timeout=ENDS_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    assert "Exception ignored" not in err
    assert "Traceback" not in err or (not out and not OURS.search(err))
    until(lambda: not children(process.pid))
    return json.loads(out) if out else {}, err


def test_a_signal_at_any_moment_ends_it_with_a_report_or_in_silence(server: Server) -> None:
    plan = [(0.2 * step, 0.12 * step, number) for step in range(13) for number in (signal.SIGINT, signal.SIGTERM)]
    started: dict[int, subprocess.Popen[str]] = {}
    moments = [(at_s, index, False) for index, (at_s, _, _) in enumerate(plan)]
    moments += [(at_s + after_s, index, True) for index, (at_s, after_s, _) in enumerate(plan)]
    zero_s = time.monotonic()
    for at_s, index, over in sorted(moments):
        time.sleep(max(zero_s + at_s - time.monotonic(), 0))  # the moment is what is tried, nothing is waited for
        if over:
            started[index].send_signal(plan[index][2])
        else:
            started[index] = start(server.url, *LONG)
    for index, process in started.items():
        found, err = ended(process)
        if found:
            assert (process.returncode, err) == (3, "")
            assert (found["interrupted"], found["failed"]) == (True, 0)
            assert found["completed"] + found["cancelled"] == found["requests"]
        elif "Traceback" not in err:  # it ends by the signal, or says that it was interrupted
            assert process.returncode in (3, -plan[index][2])
            assert err.strip() in ("", "interrupted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_sent_until_then_is_reported(server: Server, number: int, tmp_path: Path) -> None:
    idle = connections(server)
    process = start(server.url, *LONG, "--processes", "2", "--warehouse", str(tmp_path / "kept"))
    loaded(server, idle)
    process.send_signal(number)
    process.send_signal(number)
    found, err = ended(process)
    assert process.returncode == 3
    assert err.startswith("kept as run ")
    assert len(err.splitlines()) == 1
    assert (found["interrupted"], found["completed"] + found["cancelled"]) == (True, found["requests"])
    assert found["requests"] in (0, 4)
    assert fleetbench("runs", "--warehouse", str(tmp_path / "kept"), folder=tmp_path).code == 0


def test_signals_that_come_without_end_do_no_harm(server: Server) -> None:
    idle = connections(server)
    process = start(server.url, *LONG)
    loaded(server, idle)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.002)
    found, err = ended(process)
    assert (found["interrupted"], process.returncode, err) == (True, 3, "")


def test_a_signal_while_a_silent_server_is_probed_ends_it_soon(truth: list[str]) -> None:
    with serve(truth, fault="stall") as silent:
        idle = connections(silent)
        process = start(silent.url, *LONG)
        loaded(silent, idle, 1)
        process.send_signal(signal.SIGINT)
        found, err = ended(process)
    assert (process.returncode, err, found["interrupted"], found["requests"]) == (3, "", True, 0)


def test_processes_end_with_an_owner_that_is_killed(server: Server) -> None:
    idle = connections(server)
    process = start(server.url, *LONG, "--processes", "2")
    loaded(server, idle)
    assert len(children(process.pid)) == 2
    process.kill()
    process.communicate(timeout=ENDS_S)
    until(lambda: not children(process.pid), seconds=2.0)


@pytest.mark.parametrize("limit", [("--requests", "8"), ("--seconds", "1")])
def test_the_death_of_a_process_is_in_the_report_and_the_others_rows_too(
    server: Server, limit: tuple[str, str]
) -> None:
    idle = connections(server)
    process = start(server.url, "--batch", "4", "--output", "40", "--processes", "2", "--format", "json", *limit)
    loaded(server, idle)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    found, err = ended(process)
    assert (process.returncode, err, found["valid"]) == (1, "", False)
    assert found["reasons"][0] == "a process of the load generator ended by signal 9: it said nothing"
    assert found["completed"] == found["requests"] > 0
    if limit[0] == "--requests":
        assert (found["requests"], "4 of 8 requests never ran" in found["reasons"]) == (4, True)


def test_the_death_of_all_processes_is_a_report_too(server: Server) -> None:
    idle = connections(server)
    process = start(server.url, *LONG)
    loaded(server, idle)
    for child in children(process.pid):
        os.kill(child, signal.SIGKILL)
    found, err = ended(process)
    assert (process.returncode, err, found["valid"], found["requests"]) == (1, "", False, 0)
    assert found["reasons"][0].startswith("a process of the load generator ended by signal 9")


def test_ctrl_c_at_a_terminal_with_the_live_view_gives_the_terminal_back(server: Server) -> None:
    idle = connections(server)
    arguments = [sys.executable, "-m", "fleetbench", "bench", server.url, *LONG]
    pid, terminal = pty.fork()
    if not pid:
        os.execve(arguments[0], arguments, {**os.environ, "TERM": "xterm"})  # noqa: S606 - the child of the fork
    before = termios.tcgetattr(terminal)
    seen = b""

    def read() -> bool:
        nonlocal seen
        if select.select([terminal], [], [], 0)[0]:
            seen += os.read(terminal, 65_536)
        return b"in flight" in seen and connections(server) >= idle + 4

    until(read)
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # a terminal that nobody holds any more
        while data := os.read(terminal, 65_536):
            seen += data
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert termios.tcgetattr(terminal) == before
    os.close(terminal)
    assert seen.count(b"\x1b[?25l") == seen.count(b"\x1b[?25h") > 0
    assert b"Traceback" not in seen
    assert json.loads(seen[seen.rindex(b'{\r\n  "valid"') :])["interrupted"]
    until(lambda: not children(pid))


@pytest.mark.parametrize(
    ("where", "words", "code"),
    [
        (("--out", "/proc/self/x"), "/proc/self/x cannot be written", 2),
        (("--warehouse", "/proc/no such folder"), "the warehouse /proc/no such folder cannot be used", 4),
        (("--warehouse", "file/inside"), "the warehouse file/inside cannot be used", 4),
    ],
)
def test_what_cannot_be_kept_is_said_after_the_report(
    server: Server, where: tuple[str, str], words: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    arguments = ("--batch", "2", "--requests", "2", "--output", "2", "--format", "json", *where)
    said = fleetbench("bench", server.url, *arguments, folder=tmp_path)
    assert json.loads(said.out)["completed"] == 2
    assert (said.code, words in said.err, "Traceback" in said.err) == (code, True, False)


def test_a_file_that_cannot_be_is_refused_before_anything_is_sent(server: Server, tmp_path: Path) -> None:
    said = fleetbench("bench", server.url, "--requests", "1", "--out", "none/x.json", folder=tmp_path)
    assert (said.code, said.out, "there is no folder none" in said.err) == (2, "", True)


def test_a_result_is_written_though_nobody_reads_it(server: Server, tmp_path: Path) -> None:
    line = f'"{sys.executable}" -m fleetbench bench {server.url} --requests 2 --output 2 --out kept.json > /dev/full'
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (4, False)
    assert json.loads((tmp_path / "kept.json").read_text())["completed"] == 2


def test_a_warehouse_without_room_is_said_after_the_report(server: Server, tmp_path: Path) -> None:
    limited = f'ulimit -f 4; exec "{sys.executable}" -m fleetbench bench {server.url}'
    arguments = "--batch 8 --requests 400 --context 8 --output 1 --format json --warehouse kept"
    done = subprocess.run(
        ["bash", "-c", f"{limited} {arguments}"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert json.loads(done.stdout)["completed"] == 400
    assert (done.returncode != 0, "cannot" in done.stderr, "Traceback" in done.stderr) == (True, True, False)


def test_what_is_kept_is_seen_by_the_other_commands(server: Server, tmp_path: Path) -> None:
    arguments = ("--batch", "2", "--requests", "4", "--output", "3", "--warehouse", "kept", "--out", "result.json")
    said = fleetbench("bench", server.url, *arguments, folder=tmp_path)
    assert said.code in (0, 1)
    assert json.loads((tmp_path / "result.json").read_text())["completed"] == 4
    assert "bench/bench-" in fleetbench("runs", "--warehouse", "kept", folder=tmp_path).out
    counted = fleetbench(
        "sql", "SELECT count(*) AS n FROM requests", "--warehouse", "kept", "--format", "json", folder=tmp_path
    )
    assert json.loads(counted.out) == [{"n": 4}]
    compared = fleetbench("compare", "--warehouse", "kept", folder=tmp_path)
    assert (compared.err, "Traceback" in compared.out) == ("", False)
