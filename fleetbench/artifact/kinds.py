"""Which checkpoint an engine needs for a recipe."""

from __future__ import annotations

from fleetbench.catalog import lookup
from fleetbench.matrix.resolve import SIXTEEN
from fleetbench.matrix.types import Checkpoint, ModelInfo, Recipe

GGUF_ENGINES = frozenset({"llamacpp", "llama-server"})
IN_FLIGHT = frozenset({"vllm", "sglang"})
"""Engines that round weights to FP8 while they load them, with scales worked out as activations come."""
SERVED = "endpoint"
"""The engine that runs already, with whatever it was given."""


def checkpoint_kind(engine: str, recipe: Recipe, model: ModelInfo) -> Checkpoint:
    """`gguf`, the model's own folder, or one that has to be compressed first."""
    if engine in GGUF_ENGINES:
        return "gguf"
    shape = model.shape
    if engine == SERVED or (shape is not None and shape.quantized == recipe.weights):
        return "source"
    wide = recipe.weights in SIXTEEN or _bits(recipe.weights) > 16  # noqa: PLR2004 - fp32 is as it was published
    if wide:
        scaled = recipe.calibration is not None or {recipe.kv.k_scales, recipe.kv.v_scales} != {"auto"}
        return "compressed" if scaled and not {recipe.kv.k, recipe.kv.v} <= set(SIXTEEN) else "source"
    plain = recipe.calibration is None and not recipe.protect and recipe.method == "rtn"
    fp8 = (recipe.weights, recipe.activations, recipe.scales) == ("fp8", "fp8", "dynamic")
    return "source" if plain and fp8 and engine in IN_FLIGHT else "compressed"


def served_kind(engine: str, recipe: Recipe, model: ModelInfo) -> Checkpoint:
    """What an engine is told of the folder at its path: one that was published quantized is a compressed one."""
    kind = checkpoint_kind(engine, recipe, model)
    published = model.shape is not None and model.shape.quantized is not None
    return "compressed" if kind == "source" and published else kind


def _bits(name: str) -> float:
    info = lookup.format_info(name)
    return info.element_bits if info else 16.0
