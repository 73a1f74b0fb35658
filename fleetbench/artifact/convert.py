"""HF Llama to the F16 base form that every quantization is made from."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fleetbench.artifact import llama
from fleetbench.artifact.hf import HfModel
from fleetbench.artifact.llama import Tensor
from fleetbench.artifact.safetensors import SafetensorsError, Stored
from fleetbench.artifact.types import ArtifactError

VERSION = 1
"""Raised whenever the bytes of a base form change: part of the toolchain and so of an artifact's identity."""


def convert(model: HfModel, path: Path, *, name: str) -> None:
    """Write `model` as GGUF, matrices in F16, norms in F32.

    Raises:
        ArtifactError: a value that F16 cannot hold, or a file that changed under way.
        OSError: no room, no rights.
    """
    llama.write(
        path,
        fill=partial(llama.describe, name=name, shape=model.shape, vocabulary=model.vocabulary),
        tensors=[_tensor(model, ours, stored) for ours, stored in model.tensors.items()],
    )


def interleave(rows: npt.NDArray[np.float32], heads: int) -> npt.NDArray[np.float32]:
    """Rows of a query or key projection from HF's rotary layout to llama.cpp's.

    HF rotates channel i with channel i + d/2 of a head, llama.cpp channel 2i with 2i + 1.

    Args:
        rows: [heads * d, width].
        heads: heads that the rows belong to.
    """
    half = rows.shape[0] // heads // 2
    return rows.reshape(heads, 2, half, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _tensor(model: HfModel, name: str, stored: Stored) -> Tensor:
    heads = {"attn_q": model.shape.heads, "attn_k": model.shape.kv_heads}.get(name.split(".")[-2])
    return llama.base_tensor(name, stored.shape, partial(_values, stored, name, heads))


def _values(stored: Stored, name: str, heads: int | None) -> npt.NDArray[np.float32]:
    try:
        values = stored.load()
    except SafetensorsError as error:
        raise ArtifactError(f"{stored.path}: {name}: {error}") from error
    if values.size and not np.abs(values).max() <= np.finfo(np.float16).max:
        raise ArtifactError(f"{stored.path}: {name} holds values that F16 cannot (beyond 65504, or not a number)")
    return values if heads is None else interleave(values, heads)
