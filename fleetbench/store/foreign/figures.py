"""Requests of a foreign record as our table, and our figures worked out of them anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from fleetbench.store.foreign.record import FIGURES, Figure, ForeignError, Record, Request
from fleetbench_collectors.load import latency
from fleetbench_collectors.load.record import OUTCOMES, PHASES, UNKNOWN, Records
from fleetbench_collectors.load.rows import table

_STAMP = "user"
_LONGEST_GAP_US = 2**32 - 1
_NEEDS_STARTS = ("window_s", "output_tok_s", "total_tok_s", "requests_per_s", "concurrency")
_STAMPS = ("intended_ns", "start_ns", "first_byte_ns", "first_token_ns", "last_token_ns", "end_ns")
_TOKENS = ("asked_prompt_tok", "asked_output_tok", "prompt_tok", "output_tok", "cached_tok")


def requests_table(record: Record, key: Mapping[str, Any]) -> pa.Table:
    """Rows of `requests`; where the file has no starts, each request's times count from its own."""
    return table(_records(record), key=key, zero_ns=0, stamp=_STAMP)


def recomputed(record: Record) -> dict[str, Figure | Mapping[str, Any]]:
    """Our figures from the record's requests; none where a good one lacks its arrivals.

    What needs to know when requests started is left out where the file does not say.
    """
    good = [one for one in record.requests if one.phase == "measure" and one.outcome == "ok"]
    if not good or any(one.first_token_ns is None or one.gaps_ns is None for one in good):
        return {}
    asked = record.figures.get("asked_requests")
    found = latency.summarise(
        _records(record), asked_requests=asked if isinstance(asked, int) else len(record.requests)
    )
    if any(one.start_ns is None for one in record.requests):
        found = {name: value for name, value in found.items() if name not in _NEEDS_STARTS}
    keep = (*FIGURES, "ttft_sketch", "itl_sketch")
    return {
        name: value for name, value in found.items() if name in keep and name != "tokens_from" and value is not None
    }


def _records(record: Record) -> Records:
    records = Records()
    zero_ns = min((one.start_ns for one in record.requests if one.start_ns is not None), default=0)
    for number, one in enumerate(record.requests):
        _add(records, number, one, zero_ns if one.start_ns is not None else 0)
        gaps_us = [round(gap_ns / 1000) for gap_ns in one.gaps_ns or ()]
        if any(not 0 <= gap_us <= _LONGEST_GAP_US for gap_us in gaps_us):
            raise ForeignError(record.where, f"request {number} has a gap of more than {_LONGEST_GAP_US / 1e6:.0f} s")
        records.gaps_us.extend(gaps_us)
        records.chunk_tok.extend(one.chunk_tok or ())
        if one.error is not None:
            records.errors[number] = one.error[:500]
    return records


def _add(records: Records, number: int, one: Request, zero_ns: int) -> None:
    """One request's numbers, its stamps from `zero_ns` on."""
    row: dict[str, int | None] = {
        "number": number,
        "phase": PHASES.index(one.phase),
        "outcome": OUTCOMES.index(one.outcome),
        "gaps_n": None if one.gaps_ns is None else len(one.gaps_ns),
        "chunks": None if one.gaps_ns is None else len(one.gaps_ns) + (one.first_token_ns is not None),
        "chunk_tok_n": None if one.chunk_tok is None else len(one.chunk_tok),
        **{name: _since(getattr(one, name), zero_ns) for name in _STAMPS},
        **{name: getattr(one, name) for name in _TOKENS},
    }
    row["start_ns"] = row["start_ns"] or 0
    row["over_ns"] = row["end_ns"]
    for asked in ("asked_prompt_tok", "asked_output_tok"):
        row[asked] = row[asked] or 0
    for name, column in records.numbers.items():
        value = row.get(name)
        column.append(UNKNOWN if value is None else value)


def _since(stamp_ns: int | None, zero_ns: int) -> int | None:
    return None if stamp_ns is None else stamp_ns - zero_ns


def beside(theirs: Mapping[str, Figure], ours: Mapping[str, Any]) -> dict[str, Figure]:
    """What a file says of the figures that ours replace: kept by the column's name."""
    return {name: value for name, value in theirs.items() if value is not None and name in ours}
