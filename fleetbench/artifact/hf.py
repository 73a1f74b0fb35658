"""A folder of a Hugging Face Llama: found, checked whole, and described."""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, ValidationError

from fleetbench.artifact import hashing, safetensors, vocabulary
from fleetbench.artifact.llama import Shape, layer_shapes
from fleetbench.artifact.safetensors import SafetensorsError, Stored
from fleetbench.artifact.vocabulary import Vocabulary, VocabularyError
from fleetbench.errors import InputError

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
ARCHITECTURE = "LlamaForCausalLM"
_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_MAX_JSON_BYTES = 200_000_000
_SHOWN = 3
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_UNSUPPORTED: Mapping[str, tuple[object, ...]] = {
    # Values of config.json under which the weights mean what the conversion takes them to mean.
    "hidden_act": (None, "silu"),
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "quantization_config": (None,),
    "pretraining_tp": (None, 1),
}


_Count = Annotated[int, Field(gt=0, le=1 << 24)]
_Layers = Annotated[int, Field(gt=0, le=10_000)]


class _Config(BaseModel):
    """The keys of config.json that say what the weights are; others do not change them."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)

    hidden_size: _Count
    num_hidden_layers: _Layers
    num_attention_heads: _Count
    num_key_value_heads: _Count | None = None
    head_dim: _Count | None = None
    intermediate_size: _Count
    vocab_size: _Count
    max_position_embeddings: _Count
    rms_norm_eps: PositiveFloat
    rope_theta: PositiveFloat | None = None
    rope_parameters: dict[str, Any] | None = None
    rope_scaling: dict[str, Any] | None = None
    tie_word_embeddings: bool = False
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HfModel:
    """A checked folder: `tensors` by GGUF name, of exactly the sizes that `shape` asks for."""

    folder: Path
    shape: Shape
    vocabulary: Vocabulary
    tensors: Mapping[str, Stored]
    weight_files: tuple[Path, ...]


def read(folder: Path) -> HfModel:
    """Read everything but the weights' values.

    Raises:
        InputError: every lack that can be seen, each naming its file.
    """
    if not _is_folder(folder):
        raise InputError((f"{folder}: no such folder (a model is a folder with {CONFIG}, {TOKENIZER}, *.safetensors)",))
    mistakes: list[str] = []
    raw = _json(folder / CONFIG, mistakes)
    tokens = _json(folder / TOKENIZER, mistakes)
    files = tuple(sorted(folder.glob("*.safetensors")))
    if not files:
        mistakes.append(f"{folder}: it holds no *.safetensors file (other weight files are not read)")
    stored = _index(files, mistakes)
    config = None if raw is None else _config(folder / CONFIG, raw, mistakes)
    if config is None:
        raise InputError(tuple(mistakes))
    shape = _shape(config)
    known = None if tokens is None else _vocabulary(folder / TOKENIZER, tokens, config, mistakes)
    tensors = _match(folder, shape, stored, mistakes) if files and stored is not None else {}
    if mistakes or known is None:
        raise InputError(tuple(mistakes))
    return HfModel(folder=folder, shape=shape, vocabulary=known, tensors=tensors, weight_files=files)


def digest(model: HfModel) -> str:
    """Hex sha256 over the name and sha256 of config.json, tokenizer.json and every weights file.

    Raises:
        InputError: a file vanished or became unreadable.
    """
    return digest_files((model.folder / CONFIG, model.folder / TOKENIZER, *model.weight_files))


def digest_files(paths: Iterable[Path]) -> str:
    """Hex sha256 over the name and sha256 of every file; a file of the hub's cache is named by its own sha256.

    Raises:
        InputError: a file vanished or became unreadable.
    """
    whole = hashlib.sha256()
    for path in paths:
        try:
            blob = path.resolve(strict=True).name
            sha256 = blob if path.is_symlink() and _SHA256.match(blob) else hashing.remembered_sha256(path)
        except OSError as error:
            raise InputError((f"{path}: {error.strerror or error}",)) from error
        whole.update(f"{path.name}\0{sha256}\n".encode())
    return whole.hexdigest()


def hf_name(layer: int, name: str) -> str:
    """Hugging Face's name of a layer's tensor that GGUF calls `name`."""
    return f"model.layers.{layer}.{_NAMES[name]}.weight"


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # no right to look
        return False


def _json(path: Path, mistakes: list[str]) -> dict[str, Any] | None:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a FIFO would wait for a writer
            mistakes.append(f"{path}: not a regular file")
            return None
        if found.st_size > _MAX_JSON_BYTES:
            mistakes.append(f"{path}: beyond {_MAX_JSON_BYTES} bytes")
            return None
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        mistakes.append(f"{path}: {error.strerror or error}")
    except (ValueError, RecursionError):
        mistakes.append(f"{path}: it is not JSON in UTF-8 (is it truncated?)")
    else:
        if isinstance(value, dict):
            return value
        mistakes.append(f"{path}: it is not a JSON object")
    return None


def _config(path: Path, raw: dict[str, Any], mistakes: list[str]) -> _Config | None:
    before = len(mistakes)
    if raw.get("architectures") != [ARCHITECTURE]:
        found = raw.get("architectures", "missing")
        mistakes.append(f"{path}: architectures is {found}; only [{ARCHITECTURE!r}] is supported")
    for key, fine in _UNSUPPORTED.items():
        if raw.get(key) not in fine:
            mistakes.append(f"{path}: {key} {raw[key]!r} is not supported")
    try:
        config = _Config.model_validate(raw)
    except ValidationError as error:
        mistakes += [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors()]
        return None
    mistakes += [f"{path}: {text}" for text in _contradictions(config)]
    return config if len(mistakes) == before else None


def _contradictions(config: _Config) -> list[str]:
    found = []
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    if config.head_dim is None and config.hidden_size % heads:
        found.append(f"hidden_size {config.hidden_size} is no multiple of num_attention_heads {heads}")
    if kv_heads is not None and heads % kv_heads:
        found.append(f"num_attention_heads {heads} is no multiple of num_key_value_heads {kv_heads}")
    if config.head_dim is not None and config.head_dim % 2:
        found.append(f"head_dim {config.head_dim} is odd: rotary positions need pairs")
    scaling = config.rope_scaling or config.rope_parameters or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind != "default":
        found.append(f"rotary scaling {kind!r} is not supported")
    theta = (config.rope_parameters or {}).get("rope_theta", 1.0)
    if isinstance(theta, bool) or not isinstance(theta, int | float) or not theta > 0:
        found.append(f"rope_parameters.rope_theta {theta!r} is not a positive number")
    return found


def _shape(config: _Config) -> Shape:
    heads = config.num_attention_heads
    theta = (config.rope_parameters or {}).get("rope_theta") or config.rope_theta or 10_000.0
    return Shape(
        width=config.hidden_size,
        layers=config.num_hidden_layers,
        heads=heads,
        kv_heads=config.num_key_value_heads or heads,
        head_dim=config.head_dim or config.hidden_size // heads,
        ffn=config.intermediate_size,
        vocab=config.vocab_size,
        context=config.max_position_embeddings,
        rope_theta=float(theta),
        norm_eps=config.rms_norm_eps,
        tied=config.tie_word_embeddings,
    )


def _vocabulary(path: Path, tokens: dict[str, Any], config: _Config, mistakes: list[str]) -> Vocabulary | None:
    eos = config.eos_token_id
    first_eos = (eos[0] if eos else None) if isinstance(eos, list) else eos
    try:
        return vocabulary.parse(tokens, size=config.vocab_size, bos=config.bos_token_id, eos=first_eos)
    except VocabularyError as error:
        mistakes.append(f"{path}: {error}")
        return None


def _index(files: tuple[Path, ...], mistakes: list[str]) -> dict[str, Stored] | None:
    """All files' tensors by their Hugging Face names; None where a file could not be read."""
    found: dict[str, Stored] = {}
    broken = False
    for path in files:
        try:
            tensors = safetensors.index(path)
        except SafetensorsError as error:
            mistakes.append(f"{path}: {error}")
            broken = True
            continue
        except OSError as error:
            mistakes.append(f"{path}: {error.strerror or error}")
            broken = True
            continue
        twice = sorted(found.keys() & tensors.keys())
        if twice:
            mistakes.append(f"{path}: {_few(twice)} stands in {found[twice[0]].path.name} too")
        found |= tensors
    return None if broken else found


def _match(folder: Path, shape: Shape, stored: Mapping[str, Stored], mistakes: list[str]) -> dict[str, Stored]:
    wanted = _wanted(shape)
    missing = sorted(hf for _, hf, _ in wanted if hf not in stored)
    if missing:
        mistakes.append(f"{folder}: the weights lack {_few(missing)}")
    for _, hf, dims in wanted:
        if hf in stored and stored[hf].shape != dims:
            mistakes.append(
                f"{stored[hf].path}: {hf} has the shape {list(stored[hf].shape)}, {CONFIG} asks for {list(dims)}"
            )
    names = {hf for _, hf, _ in wanted} | ({"lm_head.weight"} if shape.tied else set())
    strange = sorted(n for n in stored if n not in names and not n.endswith("rotary_emb.inv_freq"))
    if strange:
        mistakes.append(f"{folder}: the weights hold {_few(strange)}, which a Llama does not have")
    return {ours: stored[hf] for ours, hf, _ in wanted if hf in stored}


def _wanted(shape: Shape) -> list[tuple[str, str, tuple[int, ...]]]:
    """(GGUF name, Hugging Face name, shape) of every tensor, in the order of the GGUF file."""
    wanted: list[tuple[str, str, tuple[int, ...]]] = [
        ("token_embd.weight", "model.embed_tokens.weight", (shape.vocab, shape.width)),
        ("output_norm.weight", "model.norm.weight", (shape.width,)),
    ]
    if not shape.tied:
        wanted.append(("output.weight", "lm_head.weight", (shape.vocab, shape.width)))
    for layer in range(shape.layers):
        for ours, dims in layer_shapes(shape).items():
            wanted.append((f"blk.{layer}.{ours}.weight", hf_name(layer, ours), dims))
    return wanted


def _few(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
