"""What a reader makes of another tool's file: one Record a measured result, in our columns and units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import pyarrow as pa
import yaml

from fleetbench.errors import FleetbenchError
from fleetbench.matrix.types import Measure, Outcome
from fleetbench.store.schema import EVIDENCE, LATENCIES, TRIALS

Axis = Literal["model", "hardware", "engine", "weights", "activations", "kv_k", "kv_v", "method"]
AXES: tuple[Axis, ...] = ("model", "hardware", "engine", "weights", "activations", "kv_k", "kv_v", "method")
"""What a record names by words, which the catalog may know."""

GIVEN = (
    *("model", "hardware", "engine", "engine_version", "recipe", "weights", "activations", "kv_k", "kv_v"),
    *("gpus", "tp", "pp", "dp", "node"),
)
"""What a user may add where a file does not say it."""
COUNTED = frozenset({"gpus", "tp", "pp", "dp"})
"""Those of them that are whole numbers."""
Words = Mapping[Axis, Mapping[str, str | None]]
Said = str | int | float | bool | None
Figure = float | int | str | None

_COUNTS = ("asked_requests", "completed_requests", "failed_requests", "cancelled_requests")
_RATES = ("window_s", "output_tok_s", "total_tok_s", "requests_per_s", "prefill_tok_s", "decode_tok_s")
_OTHERS = (
    *("wall_s", "tokens_from", "concurrency", "user_tok_s_mean", "user_tok_s_p50"),
    *("power_status", "energy_j", "energy_j_per_tok", "power_mean_w", "quality_items", "quality_correct"),
)
FIGURES: Mapping[str, pa.DataType] = {
    name: TRIALS.field(name).type
    for name in (*_COUNTS, *_RATES, *_OTHERS, *(column.name for column in (*LATENCIES, *EVIDENCE)))
}
"""Columns of `trials` that hold what was measured, with their types: the names that `Record.figures` may have."""


class ForeignError(FleetbenchError):
    """A file cannot be taken in: where in it (`record 17`, `line 3`, `results[2].latency`), and why."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(where, why)
        self.where, self.why = where, why

    def __str__(self) -> str:
        return f"{self.where}: {self.why}" if self.where else self.why


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request of a record; times in ns from any zero that the record's requests share.

    start_ns: None where the file has no starts: the other times then count from the request's own.
    gaps_ns: between arrivals after the first; None where the file has no arrivals. output_tok: as the tool counted.
    """

    start_ns: int | None = None
    intended_ns: int | None = None
    first_byte_ns: int | None = None
    first_token_ns: int | None = None
    last_token_ns: int | None = None
    end_ns: int | None = None
    gaps_ns: tuple[int, ...] | None = None
    chunk_tok: tuple[int, ...] | None = None
    prompt_tok: int | None = None
    output_tok: int | None = None
    cached_tok: int | None = None
    asked_prompt_tok: int | None = None
    asked_output_tok: int | None = None
    phase: Literal["warmup", "measure"] = "measure"
    outcome: Literal["ok", "http_error", "transport_error", "timeout", "protocol_error", "cancelled"] = "ok"
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One foreign measured result: one trial of one cell. What the file does not say is None.

    where: its place in the file, for messages. model, hardware, engine, and the formats: the file's own words, or what
    the format's definition makes of them; landing looks them up in the catalog. recipe: what the file calls the
    precision and what else belongs to a recipe (`fp8`, `fp8-mtp`); None becomes `as-served`.
    batch: requests in flight, held constant; rate_per_s: open-loop arrivals. context_tok, output_tok: the lengths
    that were asked for, or that every request had; None where they are a mix.
    figures: columns of FIGURES, in our units; a None is left out. A time or rate of 0 that means "none" has to be
    None already. reported: figures by the file's own names that differ from our columns of the like name.
    conditions: what else makes it another cell (topology, speculative decoding, dataset); said: circumstances that do
    not (date, image, ids). All three become rows of `host`.
    left_out: sentences on what of the record is not kept, and why; equal ones are counted.
    """

    where: str
    model: str
    hardware: str | None
    engine: str | None
    kind: Measure = "speed"
    recipe: str | None = None
    weights: str | None = None
    activations: str | None = None
    kv_k: str | None = None
    kv_v: str | None = None
    method: str | None = None
    engine_version: str | None = None
    gpus: int | None = None
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    batch: int | None = None
    rate_per_s: float | None = None
    context_tok: int | None = None
    output_tok: int | None = None
    suite: str | None = None
    seed: int | None = None
    node: str | None = None
    started_at: datetime | None = None
    outcome: Outcome = Outcome.OK
    valid: bool = True
    reason: str | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    requests: tuple[Request, ...] = ()
    reported: Mapping[str, Said] = field(default_factory=dict)
    conditions: Mapping[str, Said] = field(default_factory=dict)
    said: Mapping[str, Said] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ForeignError for a figure that no measurement gives, ValueError for one that no column takes."""
        if unknown := sorted(self.figures.keys() - FIGURES.keys()):
            raise ValueError(f"no column of a measurement: {', '.join(unknown)}")
        for name, value in self.figures.items():
            if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
                raise ForeignError(self.where, f"{name} comes out as {value}, which is no measurement")


class Reader(Protocol):
    """Reads one format; found by the entry point group `fleetbench.imports`, made without arguments.

    about: one line, what it reads. licence: what is known of the licence of all such files; None: the user says.
    words: by axis, the format's own words for what the catalog calls otherwise, as its documentation defines them; None
    for a word that it uses for several things: then the column is NULL, though the catalog may know the word.
    """

    @property
    def name(self) -> str: ...
    @property
    def about(self) -> str: ...
    @property
    def licence(self) -> str | None: ...
    @property
    def words(self) -> Words: ...

    def read(self, path: Path) -> Iterator[Record]:
        """The records of a file, in its order.

        Raises:
            ForeignError: where and why it is not such a file; what came before it is not kept either.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Converted:
    """A matrix as a file has it, and what of the list it does not hold: sentences with the points they hold for."""

    matrix: Mapping[str, Any]
    points: int
    left_out: Mapping[str, int]

    def text(self, source: str) -> str:
        """YAML, with what is left out in its head."""
        lines = [
            f"# From {_line(source)} by `fleetbench import --matrix`: {self.points} points of its search spaces.",
            *(f"# Left out: {points:>4} points, {_line(why)}" for why, points in self.left_out.items()),
        ]
        body = yaml.safe_dump(dict(self.matrix), sort_keys=False, default_flow_style=None, width=118)
        return "\n".join(lines) + "\n" + body


def _line(text: str) -> str:
    """Words of someone else on one line, so that they stay a comment."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())


@runtime_checkable
class Lists(Protocol):
    """A reader whose format also has lists of what to measure."""

    def matrix(self, path: Path) -> Converted:
        """A list as a matrix.

        Raises:
            ForeignError: where and why it is no such list, or that nothing of it can be asked for by a matrix.
        """
        ...
