from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from fleetbench.engine import guard, lease
from fleetbench.engine.guarded import Exit, Guarded
from tests.engine.conftest import Fifo

Dies = Callable[[int], bool]

PYTHON = (sys.executable, "-I", "-S", "-c")
SAY = "import os,signal,sys\ndef say(*w):\n with open(sys.argv[1], 'a') as f: print(*w, file=f, flush=True)\n"
PAUSE = f"{SAY}say(os.getpid())\nsignal.pause()"
DEAF = f"{SAY}signal.signal(signal.SIGTERM, signal.SIG_IGN)\nsay('deaf')\nwhile True: signal.pause()"
POLITE = f"{SAY}signal.signal(signal.SIGTERM, lambda *_: os._exit(7))\nsay('polite')\nwhile True: signal.pause()"
DAEMON = f"""{SAY}
signal.signal(signal.SIGUSR1, lambda *_: os._exit(5))
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    env = {{}} if 'scrub' in sys.argv else dict(os.environ)
    body = 'import os,signal,sys\\nwith open(sys.argv[1], "a") as f: print(os.getpid(), file=f)\\nsignal.pause()'
    os.execve(sys.executable, [sys.executable, '-I', '-S', '-c', body, sys.argv[1]], env)
os.wait()
signal.pause()
"""
AFTER = f"""{SAY}
say('after', os.environ.get('FLEETBENCH_LEASE'), *[pid for pid in sys.argv[2:] if os.path.exists('/proc/' + pid)])
"""
OWNER = """
import os, signal, sys
from pathlib import Path
from fleetbench.engine import lease
from fleetbench.engine.guarded import Guarded
after = os.environ.get('TEST_AFTER', '').split('|') if os.environ.get('TEST_AFTER') else ()
held = Guarded.start(sys.argv[3:], dict(os.environ), lease.new_lease('owner'), Path(sys.argv[2]), after)
if sys.argv[1] == 'fork' and os.fork() == 0:
    while True: signal.pause()
print(held.guard_pid, held.engine_pid, flush=True)
if sys.argv[1] == 'exit': os._exit(0)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Guarded]]:
    started: list[Guarded] = []

    def run(*argv: str, after: Sequence[str] = ()) -> Guarded:
        held = Guarded.start(argv, os.environ, lease.new_lease(f"test-{len(started)}"), tmp_path / "log", after)
        started.append(held)
        return held

    yield run
    for held in started:
        held.kill()


def test_an_exit_status_is_reported(start: Callable[..., Guarded]) -> None:
    assert start("sh", "-c", "exit 3").wait(30) == Exit(code=3, cause="exited", clean=True)


def test_a_running_command_has_no_exit(start: Callable[..., Guarded], fifo: Fifo) -> None:
    held = start(*PYTHON, PAUSE, str(fifo.path))
    assert int(fifo.line()) == held.engine_pid
    assert held.poll() is None


def test_a_signal_is_reported_as_its_negative(start: Callable[..., Guarded], fifo: Fifo) -> None:
    held = start(*PYTHON, PAUSE, str(fifo.path))
    fifo.line()
    os.kill(held.engine_pid, signal.SIGKILL)
    assert held.wait(30) == Exit(code=-9, cause="exited", clean=True)


def test_a_command_that_is_not_there_says_so_in_the_log(start: Callable[..., Guarded], tmp_path: Path) -> None:
    ended = start("/no/such/engine").wait(30)
    assert ended is not None
    assert ended.code == guard.CANNOT_RUN
    assert "cannot run /no/such/engine: No such file" in (tmp_path / "log").read_text()


def test_the_lease_is_in_the_commands_environment_and_the_guards_is_not(
    start: Callable[..., Guarded], tmp_path: Path
) -> None:
    held = start("env")
    held.wait(30)
    lines = (tmp_path / "log").read_text().splitlines()
    assert f"{guard.LEASE_ENV}={held.lease}" in lines
    assert not any(line.startswith(guard.GUARD_ENV) for line in lines)


def test_no_descriptor_of_the_owner_reaches_the_command(start: Callable[..., Guarded], tmp_path: Path) -> None:
    start("sh", "-c", "ls /proc/self/fd").wait(30)
    assert (tmp_path / "log").read_text().split() == ["0", "1", "2", "3"]  # 3 is ls reading the folder


def test_stop_terminates_and_takes_the_commands_own_status(start: Callable[..., Guarded], fifo: Fifo) -> None:
    held = start(*PYTHON, POLITE, str(fifo.path))
    fifo.line()
    assert held.stop(30) == Exit(code=7, cause="stopped", clean=True)


def test_stop_kills_what_ignores_its_termination(start: Callable[..., Guarded], fifo: Fifo) -> None:
    held = start(*PYTHON, DEAF, str(fifo.path))
    fifo.line()
    assert held.stop(0.1) == Exit(code=-9, cause="stopped", clean=True)


def test_stop_ends_a_suspended_command(start: Callable[..., Guarded], fifo: Fifo) -> None:
    held = start(*PYTHON, DEAF, str(fifo.path))
    fifo.line()
    os.kill(held.engine_pid, signal.SIGSTOP)
    assert held.stop(0.1).clean


def test_stop_and_kill_may_be_repeated(start: Callable[..., Guarded]) -> None:
    held = start("sleep", "1000")
    ended = held.stop(1)
    assert held.stop(1) is held.kill() is held.poll() is ended


def test_kill_does_not_wait_for_a_grace_that_was_granted(start: Callable[..., Guarded], fifo: Fifo) -> None:
    held = start(*PYTHON, DEAF, str(fifo.path))
    fifo.line()
    stopper = threading.Thread(target=held.stop, args=(10_000,))
    stopper.start()
    assert held.kill() == Exit(code=-9, cause="stopped", clean=True)
    stopper.join(30)
    assert not stopper.is_alive()


@pytest.mark.parametrize("scrub", ["keep", "scrub"])
def test_a_daemon_dies_with_the_command_that_left_it(
    start: Callable[..., Guarded], fifo: Fifo, dies: Dies, scrub: str
) -> None:
    held = start(*PYTHON, DAEMON, str(fifo.path), scrub)
    daemon = int(fifo.line())
    os.kill(held.engine_pid, signal.SIGUSR1)
    assert dies(daemon)
    assert held.wait(30) == Exit(code=5, cause="exited", clean=True)


def test_a_daemon_dies_when_the_command_is_stopped(start: Callable[..., Guarded], fifo: Fifo, dies: Dies) -> None:
    held = start(*PYTHON, DAEMON, str(fifo.path), "scrub")
    daemon = int(fifo.line())
    assert held.stop(5).clean
    assert dies(daemon)


def test_losing_the_object_ends_the_command(tmp_path: Path, dies: Dies) -> None:
    held = Guarded.start(["sleep", "1000"], os.environ, lease.new_lease("lost"), tmp_path / "log")
    pid = held.engine_pid
    del held
    gc.collect()
    assert dies(pid)


@pytest.mark.parametrize("way", ["kill", "fork", "exit"])
def test_nothing_is_left_when_the_owner_dies(tmp_path: Path, fifo: Fifo, dies: Dies, way: str) -> None:
    argv = [sys.executable, "-c", OWNER, way, str(tmp_path / "log"), *PYTHON, DAEMON, str(fifo.path), "scrub"]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as owner:
        assert owner.stdout is not None
        pids = [int(word) for word in owner.stdout.readline().split()]
        if way != "exit":
            pids.append(int(fifo.line()))
            owner.kill()
        assert len(pids) >= 2
        assert all(dies(pid) for pid in pids)
        if way == "fork":
            os.killpg(owner.pid, signal.SIGKILL)


def test_a_killed_guard_takes_the_command_and_what_bears_its_lease(
    start: Callable[..., Guarded], fifo: Fifo, dies: Dies
) -> None:
    held = start(*PYTHON, DAEMON, str(fifo.path))
    daemon = int(fifo.line())
    os.kill(held.guard_pid, signal.SIGKILL)
    assert held.wait(30) == Exit(code=None, cause="guard_lost", clean=False)
    assert dies(held.engine_pid)
    assert dies(daemon)


@pytest.mark.parametrize("way", ["exit", "stop", "kill", "lose", "crash"])
def test_the_after_command_runs_once_when_all_else_is_dead(
    start: Callable[..., Guarded], fifo: Fifo, tmp_path: Path, way: str
) -> None:
    held = start(*PYTHON, PAUSE, str(fifo.path), after=[*PYTHON, AFTER, str(fifo.path)])
    pid = int(fifo.line())
    if way == "stop":
        held.stop(30)
    elif way == "kill":
        held.kill()
    elif way == "lose":
        os.kill(held.guard_pid, signal.SIGKILL)
    else:
        os.kill(pid, signal.SIGTERM if way == "exit" else signal.SIGKILL)
    ended = held.wait(60)
    assert ended is not None
    assert ended.clean == (way != "lose")
    assert fifo.line() == "after None"
    assert held.kill() is ended
    held.kill()
    fifo.path.write_text("nothing more\n")
    assert fifo.line() == "nothing more"
    assert tmp_path.is_dir()


def test_an_after_command_that_fails_leaves_something(start: Callable[..., Guarded]) -> None:
    assert start("true", after=["false"]).wait(60) == Exit(code=0, cause="exited", clean=False)
    assert start("true", after=["/no/such/command"]).wait(60) == Exit(code=0, cause="exited", clean=False)


def test_the_after_command_runs_when_the_owner_dies(tmp_path: Path, fifo: Fifo) -> None:
    argv = [sys.executable, "-c", OWNER, "kill", str(tmp_path / "log"), *PYTHON, PAUSE, str(fifo.path)]
    say = f"open({str(fifo.path)!r}, 'a').write('after\\n')"
    env = {**os.environ, "TEST_AFTER": f"{sys.executable}|-c|{say}"}
    with subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        fifo.line()
        owner.kill()
    assert fifo.line() == "after"


def test_many_commands_start_and_stop_at_once(tmp_path: Path, dies: Dies) -> None:
    ended: dict[int, Exit] = {}

    def one(number: int) -> None:
        held = Guarded.start(["sleep", "1000"], os.environ, lease.new_lease(f"n{number}"), tmp_path / f"{number}")
        ended[held.engine_pid] = held.stop(20)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [exit_.cause for exit_ in ended.values()] == ["stopped"] * 6
    assert all(dies(pid) for pid in ended)


def test_an_unwritable_log_is_an_error_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file"):
        Guarded.start(["true"], os.environ, lease.new_lease("x"), tmp_path / "file" / "log")
