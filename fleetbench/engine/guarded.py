"""The owner's side of a guarded process: start it, ask how it ended, end it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fleetbench.engine import guard, lease
from fleetbench.errors import FleetbenchError

ExitCause = Literal["exited", "stopped", "owner_lost", "stuck", "guard_lost"]
START_S = 30.0
KILL_S = 5.0


class GuardError(FleetbenchError):
    """The guard itself did not come up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exit:
    """How a guarded process ended.

    code: exit status, or minus the signal that killed it; None where nobody saw it (`stuck`, `guard_lost`).
    clean: nothing that it started is left.
    """

    code: int | None
    cause: ExitCause
    clean: bool


class Guarded:
    """One running command and its guard; losing this object ends the command."""

    def __init__(self, *, lifeline: int, status: int, lease: str, after: Sequence[str] = ()) -> None:
        self.lease = lease
        self._after = tuple(after)
        self._kill_s = KILL_S + (guard.AFTER_S if after else 0.0)
        self.engine_pid = -1
        self.guard_pid = -1
        self._status = status
        self._lifeline = lifeline
        self._hang_up = weakref.finalize(self, os.close, lifeline)
        self._close_status = weakref.finalize(self, os.close, status)
        self._buffer = b""
        self._exit: Exit | None = None
        self._lock = threading.RLock()
        self._line = threading.Lock()

    @classmethod
    def start(
        cls, argv: Sequence[str], env: Mapping[str, str], lease: str, log: Path, after: Sequence[str] = ()
    ) -> Guarded:
        """Starts `argv` under a guard; its output replaces `log`.

        Args:
            argv: the command, its program first.
            env: its whole environment; the lease is added.
            lease: names the owner.
            log: where its output goes.
            after: a command that ends what no signal reaches, such as a container; run once all else is dead,
                however that came about, and by the next one who knows where the guard itself was killed.

        Raises:
            OSError: the log cannot be written, or no process can be made.
            GuardError: the guard did not report.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            lifeline_end, lifeline = os.pipe()
            status, status_end = os.pipe()
            self = cls(lifeline=lifeline, status=status, lease=lease, after=after)
            try:
                _spawn(
                    argv,
                    env,
                    lease,
                    after,
                    lifeline_end=lifeline_end,
                    status_end=status_end,
                    output=output.fileno(),
                )
            finally:
                os.close(lifeline_end)
                os.close(status_end)
        first = self._message(START_S)
        if first is None or "engine" not in first:
            self._hang_up()
            self._close_status()
            raise GuardError(f"the engine's guard did not start; see {log}")
        self.guard_pid, self.engine_pid = int(first["guard"]), int(first["engine"])
        return self

    def poll(self) -> Exit | None:
        """How it ended; None while it runs."""
        return self.wait(0.0)

    def wait(self, timeout_s: float) -> Exit | None:
        """Waits for the end; None when it still runs after `timeout_s`."""
        with self._lock:
            if self._exit is None:
                message = self._message(timeout_s)
                if message is not None:
                    return self._end(message)
            return self._exit

    def stop(self, grace_s: float) -> Exit:
        """Terminates, and kills what is left after `grace_s`; idempotent."""
        self._tell(f"q {grace_s}\n", hang_up=False)
        return self.wait(grace_s + self._kill_s) or self.kill()

    def kill(self) -> Exit:
        """Kills everything at once; idempotent."""
        self._tell("q 0\n", hang_up=True)
        with self._lock:
            return self.wait(self._kill_s) or self._end({"cause": "guard_lost"})

    def _tell(self, words: str, *, hang_up: bool) -> None:
        """Says it to the guard; a guard that is gone shows on the status pipe."""
        with self._line:
            if self._hang_up.alive:
                with contextlib.suppress(BrokenPipeError):
                    os.write(self._lifeline, words.encode())
            if hang_up:
                self._hang_up()

    def _end(self, message: dict[str, Any]) -> Exit:
        with self._line:
            self._hang_up()
        self._close_status()
        if message["cause"] == "guard_lost":
            lease.kill_lease(self.lease)
            self._finish()
        self._exit = Exit(code=message.get("code"), cause=message["cause"], clean=message.get("clean", False))
        return self._exit

    def _finish(self) -> None:
        """What the guard would have done last."""
        if self._after:
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                quiet = subprocess.DEVNULL
                subprocess.run(self._after, stdin=quiet, stdout=quiet, stderr=quiet, timeout=guard.AFTER_S, check=False)

    def _message(self, timeout_s: float) -> dict[str, Any] | None:
        """The guard's next line; `guard_lost` where it died; None at the timeout."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._buffer:
            left = max(0.0, deadline - time.monotonic())
            poller = select.poll()
            poller.register(self._status, select.POLLIN)
            if not poller.poll(left * 1000):
                return None
            data = os.read(self._status, 4096)
            if not data:
                return {"cause": "guard_lost"}
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message


def _spawn(
    argv: Sequence[str],
    env: Mapping[str, str],
    lease_text: str,
    after: Sequence[str],
    *,
    lifeline_end: int,
    status_end: int,
    output: int,
) -> None:
    pid = os.getpid()
    me = guard.read_stat(pid)
    order = {
        "argv": list(argv),
        "after": list(after),
        "lease": lease_text,
        "lifeline": lifeline_end,
        "status": status_end,
        "owner": pid,
        "ticks": me.ticks if me else 0,
    }
    kept = {name: value for name, value in env.items() if name != guard.LEASE_ENV}
    subprocess.run(
        [sys.executable, "-I", "-S", str(Path(guard.__file__)), json.dumps(order)],
        env={**kept, guard.GUARD_ENV: lease_text},
        pass_fds=(lifeline_end, status_end),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        timeout=START_S,
        check=False,
    )
