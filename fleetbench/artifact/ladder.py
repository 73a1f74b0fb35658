"""A Llama of random, seeded weights: large enough for the speed of formats to differ, and nothing else."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache, partial
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from fleetbench.artifact import llama
from fleetbench.artifact.llama import Shape, Tensor
from fleetbench.artifact.vocabulary import Vocabulary
from fleetbench.matrix import identity

SEED = 75
DEVIATION = 0.02
_GENERATOR = 1
"""Raised whenever the same seed and shape give other weights."""
_LEVELS = 1 << 16


def shape(vocab: int) -> Shape:
    """About 75 million weights over a vocabulary of `vocab` tokens."""
    return Shape(
        width=768,
        layers=12,
        heads=12,
        kv_heads=4,
        head_dim=64,
        ffn=2048,
        vocab=vocab,
        context=4096,
        rope_theta=10_000.0,
        norm_eps=1e-5,
    )


def digest(vocabulary: Vocabulary) -> str:
    """Hex sha256 over the generator's version, the seed, the shape and the vocabulary."""
    parts = {
        "generator": _GENERATOR,
        "seed": SEED,
        "deviation": DEVIATION,
        "shape": asdict(shape(len(vocabulary.tokens))),
        "vocabulary": asdict(vocabulary),
    }
    return identity.digest(parts)


def write(vocabulary: Vocabulary, path: Path, *, name: str) -> None:
    """Write the model as GGUF, matrices in F16, norms in F32."""
    sizes = shape(len(vocabulary.tokens))
    tensors = [
        _tensor(number, tensor, dims, vocabulary.control)
        for number, (tensor, dims) in enumerate(llama.tensor_shapes(sizes).items())
    ]
    llama.write(
        path,
        fill=partial(llama.describe, name=name, shape=sizes, vocabulary=vocabulary),
        tensors=tensors,
    )


def _tensor(number: int, name: str, dims: tuple[int, ...], control: tuple[int, ...]) -> Tensor:
    if len(dims) == 1:
        return llama.base_tensor(name, dims, lambda: np.ones(dims, np.float32))
    silent = control if name == "output.weight" else ()
    return llama.base_tensor(name, dims, partial(_weights, number, dims, silent))


def _weights(number: int, dims: tuple[int, ...], silent: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Normal values of DEVIATION, the same on every machine and numpy (which promises raw bits, not normals).

    Rows `silent` are zero: tokens without text, whose logit is then 0, below the best of the others, so
    that a greedy stream never goes silent.
    """
    count = dims[0] * dims[1]
    raw = np.random.PCG64([SEED, number]).random_raw((count + 3) // 4)
    values: npt.NDArray[np.float32] = _quantiles()[raw.astype("<u8").view("<u2")[:count]].reshape(dims)
    values[list(silent)] = 0.0
    return values


@cache
def _quantiles() -> npt.NDArray[np.float32]:
    """[65536] quantiles of the normal distribution, at the middle of each level."""
    normal = NormalDist(0.0, DEVIATION)
    return np.array([normal.inv_cdf((level + 0.5) / _LEVELS) for level in range(_LEVELS)], np.float32)
