"""Reads a made checkpoint back: whether its config, its files and its layers are what was asked for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fleetbench.artifact.compressed import Scheme, is_ignored
from fleetbench.artifact.presets import Numbers
from fleetbench.artifact.types import ArtifactError

CONFIG, SINGLE, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_MAX_HEADER_BYTES, _LENGTH_BYTES = 100_000_000, 8
_WIDTH_BYTES = {"F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BF16": 2, "F16": 2, "F32": 4, "I32": 4, "I64": 8}
_SCALE, _CACHE_SCALES = ".weight_scale", (".k_scale", ".v_scale")


def check(folder: Path, scheme: Scheme, *, ignored: tuple[str, ...], layers: int, attentions: int) -> None:
    """Prove a checkpoint.

    Args:
        folder: the checkpoint.
        scheme: as it was asked for.
        ignored: names and patterns of layers that stay as they are.
        layers: that had to be quantized, a count.
        attentions: layers whose cache had to get scales.

    Raises:
        ArtifactError: what differs; among others that nothing at all was quantized.
        OSError: a file that cannot be read.
    """
    _check_config(folder, scheme)
    tensors = read_tensors(folder)
    wanted, kind = scheme.stored
    scaled = {name.removesuffix(_SCALE) for name in tensors if name.endswith(_SCALE)}
    narrow = {name for name in scaled if tensors.get(f"{name}.{wanted}") == kind}
    if scheme.preset is not None and not narrow:
        raise ArtifactError(f"{folder}: llmcompressor quantized 0 layers")
    if scaled != narrow:
        odd = ", ".join(sorted(scaled - narrow)[:3])
        raise ArtifactError(f"{folder}: layers have scales and hold no {kind} weights: {odd}")
    if len(narrow) != layers:
        raise ArtifactError(f"{folder}: {len(narrow)} layers are quantized where {layers} should be")
    astray = sorted(name for name in narrow if is_ignored(name, ignored))
    if astray:
        raise ArtifactError(f"{folder}: protected layers were quantized: {', '.join(astray[:3])}")
    for ending in _CACHE_SCALES if scheme.kv else ():
        found = sum(name.endswith(ending) for name in tensors)
        if found != attentions:
            raise ArtifactError(
                f"{folder}: {found} of {attentions} layers have a scale {ending.lstrip('.')} for the cache"
            )


def read_tensors(folder: Path) -> dict[str, str]:
    """Type of every tensor by its name; every weights file is whole, and the index names all of them and no other.

    Raises:
        ArtifactError: a missing, truncated or surplus file, or an index that does not fit.
        OSError: a file that cannot be read.
    """
    files = sorted(path.name for path in folder.glob("*.safetensors"))
    if not files:
        raise ArtifactError(f"{folder}: it holds no weights")
    by_file = {name: _header(folder / name) for name in files}
    where = {tensor: name for name, tensors in by_file.items() for tensor in tensors}
    if (folder / INDEX).exists():
        named = _json(folder / INDEX).get("weight_map")
        if named != where:
            raise ArtifactError(f"{folder / INDEX}: it does not name the tensors that the files hold")
    elif files != [SINGLE]:
        raise ArtifactError(f"{folder}: it has {len(files)} weights files and no {INDEX}")
    return {tensor: kind for tensors in by_file.values() for tensor, kind in tensors.items()}


def _check_config(folder: Path, scheme: Scheme) -> None:
    path = folder / CONFIG
    said = _json(path).get("quantization_config")
    if not isinstance(said, dict) or said.get("quant_method") != "compressed-tensors":
        raise ArtifactError(f"{path}: it names no compressed-tensors quantization")
    if said.get("format") != scheme.form:
        raise ArtifactError(f"{path}: the format is {said.get('format')!r}, asked for was {scheme.form!r}")
    groups = list((said.get("config_groups") or {}).values())
    if len(groups) != (scheme.preset is not None):
        raise ArtifactError(f"{path}: it has {len(groups)} groups of layers")
    group = groups[0] if groups else {}
    for what, found, asked in (
        ("weights", group.get("weights"), scheme.weights),
        ("input_activations", group.get("input_activations"), scheme.inputs),
        ("kv_cache_scheme", said.get("kv_cache_scheme"), scheme.kv),
    ):
        if not _equal(found, asked):
            raise ArtifactError(f"{path}: {what} is {json.dumps(found)[:200]}, asked for was {asked}")


def _equal(found: Any, asked: Numbers | None) -> bool:
    if asked is None or not isinstance(found, dict):
        return found is asked
    said = (found.get("num_bits"), found.get("type"), found.get("strategy"), found.get("dynamic"))
    group = found.get("group_size")
    return said == (asked.bits, asked.kind, asked.strategy, asked.dynamic) and group == asked.group_size


def _header(path: Path) -> dict[str, str]:
    """Type by tensor of one file, which ends where its last tensor does."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise ArtifactError(f"{path}: it is truncated")
        try:
            header: Mapping[str, Any] = json.loads(file.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            ends = [entry["data_offsets"] for entry in tensors.values()]
            widths = [(e["dtype"], math.prod(e["shape"])) for e in tensors.values()]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactError(f"{path}: its header is broken") from error
    for (begin, end), (kind, count) in zip(ends, widths, strict=True):
        if kind not in _WIDTH_BYTES or end - begin != count * _WIDTH_BYTES[kind]:
            raise ArtifactError(f"{path}: a tensor of type {kind} does not fit its bytes")
    if _LENGTH_BYTES + length + max((end for _, end in ends), default=0) != size:
        raise ArtifactError(f"{path}: it is truncated")
    return {name: str(entry["dtype"]) for name, entry in tensors.items()}


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: it is not JSON") from error
    if not isinstance(raw, dict):
        raise ArtifactError(f"{path}: it is not a JSON object")
    return raw
