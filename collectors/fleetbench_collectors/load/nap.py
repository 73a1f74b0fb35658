"""How long a client sleeps before it looks for more to read."""

from __future__ import annotations

_RATE_PER_S = 20_000
_READS = 32
_MIN_S, MAX_S = 0.0001, 0.0005
_GAP_RATIO = 0.05


class Nap:
    """Waking for each read costs more than reading it, so above a rate the client sleeps until some are there.

    No longer than a small part of the mean time between a stream's chunks, and only with kernel stamps: these do not
    move. Chunks that come closer than that are read together, and are one arrival.
    """

    __slots__ = ("_reads", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        self._reads = 0

    def adapt(self, reads: int, since_ns: int, *, flying: int) -> None:
        """To all reads so far, with those of the last `since_ns`, and to the requests in flight."""
        per_s = (reads - self._reads) * 1e9 / since_ns
        self._reads = reads
        self.seconds = 0.0
        if per_s > _RATE_PER_S:
            nap_s = min(_READS / per_s, MAX_S, _GAP_RATIO * flying / per_s)
            self.seconds = nap_s if nap_s >= _MIN_S else 0.0
