"""Records as a table of `tables.REQUESTS`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from fleetbench_collectors.load.record import OUTCOMES, PHASES, UNKNOWN, Records
from fleetbench_collectors.tables import REQUESTS

_STAMPS = ("intended_ns", "start_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "end_ns")
_COUNTS = ("asked_prompt_tok", "asked_output_tok", "prompt_tok", "output_tok", "cached_tok", "chunks")


def table(records: Records, *, key: Mapping[str, Any], zero_ns: int, stamp: str) -> pa.Table:
    """One row a request, in the order of their numbers.

    Args:
        records: times in ns on the monotonic clock.
        key: run_id, trial_id and attempt.
        zero_ns: what the rows' times count from.
        stamp: kernel or user.
    """
    n = len(records)
    numbers = {name: np.asarray(column, dtype=np.int64) for name, column in records.numbers.items()}
    columns: dict[str, Any] = {name: [value] * n for name, value in key.items()}
    columns |= {
        "request": numbers["number"],
        "phase": _names(PHASES, numbers["phase"]),
        "outcome": _names(OUTCOMES, numbers["outcome"]),
        "error": [records.errors.get(position) for position in range(n)],
        "gaps_us": _lists(records.gaps_us, numbers["gaps_n"], pa.uint32()),
        "chunk_tok": _lists(records.chunk_tok, numbers["chunk_tok_n"], pa.int32()),
        "stamp": [stamp] * n,
    }
    columns |= {name: _nullable(numbers[name] - zero_ns, numbers[name]) for name in _STAMPS}
    columns |= {name: _nullable(numbers[name], numbers[name]) for name in _COUNTS}
    arrays = [
        column.cast(field.type) if isinstance(column, pa.Array) else pa.array(column, type=field.type)
        for field in REQUESTS
        for column in (columns[field.name],)
    ]
    return pa.Table.from_arrays(arrays, schema=REQUESTS).sort_by("request")


def _names(names: tuple[str, ...], positions: NDArray[np.int64]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(positions, type=pa.int32()), pa.array(names)).cast(pa.string())


def _nullable(values: NDArray[np.int64], raw: NDArray[np.int64]) -> pa.Array:
    return pa.array(values, mask=raw == UNKNOWN)


def _lists(flat: Any, counts: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    """[n] lists of so many of the flat values each; NULL where the count is unknown."""
    offsets = np.concatenate([[0], np.cumsum(np.maximum(counts, 0))]).astype(np.int32)
    values = pa.array(np.asarray(flat), type=kind)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=pa.array(counts == UNKNOWN))
