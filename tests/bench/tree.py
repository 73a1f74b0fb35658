"""Runs a program to its end, and says what it and all its descendants took. Linux only: reads /proc."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_S = 0.05
_LISTING_EVERY = 4
"""Samples between two looks for new processes: each thread of each process has to be asked."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ORPHANS_END_S = 10
_PSS_STEP_RATIO = 1.01
"""PSS is read only where RSS is this much above the last reading: to walk all pages slows what is measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the tree had used by then; `cpu_s` has the kernel's tick (10 ms) for each process."""

    at_ns: int
    cpu_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a program took with all its descendants, those that nobody waited for included.

    started_ns: just before the program was started, on the monotonic clock; returncode: None where it was killed at
    the limit; cpu_s: user and system time, from the kernel's account at each process's end; samples: by time;
    peak_pss_bytes, peak_rss_bytes: the greatest sum over the tree at one time (RSS counts a shared page once for each
    process that has it).
    """

    started_ns: int
    returncode: int | None
    cpu_s: float
    samples: tuple[Sample, ...]
    peak_pss_bytes: int
    peak_rss_bytes: int

    def cpu_after_s(self, at_ns: int) -> float:
        """CPU time used after `at_ns`, linear between the samples."""
        before = Sample(at_ns=self.started_ns, cpu_s=0.0)
        for sample in self.samples:
            if sample.at_ns >= at_ns:
                share_ratio = (at_ns - before.at_ns) / max(1, sample.at_ns - before.at_ns)
                return self.cpu_s - before.cpu_s - share_ratio * (sample.cpu_s - before.cpu_s)
            before = sample
        return self.cpu_s - before.cpu_s


@dataclass(slots=True, kw_only=True)
class _Watch:
    """Samples a tree; `cpu_s` never falls, for a process may end between two samples and be waited for later."""

    samples: list[Sample] = field(default_factory=list)
    cpu_s: float = 0.0
    peak_pss_bytes: int = 0
    peak_rss_bytes: int = 0
    _pss_at_rss_bytes: int = 0

    def look(self, pids: Sequence[int]) -> None:
        self.cpu_s = max(self.cpu_s, sum(map(_cpu_s, pids)))
        self.samples.append(Sample(at_ns=time.monotonic_ns(), cpu_s=self.cpu_s))
        rss_bytes = sum(map(_rss_bytes, pids))
        self.peak_rss_bytes = max(self.peak_rss_bytes, rss_bytes)
        if rss_bytes > self._pss_at_rss_bytes * _PSS_STEP_RATIO:
            self._pss_at_rss_bytes = rss_bytes
            self.peak_pss_bytes = max(self.peak_pss_bytes, sum(map(_pss_bytes, pids)))


@contextmanager
def pinned(cores: set[int]) -> Iterator[None]:
    """This thread, and what it starts meanwhile, runs on these cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(
    command: Sequence[str], *, cores: set[int], folder: Path, environment: Mapping[str, str], limit_s: float
) -> Usage:
    """Runs the command in `folder`, which also gets its output (the files `stdout` and `stderr`).

    Raises:
        OSError: it cannot be started.
    """
    strangers = set(_children(os.getpid()))
    watch = _Watch()
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        started_ns = time.monotonic_ns()
        with pinned(cores):
            # Waited for by its pid, for the account: Popen's own wait would lose it.
            process = subprocess.Popen(
                command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=err
            )
    _adopt_orphans(wanted=True)
    in_time = False
    try:
        in_time = _sample_until_end(process.pid, watch, strangers, limit_s)
    finally:
        if not in_time:
            for pid in [*_descendants(process.pid), process.pid]:
                _kill(pid)
        _, status, account = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        orphans_cpu_s = _reap_orphans(strangers)
        _adopt_orphans(wanted=False)
    return Usage(
        started_ns=started_ns,
        returncode=process.returncode if in_time else None,
        cpu_s=account.ru_utime + account.ru_stime + orphans_cpu_s,
        samples=tuple(watch.samples),
        peak_pss_bytes=watch.peak_pss_bytes,
        peak_rss_bytes=watch.peak_rss_bytes,
    )


def _adopt_orphans(*, wanted: bool) -> None:
    """What a parent leaves behind becomes a child of this process, so that its account comes here too."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0)


def _sample_until_end(pid: int, watch: _Watch, strangers: set[int], limit_s: float) -> bool:
    """False where the limit came first."""
    ends_s = time.monotonic() + limit_s
    ended = os.pidfd_open(pid)
    try:
        for number in count():
            if number % _LISTING_EVERY == 0:
                orphans = [child for child in _children(os.getpid()) if child not in strangers and child != pid]
                pids = [member for top in (pid, *orphans) for member in (top, *_descendants(top))]
            watch.look(pids)
            if select.select([ended], [], [], _SAMPLE_S)[0]:
                return True
            if time.monotonic() > ends_s:
                break
        return False
    finally:
        os.close(ended)


def _reap_orphans(strangers: set[int]) -> float:
    """CPU seconds of what the program left behind; what does not end soon is killed."""
    cpu_s, kill_s = 0.0, time.monotonic() + _ORPHANS_END_S
    while orphans := [child for child in _children(os.getpid()) if child not in strangers]:
        for orphan in orphans:
            if time.monotonic() > kill_s:
                _kill(orphan)
            pid, _, account = os.wait4(orphan, os.WNOHANG)
            cpu_s += account.ru_utime + account.ru_stime if pid else 0.0
        time.sleep(_SAMPLE_S)
    return cpu_s


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> list[int]:
    found = []
    for child in _children(pid):
        found += [child, *_descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    """Any thread may have started one, and each thread lists its own."""
    try:
        return [
            int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _read(task / "children").split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _read(path: Path) -> str:
    """Empty where the process has ended meanwhile."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _cpu_s(pid: int) -> float:
    """Of the process and of those of its children that it has waited for."""
    # The name, in parentheses, may hold spaces.
    numbers = _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()
    return sum(map(int, numbers[11:15])) * _TICK_S


def _rss_bytes(pid: int) -> int:
    numbers = _read(Path(f"/proc/{pid}/statm")).split()
    return int(numbers[1]) * _PAGE_BYTES if numbers else 0


def _pss_bytes(pid: int) -> int:
    lines = _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
