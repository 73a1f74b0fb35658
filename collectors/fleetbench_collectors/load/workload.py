"""What a load is: whom it asks, for what, and when. It crosses to the processes that send it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleetbench_collectors.load.arrivals import Process, Profile
from fleetbench_collectors.load.lengths import Lengths
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.wire import Endpoint
from fleetbench_collectors.load.words import Calibration

IN_FLIGHT_MAX = 4_096
"""Of an open loop, where nothing else is asked for: what more is due waits in the client, and is late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ids:
    """Prompts of token ids, `overhead_tok` fewer than asked for where the server adds some of its own."""

    ids: range | tuple[int, ...]
    overhead_tok: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """Prompts of words whose cost the calibration knows."""

    plan: Calibration


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """Prompts of a file; `unique` puts a line of its own before each, so that no cache helps."""

    path: str
    unique: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Requests start when they are due, whatever the server does."""

    profile: Profile
    process: Process
    burstiness: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """A trace says when requests start and how long they are; `speed` 2 replays it in half the time."""

    path: str
    speed: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Requests before the measured ones, in a closed loop, kept apart."""

    requests: int = 0
    context_tok: int = 1
    output_tok: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A load on one server.

    places: requests in flight: held there where `arrivals` is None, at most that many else; requests: how many
    are sent, None for as many as start within `seconds`; context, output: lengths of prompt and answer, in
    tokens (a file's prompts and a trace's requests have their own); shared_tok: tokens that all prompts begin
    with; seed, nonce: of cell and trial; request_timeout_s: from a request's start to its last byte; kernel:
    kernel receive stamps where they are to be had.
    """

    target: Target
    endpoint: Endpoint
    model: str
    places: int
    arrivals: OpenLoop | Replay | None
    requests: int | None
    seconds: float | None
    context: Lengths
    output: Lengths
    prompts: Ids | Words | File
    seed: int
    nonce: str
    request_timeout_s: float
    shared_tok: int = 0
    warmup: Warmup = Warmup()
    headers: Mapping[str, str] = field(default_factory=dict)
    api_key: str | None = field(default=None, repr=False)
    body: Mapping[str, Any] = field(default_factory=dict)
    kernel: bool = True

    @property
    def batch(self) -> int | None:
        """Requests held in flight; None in an open loop."""
        return self.places if self.arrivals is None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One process's part of a load: of `processes`, the one with this position, from 0."""

    position: int = 0
    processes: int = 1

    def of(self, n: int) -> int:
        """Its part of n, to within one."""
        return n // self.processes + (self.position < n % self.processes)

    def mine(self, index: int, places: int | None) -> bool:
        """Whether the request of this index is its own: by the place that it would take in a closed loop of so many
        places, so that each process has requests for all of its places; in turn in an open loop (None).
        """  # noqa: D205 - one sentence
        slot = index if places is None else index % places
        return slot % self.processes == self.position
