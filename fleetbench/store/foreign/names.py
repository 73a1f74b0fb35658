"""Another tool's words for models, hardware, engines and formats, looked up in the catalog: exactly, or not at all."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fleetbench.catalog import lookup
from fleetbench.store.foreign.record import AXES, Axis, Record, Words

UNKNOWN = "unknown"
"""Stands in a column that needs a name where the file says none."""
_NOT_FOREIGN = frozenset({"local"})
"""Tags that mean the machine at hand: in another's file they would mean another machine."""
_KINDS = {"fp8": ("fp8", "fp8_e5m2", "mxfp8"), "fp4": ("nvfp4", "mxfp4"), "int8": ("int8",), "int4": ("int4",)}
"""Formats that go by a short name."""
_NEEDED: frozenset[Axis] = frozenset({"hardware", "engine"})


@dataclass(slots=True)
class Names:
    """Looks names up, and counts what it does not find: by axis and name, or by axis where a record names none."""

    words: Words
    unmapped: Counter[tuple[Axis, str]] = field(default_factory=Counter)
    not_said: Counter[Axis] = field(default_factory=Counter)

    def columns(self, record: Record) -> dict[str, str | None]:
        """The named axes of a record: the catalog's names, and the record's own words where it has none.

        A word of several meanings is counted as unmapped, and leaves the column NULL.
        """
        found: dict[str, str | None] = {}
        for axis in AXES:
            word: str | None = getattr(record, axis)
            if word is None:
                self.not_said.update([axis] if axis in _NEEDED else [])
                found[axis] = UNKNOWN if axis in _NEEDED else None
                continue
            meant = self.words.get(axis, {}).get(word, word)
            name = catalogued(axis, meant) if meant else None
            if name is None:
                self.unmapped[axis, word] += 1
            found[axis] = name or (word if meant else None)
        return found


def catalogued(axis: Axis, word: str) -> str | None:
    """The catalog's name for a word that is one of its names, aliases, hub ids or device names; None for others."""
    match axis:
        case "model":
            model = lookup.published_model(word)
            return model.name if model else None
        case "hardware":
            if word in _NOT_FOREIGN or word.startswith(lookup.SIMULATED):
                return None
            gpu = lookup.gpu_info(word) or lookup.gpu_of_device(word)
            return gpu.name if gpu and gpu.name not in _NOT_FOREIGN else None
        case "engine":
            engine = lookup.engine_spec(word)
            return engine.name if engine else None
        case "method":
            method = lookup.method_info(word)
            return method.name if method else None
        case "weights" | "activations" | "kv_k" | "kv_v":
            name = lookup.aliases("formats").get(word.casefold(), word.casefold())
            info = lookup.format_info(name)
            return name if info and ("kv" if axis.startswith("kv") else axis) in info.axes else None


def as_published(model: str, precision: str) -> str | None:
    """The format that a short name such as fp4 means for a model: the one that it is published in, by the catalog.

    None where the catalog does not know the model, or that is published in no such format.
    """
    known = lookup.published_model(model)
    shape = lookup.model_shape(known.name) if known else None
    return shape.quantized if shape and shape.quantized in _KINDS.get(precision, ()) else None
