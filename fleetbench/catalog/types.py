"""What is known, as values: GPUs, number formats, methods, recipes, engines and what they support."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from packaging.specifiers import SpecifierSet
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, with_config

Axis = Literal["weights", "activations", "kv", "attention"]
Vendor = Literal["nvidia", "amd", "intel", "apple", "cpu"]
Verdict = Literal["native", "experimental", "emulated"]
"""How a format runs: by the hardware's own units, so but young, or by other units and without the speed-up."""


def _specifier(versions: str) -> str:
    SpecifierSet(versions)  # InvalidSpecifier is a ValueError: a mistake by its place, as those of any field
    return versions


Versions = Annotated[str, AfterValidator(_specifier)]
entry = with_config(ConfigDict(extra="forbid", strict=False, allow_inf_nan=False))
"""What a catalog file may say is what the dataclass has: its fields are the file's schema."""


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A number with where and when it was read; in the unit that the field's name ends in."""

    value: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    source: str
    date: Annotated[str, BeforeValidator(str)]


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class GpuInfo:
    """A kind of hardware by its tag; all figures are of one device, None where no source at hand states them.

    arch: the compute architecture (`sm90`, `gfx942`, ...); devices: names as NVML or AMD SMI print them;
    memory_bytes: what the device reports, not the name on the box; usable_ratio: the part of it that its GPU may use,
    where that is not for the engine to choose; flops: dense FLOP/s by number format, never the
    figures with 2:4 sparsity; native: formats that its matrix units multiply; link_bytes_s: to its neighbours in the
    node, one direction; gpus_per_node: of the usual node; power_w: the limit as shipped; price_usd_h: for an hour.
    """

    name: str
    title: str
    vendor: Vendor
    arch: str
    aliases: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    devices_source: str
    memory_bytes: Figure | None
    bandwidth_bytes_s: Figure | None
    flops: Mapping[str, Figure] = field(hash=False)
    power_w: Figure | None
    native: tuple[str, ...]
    native_source: str
    link_bytes_s: Figure | None
    gpus_per_node: int
    price_usd_h: Figure | None
    usable_ratio: Figure | None = None
    note: str = ""


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class FormatInfo:
    """A number format.

    element_bits: of one element without its scales; block: elements that share a scale, None where the recipe's group
    size or the tool decides; scale_bits, zero_bits: of each block's scale and zero point; unit: the format that
    matrix units must multiply for it to be native, empty for itself; block_bytes, ggml:
    the stored block and the type's name in a GGUF file; mixed: a mixture of GGUF types, whose bits depend on the
    model; axes: where a recipe may name it.
    """

    name: str
    title: str
    element_bits: float
    block: int | None = None
    scale_bits: float = 0.0
    zero_bits: float = 0.0
    unit: str = ""
    ggml: str | None = None
    block_bytes: int | None = None
    mixed: bool = False
    axes: tuple[Axis, ...]
    aliases: tuple[str, ...] = ()
    source: str

    def bits(self, group_size: int | None = None) -> float:
        """Mean bits per element, scales and zero points included.

        Args:
            group_size: elements that share a scale, where the format leaves it open; None for the format's own, or
                for scales so rare (per tensor or channel) that they do not count.
        """
        block = self.block or group_size
        return self.element_bits if block is None else self.element_bits + (self.scale_bits + self.zero_bits) / block


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class MethodInfo:
    """How weights (or a cache) are brought to a format.

    weights: formats it makes, empty where it makes any; tools: what makes it, the one used here first; calibrated:
    whether it needs sample text; axes: what it acts on.
    """

    name: str
    title: str
    weights: tuple[str, ...]
    tools: tuple[str, ...]
    calibrated: bool
    axes: tuple[Axis, ...]
    paper: str
    source: str


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeInfo:
    """A recipe by its short name, as a matrix would spell it; workload: what it is advised for, and by whom."""

    name: str
    spelled: Mapping[str, object]
    workload: str
    source: str


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class SupportRule:
    """One line of what an engine supports: what it is about, where it holds, and the verdict.

    formats: of the rule's axis; activations, methods, models, group_sizes, kv, granularities: further conditions, empty
    for any; models: `dense`, `moe`, `mla` or a class of `architectures`, any one of them; group_sizes: weights that
    share a scale, a count; kv: formats that keys and values must both be in; granularities: of the cache's scales,
    where a recipe names one; same_kv: keys and values in one format; on: architectures, vendors or hardware tags,
    empty for any; versions: a version specifier, empty for every supported version; kernel: what then computes it, by
    the name that `applied` columns use, or None; because: what a person should know, and no condition that a field
    could hold.
    """

    axis: Axis
    formats: tuple[str, ...]
    activations: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    group_sizes: tuple[int, ...] = ()
    kv: tuple[str, ...] = ()
    granularities: tuple[str, ...] = ()
    same_kv: bool = False
    on: tuple[str, ...] = ()
    versions: Versions = ""
    verdict: Verdict
    kernel: str | None = None
    because: str = ""
    source: str


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """How an engine goes over several nodes; kinds: of parallelism that it may share out among them."""

    kinds: tuple[str, ...]
    source: str


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """An engine: its supported versions, and rule by rule what it runs; the first rule that fits decides.

    versions: a specifier of what this catalog speaks of; known: versions that were looked at, newest first; vendors:
    whose hardware it runs on; auto: what `auto` activations are, by weight format, where they are not 16 bits wide;
    sixteen: its 16-bit format for activations and cache, `model` for the checkpoint's own; parallel: the kinds of
    parallelism it has; spans: how it goes over several nodes, None where fleetbench starts it on one alone; lora:
    weight formats that take adapters, None where nobody said.
    """

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    versions: Versions
    known: tuple[str, ...]
    vendors: tuple[Vendor, ...]
    sixteen: str
    auto: Mapping[str, str] = field(default_factory=dict)
    parallel: tuple[str, ...]
    spans: Spans | None = None
    settable: tuple[str, ...] = ()
    rules: tuple[SupportRule, ...] = ()
    lora: tuple[str, ...] | None = None
    note: str = ""
    source: str


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedModel:
    """A model that comes with fleetbench; max_context_tok: prompt and output together."""

    name: str
    random_weights: bool
    suites: tuple[str, ...]
    max_context_tok: int
    about: str
    source: str


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteInfo:
    """A quality suite; another version asks other items. max_items: of each category, a count."""

    name: str
    version: str
    max_items: int
    categories: tuple[str, ...]
    about: str
    source: str


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedModel:
    """A model that others publish: its hub id and the keys of its config.json that its shape follows from.

    params: the published total, to check the shape by; gated: a token and a consent are needed to fetch it.
    """

    name: str
    hub: str
    aliases: tuple[str, ...] = ()
    gated: bool = False
    config: Mapping[str, object]
    params: Published | None = None
    source: str


@entry
@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A count that somebody publishes."""

    value: int
    source: str
