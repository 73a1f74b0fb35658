"""From what a person wrote to what an engine is asked for: `auto`, spellings and defaults become formats. Pure."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from fleetbench.catalog import lookup
from fleetbench.catalog.types import EngineSpec
from fleetbench.matrix.types import KvFormat, Recipe

SIXTEEN = ("bf16", "fp16", "f16")
_TWINS = {"f16": "fp16", "fp16": "f16", "f32": "fp32", "fp32": "f32"}
"""One number format under two names: GGUF's, and the one of everybody else."""
_GROUP = 128
"""Weights that share a scale where a recipe leaves it open: what `W4A16` means to the tools that make it."""
_FEW_BITS = 8.0
_WIDE_AS_PUBLISHED = frozenset({"mxfp4"})
"""Formats whose publishers mean the weights alone: `quant_method: mxfp4` of gpt-oss says nothing of activations."""
_ROUNDING = "rtn"


def resolve(recipe: Recipe, spec: EngineSpec | None, dtype: str, published: str | None = None) -> Recipe:
    """The recipe with every axis said, so that equal cells have equal ids.

    Args:
        recipe: as the matrix has it.
        spec: the engine that is to run it; None for one that the catalog does not know, which changes nothing.
        dtype: number format of the model's checkpoint.
        published: the format that its publisher quantized it to, None where it is not.
    """
    if spec is None:
        return recipe
    weights = _spelled(spec, "weights", recipe.weights)
    sixteen = _sixteen(spec, weights, dtype)
    activations = recipe.activations
    if activations == "auto":
        wide = published == weights and published in _WIDE_AS_PUBLISHED
        activations = sixteen if wide else spec.auto.get(weights, sixteen)
    activations = _spelled(spec, "activations", activations)
    keys, values = (_spelled(spec, "kv", sixteen if name == "auto" else name) for name in (recipe.kv.k, recipe.kv.v))
    scales = recipe.scales
    if scales == "auto" and _bits(activations) <= _FEW_BITS:
        scales = "dynamic"
    return replace(
        recipe,
        weights=weights,
        activations=activations,
        scales=scales,
        kv=KvFormat(k=keys, v=values, k_scales=recipe.kv.k_scales, v_scales=recipe.kv.v_scales),
        method=_method(weights) if recipe.method == "auto" else recipe.method,
        group_size=recipe.group_size or _group(weights),
    )


def scheme(recipe: Recipe) -> str:
    """The name that such recipes go by: `W4A16`, `W8A8KV8`; bits of weights, activations, and a narrow cache."""
    name = f"W{_bits(recipe.weights):.2g}A{_bits(recipe.activations):.2g}"
    keys, values = _bits(recipe.kv.k), _bits(recipe.kv.v)
    if keys == values:
        return name if keys >= 16 else f"{name}KV{keys:.2g}"  # noqa: PLR2004 - bits of an unquantized cache
    return f"{name}K{keys:.2g}V{values:.2g}"


def _sixteen(spec: EngineSpec, weights: str, dtype: str) -> str:
    if spec.sixteen != "model":
        return spec.sixteen
    if weights in SIXTEEN:
        return weights
    return dtype if dtype in SIXTEEN else "bf16"


def _spelled(spec: EngineSpec, axis: str, name: str) -> str:
    """The engine's own word for a format that goes by two names."""
    known = _formats(spec.name, axis)
    twin = _TWINS.get(name)
    return twin if twin in known and name not in known else name


@cache
def _formats(engine: str, axis: str) -> frozenset[str]:
    spec = lookup.engine_spec(engine)
    rules = spec.rules if spec else ()
    named = {name for rule in rules if rule.axis == axis for name in rule.formats}
    if axis == "activations":
        named |= {name for rule in rules for name in rule.activations}
    return frozenset(named)


@cache
def _bits(name: str) -> float:
    info = lookup.format_info(name)
    return info.element_bits if info else 16.0


@cache
def _method(weights: str) -> str:
    """What a format is usually made by: rounding where that is enough, else the first method that makes it."""
    makers = [
        name
        for name in lookup.method_names()
        if (info := lookup.method_info(name)) and "weights" in info.axes and weights in info.weights
    ]
    return _ROUNDING if _ROUNDING in makers else next(iter(makers), "auto")


@cache
def _group(weights: str) -> int | None:
    """The usual group of a format that has scales and leaves open how many weights share one."""
    info = lookup.format_info(weights)
    return _GROUP if info and info.block is None and info.scale_bits and info.element_bits < _FEW_BITS else None
