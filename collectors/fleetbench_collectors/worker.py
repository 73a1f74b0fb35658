"""The process that measures, from its owner's side: started, asked, given up on in time.

Run as a program it is that process; `serving` says what goes over its pipes.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from fleetbench_collectors.load.evidence import Evidence

_TAIL_BYTES = 4_096
_EXIT_S = 2.0


class WorkerDied(Exception):  # noqa: N818 - what happened, as the launch actor's outcome says it
    """The worker's process ended before it answered."""

    def __init__(self, returncode: int | None, log_tail: str) -> None:
        super().__init__(returncode, log_tail)
        self.returncode, self.log_tail = returncode, log_tail

    def __str__(self) -> str:
        code = self.returncode
        how = "with its pipe" if code is None else f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"the load worker ended {how}: {self.log_tail.strip() or 'it said nothing'}"


class WorkerTimeout(Exception):  # noqa: N818 - as above
    """The worker did not answer in time, and was killed."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s)
        self.timeout_s = timeout_s

    def __str__(self) -> str:
        return f"no answer of the load worker within {self.timeout_s:g} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a trial came to.

    tables: Arrow files by table; summary: columns of `trials`; window: start and end of what was measured, in
    ns on the host's monotonic clock; evidence: what a load certifies itself by; kind, error: where it is not ok.
    """

    ok: bool
    tables: Mapping[str, Path]
    summary: Mapping[str, Any]
    window: tuple[int, int] | None
    evidence: Evidence | None
    kind: str | None
    error: str | None


class Worker:
    """A running `fleetbench_collectors.worker`. Serves one trial after the other."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._unread = bytearray()

    @classmethod
    def start(cls, *, log: Path, env: Mapping[str, str] | None = None) -> Worker:
        """Starts one. `env` is its whole environment, the lease included; its stderr goes to `log`."""
        argv = [sys.executable, "-P", "-m", "fleetbench_collectors.worker", str(os.getpid())]
        with log.open("ab") as stderr:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=None if env is None else dict(env),
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        return self._process.pid

    def alive(self) -> bool:
        return self._process.poll() is None

    def run(self, spec: Mapping[str, Any], timeout_s: float) -> Answer:
        """One trial. Another thread's `kill` ends it with WorkerDied.

        Raises:
            WorkerTimeout: no answer in time; the worker was killed and serves no more.
            WorkerDied: it ended.
        """
        deadline = time.monotonic() + timeout_s
        try:
            self._ask(json.dumps(dict(spec)).encode() + b"\n")
            line = self._line(deadline)
        except (BrokenPipeError, EOFError, ValueError) as error:
            raise self._death() from error
        if line is None:
            self.kill()
            raise WorkerTimeout(timeout_s)
        return _answer(json.loads(line))

    def close(self) -> None:
        """Ends an idle worker by the end of its stdin; kills one that does not end."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._release()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _release(self) -> None:
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _ask(self, line: bytes) -> None:
        if self._process.stdin is None:
            raise EOFError
        self._process.stdin.write(line)
        self._process.stdin.flush()

    def _line(self, deadline: float) -> bytes | None:
        """The next line of the worker's stdout; None where it does not come in time."""
        if self._process.stdout is None:
            raise EOFError
        source = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(source, select.POLLIN)
        while b"\n" not in self._unread:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            if poll.poll(left_s * 1e3):
                data = os.read(source, 65_536)
                if not data:
                    raise EOFError
                self._unread += data
        line, _, rest = bytes(self._unread).partition(b"\n")
        self._unread = bytearray(rest)
        return line

    def _death(self) -> WorkerDied:
        try:
            returncode: int | None = self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            returncode = None
        return WorkerDied(returncode, _tail(self._log))


def _answer(raw: Mapping[str, Any]) -> Answer:
    window, evidence = raw.get("window"), raw.get("evidence")
    return Answer(
        ok=raw["ok"],
        tables={name: Path(path) for name, path in raw.get("tables", {}).items()},
        summary=raw.get("summary", {}),
        window=None if window is None else (window[0], window[1]),
        evidence=None if evidence is None else Evidence.from_json(evidence),
        kind=raw.get("kind"),
        error=raw.get("error"),
    )


def _tail(log: Path) -> str:
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


if __name__ == "__main__":
    from fleetbench_collectors.serving import main

    main()
