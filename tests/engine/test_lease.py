from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import guard, lease

Start = Callable[[str], subprocess.Popen[bytes]]

DEAD = "gone@{pid}.1"  # a pid in use now, but not since the first tick of the machine


@pytest.fixture
def start() -> Iterator[Start]:
    """A sleeping process that carries a lease."""
    started: list[subprocess.Popen[bytes]] = []

    def run(text: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(["sleep", "1000"], env={**os.environ, lease.LEASE_ENV: text})
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1))
def test_a_lease_names_this_process_whatever_its_label(label: str) -> None:
    text = lease.new_lease(label)
    named = lease.owner(text)
    assert named is not None
    assert named.pid == os.getpid()
    assert text.startswith(f"{label}@")
    assert lease.owner_alive(text)


@pytest.mark.parametrize("label", ["", "a\nb", "a\0b"])
def test_a_label_that_an_environment_cannot_carry_is_refused(label: str) -> None:
    with pytest.raises(ValueError, match="printable"):
        lease.new_lease(label)


@given(st.text())
def test_any_text_can_be_asked_for_its_owner(text: str) -> None:
    assert lease.owner(text) is None or "@" in text


@pytest.mark.parametrize("text", ["", "x", "x@", "x@1", "x@1.", "x@.1", "x@-1.1", "x@1.1.1", "x@²1.1"])
def test_what_is_no_lease_has_no_owner(text: str) -> None:
    assert lease.owner(text) is None
    assert not lease.owner_alive(text)


def test_a_later_process_of_the_same_pid_is_not_the_owner() -> None:
    assert not lease.owner_alive(DEAD.format(pid=os.getpid()))


def test_a_zombie_owner_is_dead() -> None:
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        stat = guard.read_stat(process.pid)
        assert stat is not None
        assert stat.state == "Z"
        assert not lease.owner_alive(f"x@{process.pid}.{stat.ticks}")


def test_sweep_kills_what_dead_owners_left_and_nothing_else(start: Start) -> None:
    left, owned, foreign = start(DEAD.format(pid=os.getpid())), start(lease.new_lease("mine")), start("no lease")
    killed = lease.sweep()
    assert left.wait(timeout=60) == -9  # by this sweep, or by one of a test beside it
    assert not {owned.pid, foreign.pid} & set(killed)
    assert owned.poll() is None
    assert foreign.poll() is None


def test_sweep_spares_the_one_who_sweeps() -> None:
    env = {**os.environ, lease.LEASE_ENV: DEAD.format(pid=os.getpid())}
    code = "from fleetbench.engine import lease; print(len(lease.sweep()))"
    for _ in range(5):  # a test beside this one may sweep at the same moment, and its sweep rightly kills this one
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
        if done.returncode != -9:
            break
    assert done.stdout.strip().isdigit(), (done.returncode, done.stderr)


def test_killing_a_lease_spares_others_of_the_same_owner(start: Start) -> None:
    one, other = start(lease.new_lease("one")), start(lease.new_lease("other"))
    assert lease.kill_lease(lease.new_lease("one")) == [one.pid]
    assert one.wait() == -9
    assert other.poll() is None


def test_a_signal_never_reaches_a_later_process_of_the_same_pid(start: Start) -> None:
    process = start("x")
    assert not guard.send(process.pid, 1, 9)
    assert process.poll() is None


def test_a_process_whose_name_imitates_its_state_is_read_rightly(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    shutil.copy(shutil.which("sleep") or "", program)
    with subprocess.Popen([program, "1000"]) as process:
        stat = guard.read_stat(process.pid)
        process.kill()
    assert stat is not None
    assert stat.ppid == os.getpid()
