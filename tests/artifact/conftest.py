from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: as the process that makes artifacts has it

import numpy as np
import pytest

from fleetbench.artifact import source
from fleetbench.artifact.hf import hf_name
from fleetbench.artifact.llama import Shape, layer_shapes
from fleetbench.artifact.training.export import export
from fleetbench.artifact.types import ArtifactOrder

SMALL = Shape(
    width=64,
    layers=2,
    heads=4,
    kv_heads=2,
    head_dim=16,
    ffn=96,
    vocab=100,
    context=128,
    rope_theta=10_000.0,
    norm_eps=1e-5,
)
TOKENS = ("<pad>", "<bos>", "\n", *(chr(c) for c in range(32, 127)), "<unused98>", "<unused99>")

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes a small Hugging Face folder; `config` keys replace those of its config.json."""

    def make(name: str = "small", *, shape: Shape = SMALL, scale: float = 0.1, **config: Any) -> Path:
        draws = np.random.default_rng(0)
        dims: dict[str, tuple[int, ...]] = {
            "model.embed_tokens.weight": (shape.vocab, shape.width),
            "model.norm.weight": (shape.width,),
            "lm_head.weight": (shape.vocab, shape.width),
        }
        for layer in range(shape.layers):
            dims |= {hf_name(layer, ours): size for ours, size in layer_shapes(shape).items()}
        folder = tmp_path / name
        export(
            folder,
            shape=shape,
            tokens=TOKENS,
            special={"bos": 1, "eos": 2, "pad": 0},
            tensors={k: (draws.standard_normal(v) * scale).astype(np.float32) for k, v in dims.items()},
        )
        if config:
            path = folder / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | config))
        return folder

    return make


@pytest.fixture
def order() -> Callable[..., ArtifactOrder]:
    """Makes an order for a model as it is now."""

    def make(artifact_id: str, weights: str, model: str = "tiny", path: Path | None = None) -> ArtifactOrder:
        return ArtifactOrder(
            artifact_id=artifact_id,
            model=model,
            model_path=path,
            model_digest=source.inspect(model, path).digest,
            weights=weights,
        )

    return make
