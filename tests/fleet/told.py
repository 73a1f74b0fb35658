"""A run's status for tests."""

from __future__ import annotations

import os
import socket
from collections import Counter
from dataclasses import replace
from typing import Any

from fleetbench.fleet.control.status import LaunchStatus, RunStatus

LAUNCH = LaunchStatus(
    launch_id="launch1",
    label="tiny f16",
    hardware="sim-h100",
    attempt=0,
    node="node-1",
    trial="batch 1, context 16",
    done=1,
    trials=3,
    since_s=1_790_000_000.0,
)
STATUS = RunStatus(
    run_id="0123456789ab",
    run="nightly",
    matrix="zoo",
    state="running",
    host=socket.gethostname(),
    pid=os.getpid(),
    address=None,
    submitted_s=1_790_000_000.0,
    updated_s=1_790_000_010.0,
    trials=6,
    outcomes=Counter(ok=2, oom=1),
    waiting=1,
    running=(LAUNCH,),
    blocked={"h200": "no node of this kind"},
    left_s=75.0,
)


def status(**changes: Any) -> RunStatus:
    return replace(STATUS, **changes)
