"""What is known: formats, engines, hardware and embedded models, out of the YAML files beside this module."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, cast

import yaml

Axis = Literal["weights", "activations", "kv", "attention"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatInfo:
    """A number format.

    bits: mean bits per element with its scales, None where the name does not fix it; block: elements that share
    a scale group; block_bytes: bytes of one stored block, None where no stored layout is known; ggml: the type's
    name in a GGUF file; axes: where a recipe may name it.
    """

    name: str
    bits: float | None
    block: int | None
    block_bytes: int | None
    ggml: str | None
    axes: tuple[Axis, ...]
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What an engine can be asked for; where it is not implemented, names that its source gives, never complete."""

    name: str
    implemented: bool
    weights: tuple[str, ...]
    activations: tuple[str, ...]
    kv: tuple[str, ...]
    attention: tuple[str, ...]
    methods: tuple[str, ...]
    hardware: tuple[str, ...]
    note: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HardwareInfo:
    """A hardware tag; memory of one GPU, and the price of one GPU for an hour with its source and date.

    memory_bytes and price_usd_h are None where no source at hand states them.
    """

    name: str
    gpu: str | None
    memory_bytes: int | None
    memory_source: str
    price_usd_h: float | None
    price_source: str
    price_date: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedModel:
    """A model that comes with fleetbench; max_context_tok: prompt and output together."""

    name: str
    random_weights: bool
    suites: tuple[str, ...]
    max_context_tok: int
    about: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteInfo:
    """A quality suite; another version asks other items. max_items: of each category, a count."""

    name: str
    version: str
    max_items: int
    about: str
    source: str


def format_info(name: str) -> FormatInfo | None:
    return _formats().get(name)


def engine_spec(name: str) -> EngineSpec | None:
    return _engines().get(name)


def hardware_info(name: str) -> HardwareInfo | None:
    return _hardware().get(name)


def embedded_model(name: str) -> EmbeddedModel | None:
    return _models().get(name)


def suite_info(name: str) -> SuiteInfo | None:
    return _suites().get(name)


def format_names(axis: Axis) -> tuple[str, ...]:
    return tuple(name for name, info in _formats().items() if axis in info.axes)


def method_names() -> tuple[str, ...]:
    return tuple(_load("formats.yaml")["methods"])


def engine_names() -> tuple[str, ...]:
    return tuple(_engines())


def hardware_names() -> tuple[str, ...]:
    return tuple(_hardware())


def model_names() -> tuple[str, ...]:
    return tuple(_models())


def suite_names() -> tuple[str, ...]:
    return tuple(_suites())


def nearest(name: str, names: Iterable[str]) -> list[str]:
    """At most three of `names` that `name` was probably meant to be, the likeliest first; case is ignored."""
    by_fold = {known.casefold(): known for known in names}
    found = difflib.get_close_matches(name[:100].casefold(), by_fold, n=3, cutoff=0.5)
    return [by_fold[fold] for fold in found]


@cache
def _formats() -> dict[str, FormatInfo]:
    entries = _load("formats.yaml")["formats"]
    return {name: FormatInfo(name=name, **_tuples(entry)) for name, entry in entries.items()}


@cache
def _engines() -> dict[str, EngineSpec]:
    entries = _load("engines.yaml")["engines"]
    return {name: EngineSpec(name=name, **_tuples(entry)) for name, entry in entries.items()}


@cache
def _hardware() -> dict[str, HardwareInfo]:
    entries = _load("hardware.yaml")["hardware"]
    return {name: HardwareInfo(name=name, **entry) for name, entry in entries.items()}


@cache
def _models() -> dict[str, EmbeddedModel]:
    entries = _load("models.yaml")["models"]
    return {name: EmbeddedModel(name=name, **_tuples(entry)) for name, entry in entries.items()}


@cache
def _suites() -> dict[str, SuiteInfo]:
    return {name: SuiteInfo(name=name, **entry) for name, entry in _load("models.yaml")["suites"].items()}


@cache
def _load(file: str) -> dict[str, dict[str, dict[str, Any]]]:
    text = resources.files("fleetbench.catalog").joinpath(file).read_text(encoding="utf-8")
    return cast("dict[str, dict[str, dict[str, Any]]]", yaml.safe_load(text))


def _tuples(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
