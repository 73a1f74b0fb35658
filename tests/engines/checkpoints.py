"""What config.json says of checkpoints that llmcompressor makes, so that random weights can stand for them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any


def numbers(bits: int, kind: str, strategy: str, *, group: int | None = None, dynamic: bool = False) -> dict[str, Any]:
    """One side of a group of compressed-tensors: weights or activations."""
    return {
        "num_bits": bits,
        "type": kind,
        "symmetric": True,
        "strategy": strategy,
        "group_size": group,
        "dynamic": dynamic,
        "observer": None if dynamic else "minmax",
    }


def compressed(form: str, weights: dict[str, Any], activations: dict[str, Any] | None = None) -> dict[str, Any]:
    """A quantization_config as llmcompressor writes it: all linear layers but the head."""
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations, "format": form}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


W8A8 = compressed("int-quantized", numbers(8, "int", "channel"), numbers(8, "int", "token", dynamic=True))
W4A16 = compressed("pack-quantized", numbers(4, "int", "group", group=128))
W8A16 = compressed("pack-quantized", numbers(8, "int", "channel"))
FP8_DYNAMIC = compressed("float-quantized", numbers(8, "float", "channel"), numbers(8, "float", "token", dynamic=True))


def write_adapter(folder: Path, *, layers: int, width: int, rank: int) -> None:
    """A LoRA adapter of the queries, as PEFT lays it out, that changes nothing: all of it is zero."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**config, "task_type": "CAUSAL_LM"}))
    header: dict[str, Any] = {}
    end = 0
    for layer in range(layers):
        for side, shape in (("A", [rank, width]), ("B", [width, rank])):
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{side}.weight"
            begin, end = end, end + 4 * rank * width
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    told = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(told)) + told + bytes(end))
