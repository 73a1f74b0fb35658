"""How late the client reads: sampled, so that measuring it costs nothing."""

from __future__ import annotations

from array import array

_SAMPLES_MAX = 8_192


class Lag:
    """Samples of the time from a read's arrival to its reading, ns.

    With kernel stamps of the first read of a batch, which has waited longest; else of the last, from the start of the
    batch on: less than the whole. Every batch at first. Once there are 8,192, every other is dropped and they are
    taken half as often, by the number of reads: long batches hold more, so the samples stand for reads, not for
    batches.
    """

    __slots__ = ("_every", "_left", "samples_ns")

    def __init__(self) -> None:
        self.samples_ns = array("q")
        self._every = 1
        self._left = 1

    def due(self, reads: int) -> bool:
        """Whether the batch of so many reads is to be sampled."""
        self._left -= reads
        if self._left > 0:
            return False
        self._left = self._every
        return True

    def add(self, lag_ns: int) -> None:
        self.samples_ns.append(max(lag_ns, 0))
        if len(self.samples_ns) >= _SAMPLES_MAX:
            self.samples_ns = self.samples_ns[::2]
            self._every *= 2
