"""The formats that are not quantized, under the names of matrices, of GGUF and of PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

_TORCH: Mapping[str, str] = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "f16": "float16",
    "fp32": "float32",
    "f32": "float32",
}
_COMMON: Mapping[str, str] = {"f16": "fp16", "f32": "fp32"}
_OF_TORCH: Mapping[str, str] = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "half": "fp16",
    "float32": "fp32",
    "float": "fp32",
}
NAMES = frozenset(_TORCH)


def common(name: str) -> str:
    """One name for a format that has two; others as they are."""
    return _COMMON.get(name, name)


def torch(name: str) -> str:
    """PyTorch's name of one of `NAMES`."""
    return _TORCH[name]


def of_torch(name: str) -> str | None:
    """`bf16` of `torch.bfloat16` or `bfloat16`; None of what is no such format."""
    return _OF_TORCH.get(name.removeprefix("torch."))
