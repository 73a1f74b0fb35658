"""Configs that tests read: files in configs/, published models of the catalog, and a Llama to change keys of."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from fleetbench.catalog import config_json
from fleetbench.catalog.shapes import ModelShape

CONFIGS = Path(__file__).parent / "configs"
MODELS = Path(str(resources.files("fleetbench.catalog"))) / "models"

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((CONFIGS / f"{name}.json").read_text(encoding="utf-8"))
    return config


def published(name: str) -> dict[str, Any]:
    entry: dict[str, Any] = yaml.safe_load((MODELS / f"{name}.yaml").read_text(encoding="utf-8"))
    return entry


def shape_of(name: str) -> ModelShape:
    return config_json.parse(published(name)["config"])


def changed(**changes: Any) -> dict[str, Any]:
    """LLAMA with other values; a key set to ... is left out."""
    return {key: value for key, value in {**LLAMA, **changes}.items() if value is not ...}
