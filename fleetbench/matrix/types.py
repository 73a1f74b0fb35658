"""The nouns of a benchmark: Recipe, LoadPoint, Cell, Matrix. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import PurePath
from typing import Literal

from fleetbench.catalog.shapes import ModelShape

Measure = Literal["speed", "quality"]
Granularity = Literal["auto", "per_tensor", "per_head", "per_token", "per_channel", "per_block"]


Checkpoint = Literal["gguf", "source", "compressed"]
"""What an engine reads: a GGUF file, the model's own folder, or one that llmcompressor made of it."""


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
    """Storage format of the attention cache, keys and values apart, and what shares a scale.

    k, v: formats, `auto` for the engine's 16 bits; k_scales, v_scales: the granularity of scales, `auto` for the
    engine's own.
    """

    k: str = "auto"
    v: str = "auto"
    k_scales: Granularity = "auto"
    v_scales: Granularity = "auto"

    def __str__(self) -> str:
        keys, values = (
            name if scales == "auto" else f"{name}/{scales}"
            for name, scales in ((self.k, self.k_scales), (self.v, self.v_scales))
        )
        return keys if keys == values else f"k={keys} v={values}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Sample text that a method looks at; sha256: hex, of the file, None until it was read.

    samples: sequences, sequence_tok: tokens of each; None for the tool's own.
    """

    path: str
    samples: int | None = None
    sequence_tok: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """Speculative decoding: who guesses, and how many tokens ahead.

    model: a whole path, or a hub id (with `@revision` if wanted); None for n-grams.
    """

    method: Literal["model", "eagle", "eagle3", "medusa", "mtp", "ngram"]
    model: str | None
    tokens: int

    @property
    def hub(self) -> tuple[str, str | None] | None:
        """The hub id and revision of the model; None where it is no hub's."""
        if self.model is None or PurePath(self.model).is_absolute():
            return None
        where, _, revision = self.model.partition("@")
        return where, revision or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A named set of typed format axes, and the method that makes its weights.

    scales: of the activations, worked out for each token as it comes (`dynamic`) or fixed by calibration (`static`);
    group_size: weights that share a scale; protect: what stays at 16 bits: `embeddings`, `lm_head`, `first N`,
    `last N`; lora: folders of adapters that are served beside the base.
    """

    name: str
    weights: str
    activations: str = "auto"
    scales: Literal["auto", "dynamic", "static"] = "auto"
    kv: KvFormat = KvFormat()
    attention: str = "auto"
    method: str = "auto"
    group_size: int | None = None
    calibration: Calibration | None = None
    protect: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()
    draft: Draft | None = None


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
    """A model as the matrix names it; path, hub: where it is, both None for a name out of the catalog."""

    name: str
    path: str | None
    measure: tuple[Measure, ...]
    hub: str | None = None
    revision: str | None = None
    dummy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """A model as it was found: what identifies it and what bounds it.

    digest: hex sha256 over what determines its weights; max_context_tok: tokens per sequence, prompt and output
    together; vocab_tok: entries of the vocabulary; params: weights, a count; shape: out of its config.json, None where
    nobody knows; hub, revision: where it was published, and the commit that is meant; dummy: the engine makes its
    weights, at random; lacks: why it can be planned with but not run, None where all is here.
    """

    name: str
    digest: str
    max_context_tok: int
    vocab_tok: int
    params: int
    random_weights: bool
    suites: tuple[str, ...]
    shape: ModelShape | None = None
    hub: str | None = None
    revision: str | None = None
    dummy: bool = False
    lacks: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineAsk:
    """An engine as the matrix names it; version: None for whatever the node has; args: its own, as they are."""

    name: str
    version: str | None = None
    args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInfo:
    """An engine as it was found: its version is the receipt that it is usable."""

    name: str
    version: str
    toolchain: str
    """What makes artifacts for it, with versions: part of an artifact's identity."""
    args: tuple[str, ...] = ()


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
    wall_s: float | None = None
    cost_usd: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QualitySpec:
    suite: str
    items: int
    """Items per category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """What a recipe may lose against the reference and still ship.

    margin: the acceptable drop of the share that is right, of every category but those in margins; reference_runs: how
    often the reference is asked; churn: the least share of items that is believed to differ between two of its runs;
    workload: the categories that the product lives by.
    """

    margin: float = 0.02
    margins: tuple[tuple[str, float], ...] = ()
    reference_runs: int = 2
    churn: float = 0.005
    workload: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A validated matrix file; `canonical` is its sorted JSON, which with the run's name makes the run_id."""

    name: str
    analysis: str
    models: tuple[ModelSpec, ...]
    engines: tuple[EngineAsk, ...]
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
    parity: Parity = Parity()
    allow: tuple[str, ...] = ("experimental",)
