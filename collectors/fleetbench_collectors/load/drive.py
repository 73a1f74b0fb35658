"""One process's share of a load, from the first connection to the last row."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from itertools import chain, islice

from fleetbench_collectors.load.ahead import AHEAD_BYTES
from fleetbench_collectors.load.client import Client
from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.record import OUTCOMES, PHASES, Records
from fleetbench_collectors.load.source import Source
from fleetbench_collectors.load.tally import Tally
from fleetbench_collectors.load.workload import Share, Workload

WARMUP_PLACES = 8
"""Requests in flight that an open loop warms up with."""
SPARE_PLACES = 64
"""Connections that an open loop opens beforehand; more follow as requests need them."""
TIMEOUTS_MIN = 3
"""So many requests, or all places if they are more, that all end by their time limit: the rest would only wait too."""
FAILURES_MAX = 1_000
"""So many requests, or all places if they are more, that failed somehow one after the other: a server that refuses at
once, or that is gone, would be asked ten thousand times a second."""

_FILES = 32
"""That a process has open beside its connections."""
_FILES_WANTED = 65_536


class Drive:
    """Sends a share: `prepare`, then `measure`; what came of it is in `records` and `tally`."""

    def __init__(self, load: Workload, share: Share) -> None:
        """Reads what files there are to read.

        Raises:
            ValueError: the load makes no sense, or a file of it.
            OSError: a file cannot be read.
        """
        self._load = load
        self._share = share
        _check_files(max(share.of(load.places), 1) if load.batch else SPARE_PLACES)
        self._source = Source(load, share)
        self._places = max(share.of(load.places), 1)
        self.client = Client(
            load.target,
            places=self._places,
            timeout_s=load.request_timeout_s,
            response_max_bytes=self._source.response_max_bytes,
            kernel=load.kernel,
        )
        self._measured: Iterator[Request] = iter(())
        self._completed = self._failed = 0
        self._cpu_s = 0.0
        self._wall_s = 0.0

    @property
    def records(self) -> Records:
        return self.client.pile.records

    def prepare(self, watch: Callable[[Client], bool] | None = None) -> None:
        """Warms up and opens the connections of the measured phase."""
        load, share = self._load, self._share
        if load.warmup.requests:
            # An open loop has far more places than it will use.
            places = self._places if load.batch else max(share.of(WARMUP_PLACES), 1)
            self.client.warm(min(places, max(share.of(load.warmup.requests), 1)))
            self._run(self._source.warmup(), "warmup", zero_ns=0, until_ns=None, watch=watch, places=places)
        spare = self._places if load.batch else max(share.of(SPARE_PLACES), 1)
        self._measured = self._serialised()
        self.client.warm(min(spare, load.requests or spare))

    def measure(self, zero_ns: int, watch: Callable[[Client], bool] | None = None) -> None:
        """Sends the measured requests from `zero_ns` of the monotonic clock on.

        What is due in an open loop is sent, however late: only a closed loop ends by the clock.
        """
        began_s, cpu_s = time.monotonic(), time.process_time()
        seconds = self._load.seconds
        until_ns = None if seconds is None or self._load.batch is None else zero_ns + int(seconds * 1e9)
        self._run(self._measured, "measure", zero_ns=zero_ns, until_ns=until_ns, watch=watch)
        self._cpu_s, self._wall_s = time.process_time() - cpu_s, time.monotonic() - began_s
        self.client.pile.understand_all()

    def tally(self) -> Tally:
        client = self.client
        return Tally(
            cpu_s=self._cpu_s,
            wall_s=self._wall_s,
            stamped_kernel=client.reading.kernel_stamps,
            stamped_user=client.reading.user_stamps,
            lag_us=[lag_ns // 1000 for lag_ns in client.reading.lag.samples_ns],
            step_ns=client.offset.step_ns,
            resent=client.progress.resent,
            way=self._load.target.way,
        )

    def close(self) -> None:
        self.client.__exit__()

    def _serialised(self) -> Iterator[Request]:
        """The measured requests, the first of them made already: what makes them late is no part of the schedule."""
        source = self._source.measured()
        first, size_bytes = [], 0
        for request in islice(source, self._places):
            first.append(request)
            size_bytes += len(request.payload)
            if size_bytes >= AHEAD_BYTES:
                break
        return chain(first, source)

    def _run(
        self,
        requests: Iterator[Request],
        phase: str,
        *,
        zero_ns: int,
        until_ns: int | None,
        watch: Callable[[Client], bool] | None,
        places: int | None = None,
    ) -> None:
        """Until there are no more requests, or somebody ends it, or nothing goes well."""

        def goes_on(client: Client) -> bool:
            return (watch is None or watch(client)) and not self._hopeless(phase)

        self._completed = self._failed = 0
        self.client.run(requests, phase=phase, zero_ns=zero_ns, until_ns=until_ns, places=places, watch=goes_on)

    def _hopeless(self, phase: str) -> bool:
        """Whether nothing has gone well for long, or nothing at all in the phase."""
        progress, pile = self.client.progress, self.client.pile
        if progress.completed != self._completed:
            self._completed, self._failed = progress.completed, progress.failed
        if progress.failed - self._failed >= max(FAILURES_MAX, self._places):
            return True
        if progress.completed or progress.failed < max(TIMEOUTS_MIN, self._places):
            return False
        pile.understand_all()
        rows = zip(pile.records.numbers["phase"], pile.records.numbers["outcome"], strict=True)
        return {outcome for at, outcome in rows if at == PHASES.index(phase)} <= {OUTCOMES.index("timeout")}


def _check_files(connections: int) -> None:
    """Raises what the process may open to what it is allowed to; ValueError where that is not enough."""
    needed = connections + _FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ValueError(f"{connections} connections need {needed} open files, and {hard} are allowed (ulimit -n)")
    if soft != resource.RLIM_INFINITY and soft < max(needed, _FILES_WANTED):
        most = _FILES_WANTED if hard == resource.RLIM_INFINITY else hard
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(most, needed), hard))
