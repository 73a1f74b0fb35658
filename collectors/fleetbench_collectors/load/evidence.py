"""What a trial says for itself: what was asked and what came, and whether the client was quick enough to see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

_PAIRS = ("failures", "wrong_prompt_tok", "wrong_output_tok")


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCounts:
    """The server's own counter of prompt tokens that it found in its prefix cache."""

    hits_tok: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What was asked and what came of the measured requests.

    failures: outcome and error with how often; wrong_*: the server's counts that differ from those asked for, with
    how often; asked_*: the length, None where it varies; cached_tok: the most of one request, by usage; requests that
    never ran are asked - completed - cancelled - failed.
    """

    asked: int
    completed: int
    cancelled: int
    failures: tuple[tuple[str, int], ...]
    wrong_prompt_tok: tuple[tuple[int | None, int], ...]
    wrong_output_tok: tuple[tuple[int | None, int], ...]
    asked_prompt_tok: int | None
    asked_output_tok: int | None
    cached_tok: int
    warmup_failed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How the client kept up, beside the times that it was to see. None where there is no sample.

    stamp: kernel where nearly every read was; read_lag: of the process with the largest p99, of lag_n samples;
    merged_chunks, merged_ratio: chunks that shared a stamp with one before, and over all; first_merged_ratio: requests
    whose first chunk shared one with the next while most later ones did not, over all; first_lag_us: the median of the
    latest reads, as many of them as there are first ones; cpu_ratio: CPU time over wall time of the busiest process;
    backwards: requests whose stamps are out of order; schedule_lag_p99_ms: of an open loop, from scheduled start to
    actual; interval_ms: between its scheduled starts, the mean; asked_batch: places of a closed loop, or its requests
    if fewer; achieved_batch: in flight in the steady window, else from the first start to the first end after the last;
    sent: all requests, warm-up included; cache_hit_tok: what the server's counter grew by meanwhile.
    """

    stamp: Literal["kernel", "user"] | None
    processes: int
    read_lag_p50_us: float | None
    read_lag_p99_us: float | None
    gap_p50_ms: float | None
    ttft_p50_ms: float | None
    lag_n: int
    merged_ratio: float | None
    merged_chunks: int
    first_merged_ratio: float | None
    first_lag_us: float | None
    cpu_ratio: float | None
    step_ns: int
    backwards: int
    schedule_lag_p99_ms: float | None
    interval_ms: float | None
    asked_batch: int | None
    achieved_batch: float | None
    sent: int
    cache_hit_tok: int | None
    steady_share_ratio: float
    steady_reason: str | None
    steady_judged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that a verdict needs."""

    counts: Counts
    client: Client

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """What `to_json` gave, fresh or back from a file."""
        pairs = {name: tuple((got, n) for got, n in raw["counts"][name]) for name in _PAIRS}
        return cls(counts=Counts(**{**raw["counts"], **pairs}), client=Client(**raw["client"]))
