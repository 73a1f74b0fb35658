"""Finds what is known by its name: out of the YAML files beside this module, and of a folder of the user's own.

The folder that `FLEETBENCH_CATALOG` names has the same layout. A file there adds an entry, or changes keys of the
shipped one of the same name: a price, a bandwidth, one peak of several; a list, such as an engine's rules, it replaces
whole.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from fleetbench.catalog import config_json
from fleetbench.catalog.shapes import ModelShape
from fleetbench.catalog.types import (
    Axis,
    EmbeddedModel,
    EngineSpec,
    FormatInfo,
    GpuInfo,
    MethodInfo,
    PublishedModel,
    RecipeInfo,
    SuiteInfo,
)
from fleetbench.errors import InputError

OVERLAY = "FLEETBENCH_CATALOG"
SIMULATED = "sim-"
"""Before a hardware tag: a node without such GPUs that is scheduled as if it had them, to try a fleet out."""
Entry = TypeVar("Entry")
_SHOWN = 10
_schemas: dict[type[Any], TypeAdapter[Any]] = {}
_found: dict[tuple[str, str], object] = {}
"""Entries that were asked for, by folder or key and name: the catalog does not change while a process lives."""
_BOOL = "tag:yaml.org,2002:bool"


class _Loader(yaml.CSafeLoader):
    """YAML in which `on` is a word, as in YAML 1.2: only true and false are not."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != _BOOL or first in "tTfF"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def gpu_info(name: str) -> GpuInfo | None:
    """A kind of hardware by its tag or an alias of it; `sim-` before one is a CPU that plays it."""
    if not name.startswith(SIMULATED):
        return _of_folder("gpus", name, GpuInfo)
    played = _of_folder("gpus", name.removeprefix(SIMULATED), GpuInfo)
    return played and _simulated(played)


def _simulated(played: GpuInfo) -> GpuInfo:
    """A node's CPU in the place of its GPUs: it can be scheduled like them, and none of their figures are its own."""
    return replace(
        played,
        name=f"{SIMULATED}{played.name}",
        title=f"a CPU in the place of {played.title}",
        vendor="cpu",
        arch="x86",
        aliases=(),
        devices=(),
        memory_bytes=None,
        bandwidth_bytes_s=None,
        flops={},
        power_w=None,
        native=("fp32",),
        link_bytes_s=None,
        price_usd_h=None,
    )


def engine_spec(name: str) -> EngineSpec | None:
    return _of_folder("engines", name, EngineSpec)


def published_model(name: str) -> PublishedModel | None:
    """A published model by its name, an alias or its hub id, whatever the case."""
    return _of_folder("models", name, PublishedModel)


@cache
def model_shape(name: str) -> ModelShape | None:
    """The shape of a published model; its config is checked by a test, so it parses."""
    model = published_model(name)
    return None if model is None else config_json.parse(model.config)


def format_info(name: str) -> FormatInfo | None:
    return _of_file("formats.yaml", "formats", name, FormatInfo)


def method_info(name: str) -> MethodInfo | None:
    return _of_file("methods.yaml", "methods", name, MethodInfo)


def recipe_info(name: str) -> RecipeInfo | None:
    return _of_file("recipes.yaml", "recipes", name, RecipeInfo)


def embedded_model(name: str) -> EmbeddedModel | None:
    return _of_file("embedded.yaml", "models", name, EmbeddedModel)


def suite_info(name: str) -> SuiteInfo | None:
    return _of_file("embedded.yaml", "suites", name, SuiteInfo)


def gpu_of_device(device: str) -> GpuInfo | None:
    """The kind whose vendor tools print this device name; None where none or several kinds do."""
    found = [info for name in gpu_names() if (info := gpu_info(name)) and device in info.devices]
    return found[0] if len(found) == 1 else None


def gpu_names() -> tuple[str, ...]:
    return _stems("gpus")


def engine_names() -> tuple[str, ...]:
    return _stems("engines")


def published_names() -> tuple[str, ...]:
    return _stems("models")


def format_names(axis: Axis) -> tuple[str, ...]:
    names = _entries("formats.yaml", "formats")
    return tuple(name for name in names if (info := format_info(name)) and axis in info.axes)


def method_names() -> tuple[str, ...]:
    return tuple(_entries("methods.yaml", "methods"))


def recipe_names() -> tuple[str, ...]:
    return tuple(_entries("recipes.yaml", "recipes"))


def embedded_names() -> tuple[str, ...]:
    return tuple(_entries("embedded.yaml", "models"))


def suite_names() -> tuple[str, ...]:
    return tuple(_entries("embedded.yaml", "suites"))


@cache
def aliases(kind: str) -> Mapping[str, str]:
    """Every name, alias and hub id of a kind (`gpus`, `models`, `formats`), case folded, to the name it stands for."""
    found: dict[str, str] = {}
    if kind == "formats":
        for name in _entries("formats.yaml", "formats"):
            info = format_info(name)
            found |= {word.casefold(): name for word in (info.aliases if info else ())}
        return found
    for name in _stems(kind):
        given = _raw(kind, name)
        for word in (name, given.get("hub"), *(given.get("aliases") or ())):
            if isinstance(word, str):
                found[word.casefold()] = name
    return found


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """At most three of `names` that `name` was probably meant to be, the likeliest first; case is ignored."""
    by_fold = {known.casefold(): known for known in names}
    found = difflib.get_close_matches(name[:100].casefold(), by_fold, n=3, cutoff=0.5)
    return [by_fold[fold] for fold in found]


def _of_folder(folder: str, name: str, kind: type[Entry]) -> Entry | None:
    stem = name if name in _stems(folder) else aliases(folder).get(name.casefold())
    if stem is None:
        return None
    if (folder, stem) not in _found:
        _found[folder, stem] = _valid(f"{folder}/{stem}.yaml", {**_raw(folder, stem), "name": stem}, kind)
    return cast("Entry", _found[folder, stem])


def _of_file(file: str, key: str, name: str, kind: type[Entry]) -> Entry | None:
    if (key, name) not in _found:
        entries = _entries(file, key)
        if name not in entries:
            return None
        _found[key, name] = _valid(f"{file}: {key}.{name}", {**entries[name], "name": name}, kind)
    return cast("Entry", _found[key, name])


def _valid(where: str, given: dict[str, Any], kind: type[Entry]) -> Entry:
    if kind not in _schemas:
        _schemas[kind] = TypeAdapter(kind)
    try:
        return cast("Entry", _schemas[kind].validate_python(given))
    except ValidationError as error:
        found = [f"{'.'.join(map(str, e['loc']))}: {e['msg'].lower()}" for e in error.errors(include_url=False)]
        more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
        raise InputError(tuple(f"catalog {where}: {mistake}" for mistake in (*found[:_SHOWN], *more))) from error


@cache
def _stems(folder: str) -> tuple[str, ...]:
    try:
        shipped = {file.name for place in _places() if (at := place / folder).is_dir() for file in at.iterdir()}
    except OSError as error:
        raise InputError((f"catalog {error.filename}: {error.strerror}",)) from error
    return tuple(sorted(name.removesuffix(".yaml") for name in shipped if name.endswith(".yaml")))


@cache
def _raw(folder: str, stem: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place in _places():
        file = place / folder / f"{stem}.yaml"
        if file.is_file():
            found = _merged(found, _read(file))
    return found


@cache
def _entries(file: str, key: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for place in _places():
        if (place / file).is_file():
            entries = _read(place / file).get(key) or {}
            if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
                raise InputError((f"catalog {place / file}: {key}: is not a mapping of names to mappings",))
            found |= {name: _merged(found.get(name, {}), entry) for name, entry in entries.items()}
    return found


def _merged(shipped: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Keys of `own` in place of the shipped ones; those of a mapping one by one, a figure with its source whole."""

    def merged(old: object, new: object) -> object:
        if isinstance(old, Mapping) and isinstance(new, Mapping) and "value" not in old:
            return {**old, **new}
        return new

    return {**shipped, **{key: merged(shipped.get(key), value) for key, value in own.items()}}


@cache
def _places() -> tuple[Traversable, ...]:
    """The shipped catalog, and the user's own behind it."""
    shipped = resources.files("fleetbench.catalog")
    own = os.environ.get(OVERLAY)
    if not own:
        return (shipped,)
    if not Path(own).is_dir():
        raise InputError((f"{OVERLAY}: {own} is no folder (make it, or unset the variable)",))
    return (shipped, Path(own))


def _read(file: Traversable) -> dict[str, Any]:
    try:
        found = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a safe one
    except (OSError, ValueError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise InputError((f"catalog {file}: cannot be read: {said}",)) from error
    if not isinstance(found, dict):
        raise InputError((f"catalog {file}: is not a mapping",))
    return found
