"""What the requests of a trial came to, column by column: 8 bytes a number, no object per request or token."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, BinaryIO

from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.parse import Reply

OUTCOMES = ("ok", "http_error", "transport_error", "timeout", "protocol_error", "cancelled")
PHASES = ("warmup", "measure")
UNKNOWN = -1
"""Stands for NULL in the columns of whole numbers: none of them is negative by nature."""
P99_SAMPLES = 100
"""Below this many samples the 99th percentile is an extrapolation, and NULL in `trials`."""
NUMBERS = (
    "number",
    "phase",
    "outcome",
    "intended_ns",
    "begun_ns",
    "start_ns",
    "first_byte_ns",
    "first_token_ns",
    "last_token_ns",
    "end_ns",
    "over_ns",
    "asked_prompt_tok",
    "asked_output_tok",
    "prompt_tok",
    "output_tok",
    "cached_tok",
    "chunks",
    "gaps_n",
    "chunk_tok_n",
)
"""begun_ns: when the client took a request up, before it had a connection; over_ns: when it was done with it, however
it ended; the other times as in `tables.REQUESTS`. phase and outcome are positions in PHASES and OUTCOMES; gaps_n and
chunk_tok_n say how many of the flat columns belong to a request, in the order of the rows."""
_LONGEST_GAP_US = 2**32 - 1


class Records:
    """Rows of `tables.REQUESTS` as columns; times in ns on the host's monotonic clock.

    numbers: by name of NUMBERS, int64, one a request; gaps_us: between successive arrivals of all requests;
    chunk_tok: tokens of each arrival, of the requests that have a chunk_tok_n; errors: by position of the row.
    """

    __slots__ = ("chunk_tok", "errors", "gaps_us", "numbers")

    def __init__(self) -> None:
        self.numbers: dict[str, array[int]] = {name: array("q") for name in NUMBERS}
        self.gaps_us = array("I")
        self.chunk_tok = array("I")
        self.errors: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.numbers["number"])

    def add(
        self,
        request: Request,
        phase: str,
        *,
        intended_ns: int,
        start_ns: int,
        reply: Reply,
        begun_ns: int | None = None,
        over_ns: int | None = None,
    ) -> None:
        """One request more. `intended_ns` is `start_ns` in a closed loop."""
        if reply.error is not None:
            self.errors[len(self)] = reply.error
        stamps, tokens = reply.token_ns, reply.chunk_tok
        values = {
            "number": request.number,
            "phase": PHASES.index(phase),
            "outcome": OUTCOMES.index(reply.outcome),
            "intended_ns": intended_ns,
            "begun_ns": begun_ns,
            "start_ns": start_ns,
            "first_byte_ns": reply.first_byte_ns,
            "first_token_ns": stamps[0] if stamps else None,
            "last_token_ns": stamps[-1] if stamps else None,
            "end_ns": reply.end_ns,
            "over_ns": over_ns,
            "asked_prompt_tok": request.prompt_tok,
            "asked_output_tok": request.output_tok,
            "prompt_tok": reply.prompt_tok,
            "output_tok": reply.output_tok,
            "cached_tok": reply.cached_tok,
            "chunks": reply.chunks,
            "gaps_n": len(stamps) - 1 if stamps else None,
            "chunk_tok_n": None if tokens is None else len(tokens),
        }
        for name, value in values.items():
            self.numbers[name].append(UNKNOWN if value is None else value)
        self.gaps_us.extend(gaps_us(stamps))
        if tokens is not None:
            self.chunk_tok.extend(tokens)

    def row(self, index: int) -> dict[str, int]:
        """A request's whole numbers."""
        return {name: column[index] for name, column in self.numbers.items()}

    def extend(self, other: Records) -> None:
        """Takes over the rows of another process, as they are."""
        self.errors |= {position + len(self): error for position, error in other.errors.items()}
        for name, column in self.numbers.items():
            column.extend(other.numbers[name])
        self.gaps_us.extend(other.gaps_us)
        self.chunk_tok.extend(other.chunk_tok)

    def write(self, sink: BinaryIO) -> None:
        """One JSON line that says how much follows, then the columns' bytes, little-endian."""
        columns = [*self.numbers.values(), self.gaps_us, self.chunk_tok]
        said = {
            "rows": len(self),
            "gaps": len(self.gaps_us),
            "chunk_tok": len(self.chunk_tok),
            "errors": {str(position): error for position, error in self.errors.items()},
        }
        sink.write(json.dumps(said).encode() + b"\n")
        sink.writelines(_little(column).tobytes() for column in columns)

    @classmethod
    def read(cls, source: BinaryIO) -> Records:
        """What `write` wrote.

        Raises:
            EOFError: the source ended before it was whole.
        """
        line = source.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        said: dict[str, Any] = json.loads(line)
        found = cls()
        for column in found.numbers.values():
            _fill(column, source, said["rows"])
        _fill(found.gaps_us, source, said["gaps"])
        _fill(found.chunk_tok, source, said["chunk_tok"])
        found.errors = {int(position): error for position, error in said["errors"].items()}
        return found


def gaps_us(stamps: Sequence[int]) -> array[int]:
    """Between successive stamps in ns, in whole microseconds."""
    if len(stamps) < 2:  # noqa: PLR2004 - a gap has two ends
        return array("I")
    return array("I", [min((after - before + 500) // 1000, _LONGEST_GAP_US) for before, after in pairwise(stamps)])


def _little(column: array[int]) -> array[int]:
    if sys.byteorder == "little":
        return column
    swapped = array(column.typecode, column)
    swapped.byteswap()
    return swapped


def _fill(column: array[int], source: BinaryIO, n: int) -> None:
    data = source.read(n * column.itemsize)
    if len(data) < n * column.itemsize:
        raise EOFError
    column.frombytes(data)
    if sys.byteorder != "little":
        column.byteswap()
