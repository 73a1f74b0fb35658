"""The nouns of a benchmark: Recipe, LoadPoint, Cell, Matrix. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Measure = Literal["speed", "quality"]


class Outcome(StrEnum):
    """How a trial ended. A failure is a row like any other."""

    OK = "ok"
    REFUSED = "refused"
    LAUNCH_FAILED = "launch_failed"
    OOM = "oom"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    LOST = "lost"
    INVALID = "invalid"
    NOT_APPLIED = "not_applied"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class KvFormat:
    """Storage format of the attention cache, keys and values apart."""

    k: str = "f16"
    v: str = "f16"

    def __str__(self) -> str:
        return self.k if self.k == self.v else f"k={self.k} v={self.v}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A named set of typed format axes, and the method that makes its weights."""

    name: str
    weights: str
    activations: str = "f16"
    kv: KvFormat = KvFormat()
    attention: str = "auto"
    method: str = "rtn"
    group_size: int | None = None
    calibration: str | None = None
    protect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """Tensor-, pipeline- and data-parallel degree: counts of GPUs (or of whole replicas)."""

    tp: int = 1
    pp: int = 1
    dp: int = 1

    @property
    def gpus(self) -> int:
        return self.tp * self.pp * self.dp


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """What is asked of a running engine: `batch` requests in flight (closed loop) or `rate` per second."""

    batch: int | None
    rate: float | None = None
    arrivals: Literal["concurrent", "constant", "poisson"] = "concurrent"
    context_tok: int
    output_tok: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """Requests before the measured ones; a length of None is the load point's."""

    requests: int
    context_tok: int | None = None
    output_tok: int | None = None

    def lengths_tok(self, work: LoadPoint) -> tuple[int, int]:
        """Prompt and output tokens of each: its own, but never more than the load point's."""
        context_tok = work.context_tok if self.context_tok is None else self.context_tok
        output_tok = work.output_tok if self.output_tok is None else self.output_tok
        return min(context_tok, work.context_tok), min(output_tok, work.output_tok)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured per trial; not part of what a cell is."""

    requests: int
    warmup: Warmup


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPoint:
    """A quality suite asked of a running engine."""

    suite: str
    version: str
    items: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A model as the matrix names it."""

    name: str
    path: str | None
    measure: tuple[Measure, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model as it was found: what identifies it and what bounds it.

    digest: hex sha256 over what determines its weights; max_context_tok: tokens per sequence,
    prompt and output together; vocab_tok: entries of the vocabulary; params: weights, a count.
    """

    name: str
    digest: str
    max_context_tok: int
    vocab_tok: int
    params: int
    random_weights: bool
    suites: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """An engine as it was found: its version is the receipt that it is usable."""

    name: str
    version: str
    toolchain: str
    """What makes artifacts for it, with versions: part of an artifact's identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One point of the matrix; `cell_id` finds it again in other runs."""

    cell_id: str
    model: ModelInfo
    recipe: Recipe
    engine: EngineInfo
    hardware: str
    parallel: Parallel
    work: LoadPoint | QualityPoint
    artifact_id: str
    seed: int
    reference: bool

    @property
    def kind(self) -> Measure:
        return "speed" if isinstance(self.work, LoadPoint) else "quality"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exclusion:
    """Cells that the author rules out: every axis in `match` must match. `because` is the row's reason.

    match: (axis, value) pairs; an axis may be repeated, and then matches by any of its values.
    """

    match: tuple[tuple[str, str], ...]
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    ttft_p99_ms: float | None = None
    itl_p99_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    launch_s: float = 600.0
    trial_s: float = 900.0
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySpec:
    suite: str
    items: int
    """Items per category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A validated matrix file; `canonical` is its sorted JSON, which with the run's name makes the run_id."""

    name: str
    analysis: str
    models: tuple[ModelSpec, ...]
    engines: tuple[str, ...]
    hardware: tuple[str, ...]
    parallel: tuple[Parallel, ...]
    reference: str
    recipes: tuple[Recipe, ...]
    load: tuple[LoadPoint, ...]
    effort: Effort
    repeats: int
    seed: int
    quality: QualitySpec | None
    slo: Slo
    limits: Limits
    exclude: tuple[Exclusion, ...]
    canonical: str
