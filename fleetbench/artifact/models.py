"""Finds the models of a matrix: embedded, in a folder, on the hub, or known by their config.json alone."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fleetbench.artifact import hf, hub, ladder, safetensors, source
from fleetbench.artifact.safetensors import SafetensorsError
from fleetbench.catalog import config_json, lookup
from fleetbench.catalog.config_json import ConfigError
from fleetbench.catalog.shapes import ModelShape
from fleetbench.errors import InputError
from fleetbench.matrix.identity import digest
from fleetbench.matrix.types import ModelInfo, ModelSpec

INDEX = "model.safetensors.index.json"
_MAX_CONFIG_BYTES = 10_000_000
_MAX_JSON_BYTES = 200_000_000
_SHOWN = 3
TINY_FOLDER = Path(__file__).resolve().parent / "tiny"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model, and its folder on this machine; None where it is embedded or not here."""

    info: ModelInfo
    folder: Path | None


def find(spec: ModelSpec) -> FoundModel:
    """What a matrix's model is, without the network.

    Raises:
        InputError: no such model, a config.json that lacks something, a broken checkpoint; each lack by its file.
    """
    if spec.path is not None:
        return dummy(Path(spec.path), spec.name) if spec.dummy else in_folder(spec.name, Path(spec.path))
    if spec.hub is None and spec.name in lookup.embedded_names():
        info = source.inspect(spec.name, None)
        return FoundModel(info=replace(info, shape=embedded_shape(spec.name)), folder=None)
    known = lookup.published_model(spec.hub or spec.name)
    where = spec.hub or (known.hub if known else None)
    if where is None:
        raise InputError((f"model {spec.name}: no such model is known (give its path, or its hub id)",))
    pinned = hub.pinned(where, spec.revision)
    if pinned.folder is not None:
        found = in_folder(spec.name, pinned.folder, hub=where, revision=pinned.commit)
        return replace(found, info=replace(found.info, hub=where, revision=pinned.commit))
    if known is None:
        why = (
            "neither this machine nor the catalog has its config.json (`fleetbench prepare` fetches it, or give a path)"
        )
        raise InputError((f"model {where}: {why}",))
    return FoundModel(info=_published(spec.name, where, pinned.commit or spec.revision, known.config), folder=None)


def embedded_shape(name: str) -> ModelShape:
    """The shape of a model that comes with fleetbench."""
    if name != source.LADDER:
        return _shape(TINY_FOLDER / hf.CONFIG)
    made = ladder.shape(len(hf.read(TINY_FOLDER).vocabulary.tokens))
    return config_json.parse(
        {
            "architectures": [hf.ARCHITECTURE],
            "hidden_size": made.width,
            "num_hidden_layers": made.layers,
            "num_attention_heads": made.heads,
            "num_key_value_heads": made.kv_heads,
            "head_dim": made.head_dim,
            "intermediate_size": made.ffn,
            "vocab_size": made.vocab,
            "max_position_embeddings": made.context,
            "tie_word_embeddings": made.tied,
            "torch_dtype": "float16",
        }
    )


def _published(name: str, where: str, revision: str | None, config: Mapping[str, Any]) -> ModelInfo:
    """A model that is known by its config alone; whichever commit is meant, without its weights it cannot run."""
    try:
        shape = config_json.parse(config)
    except ConfigError as error:
        raise InputError(tuple(f"model {where}: {clause} (in the catalog)" for clause in error.clauses)) from error
    return _of_shape(
        name,
        shape,
        identity=digest({"hub": where, "revision": revision, "config": dict(config)}),
        lacks=f"the weights of {where} are not on this machine (`fleetbench prepare` fetches them)",
        where=where,
        revision=revision,
    )


def dummy(folder: Path, name: str) -> FoundModel:
    """A folder of which config.json counts (and the tokenizer, for the engine): no weights are read."""
    shape = _shape(folder / hf.CONFIG)
    identity = digest({"dummy": hf.digest_files((folder / hf.CONFIG,))})
    info = _of_shape(name, shape, identity=identity, lacks=None)
    return FoundModel(info=replace(info, random_weights=True, dummy=True), folder=folder)


def in_folder(name: str, folder: Path, *, hub: str | None = None, revision: str | None = None) -> FoundModel:
    """A model by its files; of a hub's, what is missing can be fetched.

    Raises:
        InputError: no such folder, a config.json that lacks something, a broken checkpoint; each lack by its file.
    """
    if not _is_folder(folder):
        raise InputError((f"{folder}: no such folder (a model is a folder in Hugging Face layout)",))
    raw = _config(folder / hf.CONFIG)
    shape = _shape(folder / hf.CONFIG)
    files = tuple(sorted(folder.glob("*.safetensors")))
    missing = _missing(folder)
    lacks = None
    if hub is not None and (missing or not files):
        lacks = f"the weights of {hub} are not all on this machine (`fleetbench prepare` fetches them)"
    elif not files and not missing:
        lacks = f"{folder} holds no *.safetensors file: config.json is enough to plan with, not to run"
    if lacks is not None:
        identity = digest({"hub": hub, "revision": revision, "config": raw} if hub else raw)
        return FoundModel(info=_of_shape(name, shape, identity=identity, lacks=lacks), folder=folder)
    _whole(folder, files, missing)
    info = _llama(name, folder, raw)
    if info is not None:
        return FoundModel(info=replace(info, shape=shape), folder=folder)
    identity = hf.digest_files((folder / hf.CONFIG, *(f for f in (folder / hf.TOKENIZER,) if f.is_file()), *files))
    return FoundModel(info=_of_shape(name, shape, identity=identity, lacks=None), folder=folder)


def _llama(name: str, folder: Path, raw: Mapping[str, Any]) -> ModelInfo | None:
    """A model that GGUF files can be made of; None where it is another, or has what the conversion does not know.

    Raises:
        InputError: its weights are not those that its config.json describes.
    """
    if raw.get("architectures") != [hf.ARCHITECTURE] or "quantization_config" in raw:
        return None
    try:
        return source.inspect(name, folder)
    except InputError as error:
        limits = (f"{folder / hf.CONFIG}: ", f"{folder / hf.TOKENIZER}: ")
        if all(mistake.startswith(limits) for mistake in error.mistakes):
            return None
        raise


def _of_shape(
    name: str,
    shape: ModelShape,
    *,
    identity: str,
    lacks: str | None,
    where: str | None = None,
    revision: str | None = None,
) -> ModelInfo:
    return ModelInfo(
        name=name,
        digest=identity,
        max_context_tok=shape.max_context_tok,
        vocab_tok=shape.vocab_tok,
        params=shape.params,
        random_weights=False,
        suites=(),
        shape=shape,
        hub=where,
        revision=revision,
        lacks=lacks,
    )


def _shape(path: Path) -> ModelShape:
    try:
        return config_json.parse(_config(path))
    except ConfigError as error:
        raise InputError(tuple(f"{path}: {clause}" for clause in error.clauses)) from error


def _config(path: Path, most: int = _MAX_CONFIG_BYTES) -> dict[str, Any]:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # opening a FIFO would wait for a writer
            raise InputError((f"{path}: not a regular file",))
        if found.st_size > most:
            raise InputError((f"{path}: beyond {most} bytes",))
        raw = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_number)
    except OSError as error:
        raise InputError((f"{path}: {error.strerror or error}",)) from error
    except (ValueError, RecursionError) as error:
        raise InputError((f"{path}: it is not JSON in UTF-8 (is it truncated?)",)) from error
    if not isinstance(raw, dict):
        raise InputError((f"{path}: it is not a JSON object",))
    return raw


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is no number of JSON")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # too long a name, or no right to look
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def has_weights(folder: Path) -> bool:
    """Whether it holds weights, and all that its index names."""
    return any(folder.glob("*.safetensors")) and not _missing(folder)


def _missing(folder: Path) -> tuple[str, ...]:
    """Files that the index names, if there is one, and that are not here."""
    if not os.path.lexists(folder / INDEX):
        return ()
    weights = _config(folder / INDEX, _MAX_JSON_BYTES).get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise InputError((f"{folder / INDEX}: weight_map names no file (get it again)",))
    return tuple(name for name in sorted(set(map(str, weights.values()))) if not _is_file(folder / name))


def _whole(folder: Path, files: tuple[Path, ...], missing: tuple[str, ...]) -> None:
    """Every weights file can be read to its end, none that the index names is missing, and the tokenizer is JSON."""
    mistakes: list[str] = []
    for path in files:
        try:
            safetensors.check(path)
        except SafetensorsError as error:
            mistakes.append(f"{path}: {error}")
        except OSError as error:
            mistakes.append(f"{path}: {error.strerror or error}")
    mistakes += [f"{folder / name}: {INDEX} names it, and it is missing" for name in missing[:_SHOWN]]
    if (more := len(missing) - _SHOWN) > 0:
        mistakes.append(f"{folder / INDEX}: it names {more} more files that are missing")
    if os.path.lexists(folder / hf.TOKENIZER):
        try:
            _config(folder / hf.TOKENIZER, _MAX_JSON_BYTES)
        except InputError as error:
            mistakes += error.mistakes
    if mistakes:
        raise InputError(tuple(mistakes))
