"""A launch's process ends by itself where it cannot reach its controller."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import ray

BEAT_S = 3.0
ANSWER_S = 5.0
ALONE_S = 25.0
"""Without a word of the controller a launch ends: before the cluster gives its node up (Ray: after 64 s) and starts it
again elsewhere."""
ALONE_ENV = "FLEETBENCH_ALONE_S"
"""In a node's environment, in place of ALONE_S: for a cluster whose health checks (RAY_health_check_*) are quicker."""


def end_when_alone(desk: str) -> None:
    """End this process, and with it the engine, once the controller at that desk has not answered for a while.

    Who asks and who counts are two threads: on a node that is cut off, a call to Ray may not return for a minute.
    """
    company = _Company(desk, float(os.environ.get(ALONE_ENV, ALONE_S)))
    for work in (company.ask, company.count):
        threading.Thread(target=work, daemon=True).start()


class _Company:
    def __init__(self, desk: str, alone_s: float) -> None:
        self._desk, self._alone_s = desk, alone_s
        self._heard_s = time.monotonic()

    def ask(self) -> None:
        actor: Any = None
        while True:
            try:
                actor = actor or ray.get_actor(self._desk)
                ray.get(actor.beat.remote(), timeout=ANSWER_S)
                self._heard_s = time.monotonic()
            except Exception:  # noqa: BLE001 - whatever it is, nobody was reached
                actor = None  # a controller may have opened another desk
            time.sleep(min(BEAT_S, self._alone_s / 4))

    def count(self) -> None:
        while (left_s := self._heard_s + self._alone_s - time.monotonic()) > 0:
            time.sleep(left_s)
        os._exit(1)
