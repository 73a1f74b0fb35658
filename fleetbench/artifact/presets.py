"""Schemes of compressed-tensors that llmcompressor is asked for, as data: what each means, and how it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

SIXTEEN = frozenset({"auto", "bf16", "fp16", "f16"})
"""Names of numbers that are left as the model has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """How a checkpoint's config.json describes numbers.

    bits: of one; strategy: what shares a scale; group_size: how many do, where the strategy is a group; dynamic:
    whether scales are worked out as the numbers come; `local` where only those of a block are.
    """

    bits: int
    kind: Literal["float", "int"]
    strategy: str
    group_size: int | None = None
    dynamic: bool | Literal["local"] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A scheme that compressed-tensors has a name for.

    form: how the weights are stored, as config.json says; stored: the tensor of a layer that holds them, and its type.
    """

    name: str
    form: str
    stored: tuple[str, str]
    weights: Numbers
    inputs: Numbers | None = None


_FP8, _INT8 = ("weight", "F8_E4M3"), ("weight", "I8")
_CHANNEL8 = Numbers(bits=8, kind="float", strategy="channel")
_TOKEN8 = Numbers(bits=8, kind="float", strategy="token", dynamic=True)
_TENSOR8 = Numbers(bits=8, kind="float", strategy="tensor")
_INT_CHANNEL = Numbers(bits=8, kind="int", strategy="channel")
_INT_TOKEN = Numbers(bits=8, kind="int", strategy="token", dynamic=True)
_NV = Numbers(bits=4, kind="float", strategy="tensor_group", group_size=16)
_MX4 = Numbers(bits=4, kind="float", strategy="group", group_size=32)
_MX8 = Numbers(bits=8, kind="float", strategy="group", group_size=32)
_NVFP4, _MXFP4 = "nvfp4-pack-quantized", "mxfp4-pack-quantized"
_U8, _I32 = ("weight_packed", "U8"), ("weight_packed", "I32")
_GROUP4 = Numbers(bits=4, kind="int", strategy="group", group_size=128)
_PACK = "pack-quantized"


def _packed(bits: int) -> Preset:
    """Integer weights alone, several to a word."""
    weights = replace(_GROUP4, bits=bits)
    return Preset(name=f"W{bits}A16", form=_PACK, stored=_I32, weights=weights)


PRESETS: Mapping[tuple[str, str], Preset] = {
    # (weights, activations or none) -> the preset; of compressed-tensors 0.19.0, quant_scheme.py, 2026-11-24. All were
    # made. `compressed` bends some: no activations, another group. FP8 and INT8 are dynamic here, static is below.
    ("fp8", "fp8"): Preset(name="FP8_DYNAMIC", form="float-quantized", stored=_FP8, weights=_CHANNEL8, inputs=_TOKEN8),
    ("fp8", ""): Preset(name="FP8_DYNAMIC", form="naive-quantized", stored=_FP8, weights=_CHANNEL8),
    ("int8", "int8"): Preset(name="W8A8", form="int-quantized", stored=_INT8, weights=_INT_CHANNEL, inputs=_INT_TOKEN),
    ("int8", ""): _packed(8),
    ("int4", ""): _packed(4),
    ("int3", ""): _packed(3),
    ("int2", ""): _packed(2),
    ("int4", "int8"): Preset(name="W4A8", form="int-quantized", stored=_INT8, weights=_GROUP4, inputs=_INT_TOKEN),
    # By itself the tool stores W4AFP8 one to a byte; its guide asks for the packed form, which vLLM takes.
    ("int4", "fp8"): Preset(name="W4AFP8", form=_PACK, stored=_I32, weights=_GROUP4, inputs=_TOKEN8),
    ("nvfp4", "nvfp4"): Preset(
        name="NVFP4", form=_NVFP4, stored=_U8, weights=_NV, inputs=replace(_NV, dynamic="local")
    ),
    ("nvfp4", ""): Preset(name="NVFP4A16", form=_NVFP4, stored=_U8, weights=_NV),
    ("mxfp4", "mxfp4"): Preset(name="MXFP4", form=_MXFP4, stored=_U8, weights=_MX4, inputs=replace(_MX4, dynamic=True)),
    ("mxfp4", ""): Preset(name="MXFP4A16", form=_MXFP4, stored=_U8, weights=_MX4),
    ("mxfp8", "mxfp8"): Preset(
        name="MXFP8", form="mxfp8-quantized", stored=_FP8, weights=_MX8, inputs=replace(_MX8, dynamic=True)
    ),
    ("mxfp8", ""): Preset(name="MXFP8A16", form="mxfp8-quantized", stored=_FP8, weights=_MX8),
}
FP8_STATIC = Preset(name="FP8", form="float-quantized", stored=_FP8, weights=_TENSOR8, inputs=_TENSOR8)
FP8_BLOCK = Preset(
    name="FP8_BLOCK",
    form="float-quantized",
    stored=_FP8,
    weights=Numbers(bits=8, kind="float", strategy="block"),
    inputs=Numbers(bits=8, kind="float", strategy="group", group_size=128, dynamic=True),
)
OWN = ("fp8", "int8", "nvfp4", "mxfp4", "mxfp8")
"""Weights whose `auto` activations are of the same format; those of others stay in 16 bits."""
MADE_BY = {
    "gptq": ("int8", "int4", "int3", "int2", "fp8", "nvfp4", "mxfp4"),
    "awq": ("int4",),
    "smoothquant": ("int8", "fp8"),
}
