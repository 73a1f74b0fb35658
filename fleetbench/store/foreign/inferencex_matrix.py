"""InferenceX's master configuration as a matrix: the points of its search spaces that a matrix can ask for."""

from __future__ import annotations

import itertools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fleetbench.store.foreign.document import Node, yaml_file
from fleetbench.store.foreign.inferencex_words import WORDS
from fleetbench.store.foreign.names import as_published, catalogued
from fleetbench.store.foreign.record import Axis, Converted

_AXES = ("model", "recipe", "engine", "hardware", "tp", "context", "output")
_DEPLOYMENT = 4
"""So many of the axes say what is deployed; then its degree, then lengths."""
_KNOWN = frozenset({"tp", "ep", "dp-attn", "spec-decoding", "conc-start", "conc-end", "conc-list"})
_STEP = 2
_MOST_NAME = 64
_MOST_DEGREE = 4096
_WIDE = {"bf16": "bf16", "fp16": "fp16"}
_BECAUSE = "not in the search space of InferenceX"

Key = tuple[str, str, str, str, int, int, int]


def convert(path: Path) -> Converted:
    """One matrix of all that can be expressed; what its product asks for beyond the list is excluded.

    Raises:
        ForeignError: this is no such configuration, or nothing of it can be expressed.
    """
    asked: defaultdict[Key, set[int]] = defaultdict(set)
    left_out: Counter[str] = Counter()
    points = 0
    root = yaml_file(path)
    for entry in root.mapping():
        for key, batches, why in _points(root.get(entry)):
            if key is None:
                left_out[why] += 1
            else:
                points += 1
                asked[key] |= batches
    if not asked:
        reasons = ", ".join(f"{why} ({count})" for why, count in left_out.most_common())
        raise root.fail(f"nothing of it can be asked for by a matrix: {reasons or 'it has no entries'}")
    name = re.sub(r"[^A-Za-z0-9_+-]+", "-", path.name.split(".")[0]).strip("-_+")[:_MOST_NAME]
    matrix = _matrix(name or "inferencex", asked)
    return Converted(matrix=matrix, points=points, left_out=dict(left_out.most_common()))


def _points(entry: Node) -> Iterator[tuple[Key | None, set[int], str]]:
    """Every point of an entry: what it asks for, or why a matrix cannot."""
    scenarios = entry.get("scenarios")
    fixed = scenarios.get("fixed-seq-len") if scenarios.value is not None else entry.get("seq-len-configs")
    others = [key for key in (scenarios.value or {}) if key != "fixed-seq-len"]
    for shape in (shape for key in others for shape in scenarios.get(key).items()):
        for _ in _space(shape):
            yield None, set(), "replays of traces, which have no one length"
    for shape in fixed.required().items() if not others else fixed.items():
        for point in _space(shape):
            names, why = _names(entry)
            why = _unlike(entry, point) or why
            if why:
                yield None, set(), why
            else:
                tp, isl, osl = point.get("tp"), shape.get("isl"), shape.get("osl")
                degree, context, output = map(_at_least_one, (tp, isl, osl))
                if degree > _MOST_DEGREE:
                    raise tp.fail(f"{degree} is more than any degree (at most {_MOST_DEGREE})")
                yield (*names, degree, context, output), set(_batches(point)), ""


def _space(shape: Node) -> list[Node]:
    """The points of a pair of lengths; before 2026 under another name."""
    return shape.get("search-space" if shape.has("search-space") else "bmk-space").items()


def _unlike(entry: Node, point: Node) -> str | None:
    """Why a matrix cannot ask for a point's deployment."""
    if entry.get("multinode").flag() or entry.get("disagg").flag() or point.has("prefill"):
        return "prefill and decode on nodes of their own, which no axis says"
    if (point.get("ep").count() or 1) > 1:
        return "expert parallelism, which no axis says"
    if point.get("dp-attn").flag():
        return "attention in data parallel, which no axis says"
    speculative = point.get("spec-decoding").text() or "none"
    if speculative != "none":
        return f"speculative decoding ({speculative}), of how many tokens is not said"
    unknown = sorted({str(key) for key in point.mapping()} - _KNOWN)
    return f"{unknown[0]}, which no axis says" if unknown else None


def _names(entry: Node) -> tuple[tuple[str, str, str, str], str | None]:
    """Model, recipe, engine and hardware by the catalog's names, or why not."""
    words = {key: entry.get(key).required().text() or "" for key in ("model", "precision", "framework", "runner")}
    model, engine = _catalogued("model", words["model"]), _catalogued("engine", words["framework"])
    gpu = _catalogued("hardware", words["runner"])
    recipe = _WIDE.get(words["precision"]) or as_published(words["model"], words["precision"])
    found = (model or "", recipe or "", engine or "", gpu or "")
    for name, key, what in zip(found, ("model", "precision", "framework", "runner"), _AXES, strict=False):
        if not name:
            unsure = key == "precision" and bool(model)
            return found, (
                f"{words['precision']} of {words['model']}, which may be several formats"
                if unsure
                else f"{what} {words[key]}, which the catalog does not know"
            )
    return found, None


def _catalogued(axis: Axis, word: str) -> str | None:
    meant = WORDS.get(axis, {}).get(word, word)
    return catalogued(axis, meant) if meant else None


def _batches(point: Node) -> Iterator[int]:
    """Concurrencies: as listed, or doubled from start to end."""
    if point.has("conc-list"):
        listed = point.get("conc-list")
        if not listed.items():
            raise listed.fail("it is empty")
        yield from map(_at_least_one, listed.items())
        return
    batch, last = _at_least_one(point.get("conc-start")), _at_least_one(point.get("conc-end"))
    if batch > last:
        raise point.get("conc-end").fail(f"{last} is below conc-start, {batch}")
    while batch <= last:
        yield batch
        batch *= _STEP


def _at_least_one(node: Node) -> int:
    found = node.required().count() or 0
    if not found:
        raise node.fail("must be at least 1")
    return found


def _matrix(name: str, asked: Mapping[Key, set[int]]) -> dict[str, Any]:
    values = {axis: _sorted(key[n] for key in asked) for n, axis in enumerate(_AXES)}
    batches = _sorted(batch for found in asked.values() for batch in found)
    excluded = list(_excluded(asked, values, batches))
    return {
        "name": name,
        "analysis": f"What does the fleet give where InferenceX measures, by its {name}?",
        "models": values["model"],
        "engines": values["engine"],
        "hardware": values["hardware"],
        "parallel": {"tp": values["tp"]},
        "reference": values["recipe"][0],
        "recipes": values["recipe"],
        "load": {"batch": batches, "context": values["context"], "output": values["output"]},
        **({"exclude": excluded} if excluded else {}),
    }


def _excluded(asked: Mapping[Key, set[int]], values: Mapping[str, list[Any]], batches: list[int]) -> Iterator[Any]:
    """What the product of all values asks for and the list does not, by as few exclusions as its nesting gives."""

    def rule(key: tuple[Any, ...], **last: list[Any]) -> dict[str, Any]:
        """An axis of one value need not be named."""
        named = {axis: value for axis, value in zip(_AXES, key, strict=False) if len(values[axis]) > 1}
        return {**named, **last, "because": _BECAUSE}

    deployed = {key[:_DEPLOYMENT] for key in asked}
    for front in itertools.product(*(values[axis] for axis in _AXES[: _DEPLOYMENT - 1])):
        if missing := [gpu for gpu in values["hardware"] if (*front, gpu) not in deployed]:
            yield rule(front, hardware=missing)
    for whole in _sorted(deployed):
        degrees = {key[_DEPLOYMENT] for key in asked if key[:_DEPLOYMENT] == whole}
        if missing := [tp for tp in values["tp"] if tp not in degrees]:
            yield rule(whole, tp=missing)
        for tp, context, output in itertools.product(_sorted(degrees), values["context"], values["output"]):
            key = (*whole, tp, context, output)
            absent = [batch for batch in batches if batch not in asked.get(key, set())]
            if key not in asked:
                yield rule(key)
            elif absent:
                yield rule(key, batch=absent)


def _sorted(found: Iterable[Any]) -> list[Any]:
    return sorted(set(found))
