"""A trained network as a Hugging Face folder: config.json, tokenizer.json, model.safetensors in BF16."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fleetbench.artifact.hf import ARCHITECTURE, CONFIG, TOKENIZER
from fleetbench.artifact.llama import Shape

WEIGHTS = "model.safetensors"
_ALIGN_BYTES = 8


def export(
    folder: Path,
    *,
    shape: Shape,
    tokens: Sequence[str],
    special: Mapping[str, int],
    tensors: Mapping[str, npt.NDArray[np.float32]],
) -> None:
    """Write the folder.

    Args:
        folder: made if missing.
        shape: sizes of the network.
        tokens: the character vocabulary, by id.
        special: ids of "bos", "eos" and "pad".
        tensors: by Hugging Face name; rounded to the nearest BF16, ties to even.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / CONFIG, _config(shape, special))
    _write_json(folder / TOKENIZER, _tokenizer(tokens, special))
    (folder / WEIGHTS).write_bytes(_safetensors({name: bf16(tensors[name]) for name in sorted(tensors)}))


def bf16(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint16]:
    """The upper halves of finite F32 values, rounded to nearest, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def _config(shape: Shape, special: Mapping[str, int]) -> dict[str, Any]:
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "llama",
        "vocab_size": shape.vocab,
        "hidden_size": shape.width,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.norm_eps,
        "hidden_act": "silu",
        "tie_word_embeddings": shape.tied,
        "torch_dtype": "bfloat16",
        **{f"{name}_token_id": index for name, index in special.items()},
    }


def _tokenizer(tokens: Sequence[str], special: Mapping[str, int]) -> dict[str, Any]:
    bos = tokens[special["bos"]]
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, "content": tokens[i], **added} for i in sorted(special.values())],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": r"[\s\S]"},
            "behavior": "Isolated",
            "invert": False,
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": bos, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {bos: {"id": bos, "ids": [special["bos"]], "tokens": [bos]}},
        },
        "decoder": {"type": "Fuse"},
        "model": {
            "type": "WordLevel",
            "vocab": {text: i for i, text in enumerate(tokens)},
            "unk_token": tokens[special["pad"]],
        },
    }


def _safetensors(tensors: Mapping[str, npt.NDArray[np.uint16]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, values in tensors.items():
        header[name] = {
            "dtype": "BF16",
            "shape": list(values.shape),
            "data_offsets": [end, end + values.nbytes],
        }
        end += values.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGN_BYTES)
    return len(text).to_bytes(8, "little") + text + b"".join(v.astype("<u2").tobytes() for v in tensors.values())
