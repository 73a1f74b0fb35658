"""Several processes that send one load together: started, told to go at one instant, merged."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import IO, Any, BinaryIO, Self, cast

from fleetbench_collectors.load.record import Records
from fleetbench_collectors.load.tally import Tally
from fleetbench_collectors.load.workload import Share, Workload

_TOGETHER_NS = 20_000_000
"""Several processes, and a schedule, start this long after the last process is ready; a closed loop of one at once."""
_LOG_BYTES = 2_000
_EXIT_S = 5.0
_PATIENCE_S = 3.0
_LOOK_S = 0.2


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a load came to: all rows, one tally for each process that ended well, a sentence for each that did not.

    zero_ns: when the measured phase began, on the monotonic clock; None where it never did.
    """

    records: Records = field(default_factory=Records)
    tallies: list[Tally] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    zero_ns: int | None = None
    stopped: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """What a process said; `kind` is ready, error, progress, done or died, and stop is the owner's own."""

    kind: str
    position: int = 0
    value: Any = None


class Crew:
    """Starts its processes at once; they load while their owner still finds out what to send.

    `stop` may be called at any time, by a signal handler too.
    """

    def __init__(self, processes: int) -> None:
        self._messages: SimpleQueue[Message] = SimpleQueue()
        self._logs: list[IO[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._threads: list[threading.Thread] = []
        self._stopped_s: float | None = None
        for _ in range(processes):
            self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        for thread in self._threads:
            thread.join()
        for process, log in zip(self._processes, self._logs, strict=True):
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()
            log.close()

    def stop(self) -> None:
        """Has the load end now: what is in flight is cancelled.

        Processes that have not ended when it is asked again, some seconds later, are killed with what they know.
        """
        if self._stopped_s is not None and time.monotonic() - self._stopped_s > _PATIENCE_S:
            for process in self._processes:
                process.kill()
        self._stopped_s = self._stopped_s or time.monotonic()
        self._messages.put(Message(kind="stop"))

    def run(
        self, load: Workload, *, every_s: float = 0.0, watch: Callable[[int, dict[str, Any]], None] | None = None
    ) -> Outcome:
        """Sends the load.

        Args:
            load: split evenly among the processes.
            every_s: how often each says how far it is; 0 for never.
            watch: called with a process's position and what it said.

        Raises:
            ValueError: the load makes no sense, or a file of it.
        """
        outcome = Outcome()
        waiting = set(range(len(self._processes)))
        ready: set[int] = set()
        self._hand_out(load, every_s)
        while waiting:
            message = self._next()
            match message.kind:
                case "stop":
                    outcome.stopped = True
                    if outcome.zero_ns is None:
                        return outcome  # nothing is measured yet: processes that still connect need not be waited for
                    self._order_all(b"stop\n")
                case "error":
                    raise ValueError(message.value)
                case "ready":
                    ready.add(message.position)
                case "progress":
                    if watch is not None:
                        watch(message.position, message.value)
                case "done":
                    waiting.discard(message.position)
                    tally, records = message.value
                    outcome.tallies.append(tally)
                    outcome.records.extend(records)
                case _:
                    waiting.discard(message.position)
                    outcome.failures.append(message.value)
            if outcome.zero_ns is None and waiting and ready >= waiting:
                outcome.zero_ns = self._go(load)
        return outcome

    def _next(self) -> Message:
        """In short waits: a signal that comes just before a long one would be heard only after it."""
        while True:
            with contextlib.suppress(Empty):
                return self._messages.get(timeout=_LOOK_S)

    def _start(self) -> None:
        log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `__exit__`
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fleetbench_collectors.load.process", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )
        thread = threading.Thread(target=self._listen, args=(len(self._processes), process, log), daemon=True)
        self._logs.append(log)
        self._processes.append(process)
        self._threads.append(thread)
        thread.start()

    def _listen(self, position: int, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        """Turns what a process says into messages, until it ends."""
        done = False
        source = process.stdout
        while source is not None and (line := source.readline()).endswith(b"\n"):
            said = json.loads(line)
            if "tally" in said:
                with contextlib.suppress(EOFError):
                    value = (Tally(**said["tally"]), Records.read(cast("BinaryIO", source)))
                    self._messages.put(Message(kind="done", position=position, value=value))
                    done = True
                break
            kind = next(iter(said))
            done |= kind == "error"
            self._messages.put(Message(kind=kind, position=position, value=said[kind]))
        if not done:
            self._messages.put(Message(kind="died", position=position, value=_death(process, log)))

    def _hand_out(self, load: Workload, every_s: float) -> None:
        for position in range(len(self._processes)):
            share = Share(position=position, processes=len(self._processes))
            data = pickle.dumps((load, share, every_s))
            self._order(position, b"%d\n%s" % (len(data), data))

    def _go(self, load: Workload) -> int:
        """Tells all when the measured phase begins, on the monotonic clock."""
        timed = len(self._processes) > 1 or load.arrivals is not None
        zero_ns = time.monotonic_ns() + (_TOGETHER_NS if timed else 0)
        self._order_all(b"go %d\n" % zero_ns)
        return zero_ns

    def _order_all(self, order: bytes) -> None:
        for position in range(len(self._processes)):
            self._order(position, order)

    def _order(self, position: int, order: bytes) -> None:
        """An order that comes too late is none: a process that has ended says so by itself."""
        pipe = self._processes[position].stdin
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.write(order)
                pipe.flush()


def _death(process: subprocess.Popen[bytes], log: IO[bytes]) -> str:
    try:
        code = process.wait(_EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    log.seek(0, os.SEEK_END)
    log.seek(max(log.tell() - _LOG_BYTES, 0))
    lines = log.read().decode(errors="replace").strip().splitlines()
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    return f"a process of the load generator ended {how}: {lines[-1] if lines else 'it said nothing'}"
