"""Runs one command so that nothing it starts outlives its owner.

Started as a script by a plain `python -I -S`, hence the standard library only. The guard forks itself
away from its owner's child list, becomes the reaper of all that the command starts, and waits for the
first of: the command's end, the owner's word on the lifeline, the owner's death in any way. Then it
kills the whole tree, runs the `after` command, which ends what no signal reaches (a container outlives its
client), and says on the status pipe how the command ended.

Lifeline: end of file kills at once; a line `q SECONDS` terminates, waits that long, then kills.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

LEASE_ENV = "FLEETBENCH_LEASE"
GUARD_ENV = "FLEETBENCH_GUARD"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
CANNOT_RUN = 127
STUCK_S = 5.0
AFTER_S = 30.0


class Stat(NamedTuple):
    """What /proc says of a process; (pid, ticks) names it for the whole uptime."""

    state: str
    ppid: int
    ticks: int


def read_stat(pid: int) -> Stat | None:
    """The process's state, parent and start in clock ticks since boot; None where there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123  pathlib is not worth its import time here
            text = file.read()
    except OSError:
        return None
    fields = text[text.rfind(b")") + 1 :].split()
    return Stat(fields[0].decode(), int(fields[1]), int(fields[19])) if len(fields) > 19 else None  # noqa: PLR2004  proc(5): field 22


def alive(pid: int, ticks: int) -> bool:
    """Whether the process of this pid and start still runs; a zombie does not."""
    stat = read_stat(pid)
    return stat is not None and stat.ticks == ticks and stat.state not in "ZX"


def pids() -> list[int]:
    """All processes that /proc shows."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  as above


def handle_of(pid: int) -> int | None:
    """A pidfd, which a later process of the same pid cannot take over; None where the kernel has none."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except OSError:
        return None


def send(pid: int, ticks: int, signum: int) -> bool:
    """Signals the process of this pid and start, never a later one of the same pid."""
    try:
        handle = handle_of(pid)
        if handle is None:
            if alive(pid, ticks):
                os.kill(pid, signum)
                return True
            return False
    except OSError:
        return False
    try:
        if not alive(pid, ticks):
            return False
        signal.pidfd_send_signal(handle, signum)
    except OSError:
        return False
    finally:
        os.close(handle)
    return True


def descendants(root: int) -> list[tuple[int, int]]:
    """(pid, start ticks) of every live process below `root`."""
    children: dict[int, list[tuple[int, int]]] = {}
    for pid in pids():
        stat = read_stat(pid)
        if stat is not None and stat.state not in "ZX":
            children.setdefault(stat.ppid, []).append((pid, stat.ticks))
    found: list[tuple[int, int]] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += [pid for pid, _ in below]
    return found


def prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), f"prctl({option})")


class Guard:
    """The engine's parent: one per engine, single-threaded, driven by events only."""

    def __init__(
        self, *, lifeline: int, status: int, owner: tuple[int, int], wake: int, after: Sequence[str] = ()
    ) -> None:
        self.after = list(after)
        self.lifeline = lifeline
        self.status = status
        self.owner = owner
        self.wake = wake
        self.engine = -1
        self.code: int | None = None
        self.owner_handle: int | None = None
        self.orphan = not self.watch_owner()

    def watch_owner(self) -> bool:
        """Takes a handle that turns readable when the owner dies, even where a fork of it holds the lifeline."""
        pid, ticks = self.owner
        try:
            self.owner_handle = handle_of(pid)
        except ProcessLookupError:
            return False
        return alive(pid, ticks)

    def say(self, **message: object) -> None:
        try:
            os.write(self.status, json.dumps(message).encode() + b"\n")
        except OSError:
            return  # the owner is gone, and with it whoever would read

    def start(self, argv: list[str], lease: str) -> None:
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            become(argv, me, lease)
        self.engine = pid
        self.say(guard=me, engine=pid)

    def reap(self) -> bool:
        """Collects the dead; True while something below still lives."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self.engine:
                self.code = os.waitstatus_to_exitcode(status)

    def wait(self, timeout_s: float | None) -> str | None:
        """The next thing that happens: `child`, `lost`, a command of the owner, or None at the timeout."""
        poller = select.poll()
        if self.orphan:
            return "lost"
        for handle in (self.wake, self.lifeline, self.owner_handle):
            if handle is not None:
                poller.register(handle, select.POLLIN)
        events = dict(poller.poll(None if timeout_s is None else timeout_s * 1000))
        if self.owner_handle in events:
            return "lost"
        if self.lifeline in events:
            return os.read(self.lifeline, 64).decode(errors="replace") or "lost"
        if self.wake in events:
            os.read(self.wake, 4096)
            return "child"
        return None

    def terminate(self, grace_s: float) -> None:
        """Asks everything to end; returns when it did, at the deadline, or when the owner is lost."""
        deadline = time.monotonic() + grace_s
        for signum in (signal.SIGTERM, signal.SIGCONT):
            for pid, ticks in descendants(os.getpid()):
                send(pid, ticks, signum)
        while self.reap() and (left := deadline - time.monotonic()) > 0:
            if self.wait(left) == "lost":
                return

    def kill_all(self) -> bool:
        """Kills everything below; True when all is gone within `STUCK_S`, then it goes on regardless."""
        deadline = time.monotonic() + STUCK_S
        clean = True
        while True:
            for pid, ticks in descendants(os.getpid()):
                send(pid, ticks, signal.SIGKILL)
            if not self.reap():
                return clean
            if clean and time.monotonic() > deadline:
                clean = False
                self.say(code=self.code, cause="stuck", clean=False)
            if select.select([self.wake], [], [], 0.01)[0]:
                os.read(self.wake, 4096)

    def run(self) -> None:
        cause = "exited"
        while self.reap() and self.code is None:
            event = self.wait(None)
            if event is None or event == "child":
                continue
            cause = "owner_lost" if event == "lost" else "stopped"
            if cause == "stopped":
                self.terminate(grace_of(event))
            break
        clean = self.kill_all()
        clean = self.finish() and clean
        self.say(code=self.code, cause=cause, clean=clean)

    def finish(self) -> bool:
        """Runs the `after` command, `AFTER_S` at most; False where it failed, so that something may be left."""
        if not self.after:
            return True
        me = os.getpid()
        pid = os.fork()
        if pid == 0:
            become(self.after, me, None)
        deadline = time.monotonic() + AFTER_S
        while (left := deadline - time.monotonic()) > 0:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                return self.kill_all() and status == 0
            if select.select([self.wake], [], [], left)[0]:
                os.read(self.wake, 4096)
        self.kill_all()
        return False


def grace_of(command: str) -> float:
    """Seconds in the owner's last line `q SECONDS`; 0 where there is no number."""
    words = command.split()
    try:
        return float(words[-1])
    except (ValueError, IndexError):
        return 0.0


def become(argv: list[str], guard: int, lease: str | None) -> NoReturn:
    """The forked child turns into the command, and dies with the guard; only the engine bears the lease."""
    try:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(CANNOT_RUN)
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(signum, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)
        os.setsid()
        os.environ.pop(GUARD_ENV, None)
        if lease is not None:
            os.environ[LEASE_ENV] = lease
        os.execvp(argv[0], argv)  # noqa: S606  an argument list: no shell is wanted
    except OSError as error:
        os.write(2, f"guard: cannot run {argv[0]}: {error.strerror}\n".encode())
    os._exit(CANNOT_RUN)


def handle_signals(wake: int) -> None:
    """A child's death becomes a byte on `wake`; only the owner ends the guard."""
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)


def main() -> None:
    order = json.loads(sys.argv[1])
    if os.fork():
        os._exit(0)
    os.setsid()
    for handle in (order["lifeline"], order["status"]):
        os.set_inheritable(handle, False)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    wake, waker = os.pipe()
    handle_signals(waker)
    guard = Guard(
        lifeline=order["lifeline"],
        status=order["status"],
        owner=(order["owner"], order["ticks"]),
        wake=wake,
        after=order["after"],
    )
    guard.start(order["argv"], order["lease"])
    guard.run()
    os._exit(0)


if __name__ == "__main__":
    main()
