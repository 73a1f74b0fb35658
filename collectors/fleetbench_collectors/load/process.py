r"""A process that sends a share of a load: its owner's orders on stdin, what it does on stdout.

    a line with a number of bytes, then so many: (Workload, Share, every_s) pickled
 <- {"ready": true} | {"error": sentence}      connections are open, the warm-up is over
    "go NS\n"                                    when the measured phase starts, on the monotonic clock
 <- {"progress": {...}}                        every `every_s` seconds, where that is not 0
    "stop\n"                                     what is in flight is cancelled
 <- {"tally": {...}}, then the records' columns

It ends with its stdin, or with its owner.
"""

from __future__ import annotations

import json
import os
import pickle
import select
import signal
import sys
import time
from contextlib import closing
from dataclasses import asdict
from typing import Any, BinaryIO

from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.drive import Drive
from fleetbench_collectors.owner import end_with

SHOWN = 256
"""Rows understood for each message of progress, so that whoever watches sees latencies while the trial goes on."""
_UNDERSTOOD_A_TICK = 16


def main() -> None:
    """Serves one load. What else is printed goes to stderr."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(int(sys.argv[1]))
    orders = sys.stdin.buffer.raw if hasattr(sys.stdin.buffer, "raw") else sys.stdin.buffer
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)
        serve(os.fdopen(orders.fileno(), "rb", buffering=0, closefd=False), answers)


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """One load; see above."""
    size = int(_line(orders))
    load, share, every_s = pickle.loads(_exactly(orders, size))  # noqa: S301 - of the process that started this one
    watch = _Watch(orders, answers, every_s)
    try:
        drive = Drive(load, share)
    except (OSError, ValueError) as error:
        _say(answers, {"error": str(error)})
        return
    with closing(drive):
        drive.prepare(watch.stopped)
        _say(answers, {"ready": True})
        go = watch.order()
        if go.startswith(b"go "):
            drive.measure(int(go[3:]), watch)
    _say(answers, {"tally": asdict(drive.tally())})
    drive.records.write(answers)
    answers.flush()


class _Watch:
    """Looks every tick whether to stop, and says how far it is."""

    def __init__(self, orders: BinaryIO, answers: BinaryIO, every_s: float) -> None:
        self._orders = orders
        self._answers = answers
        self._every_s = every_s
        self._next_s = 0.0
        self._shown = 0
        self._stop = False
        self._poll = select.poll()
        self._poll.register(orders.fileno(), select.POLLIN | select.POLLHUP)

    def order(self) -> bytes:
        """The next one; "stop" where it has come already, or where nobody is there to give any."""
        if self._stop:
            return b"stop"
        return _line(self._orders) or b"stop"

    def stopped(self, _client: Client) -> bool:
        """Whether to go on with what is not measured."""
        self._look()
        return not self._stop

    def __call__(self, client: Client) -> bool:
        now_s = time.monotonic()
        if self._every_s:
            for _ in range(_UNDERSTOOD_A_TICK):
                if not client.pile.understand():
                    break
            if now_s >= self._next_s:
                self._next_s = now_s + self._every_s
                _say(self._answers, {"progress": self._progress(client)})
        self._look()
        return not self._stop

    def _look(self) -> None:
        if not self._stop and self._poll.poll(0):
            self._stop = not _line(self._orders).startswith(b"go ")

    def _progress(self, client: Client) -> dict[str, Any]:
        records = client.pile.records
        progress = asdict(client.progress)
        fresh = range(max(self._shown, len(records) - SHOWN), len(records))
        self._shown = len(records)
        return {**progress, "in_flight": client.in_flight, "rows": [records.row(index) for index in fresh]}


def _line(orders: BinaryIO) -> bytes:
    line = bytearray()
    while (byte := orders.read(1)) and byte != b"\n":
        line += byte
    return bytes(line)


def _exactly(orders: BinaryIO, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = orders.read(size - len(data))
        if not piece:
            raise EOFError("the load did not come whole")
        data += piece
    return bytes(data)


def _say(answers: BinaryIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
