"""What pydantic cannot see in one field: names used twice, references, what is asked and not given.

The checks read the plain values leniently, so that they speak even where a field beside them is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic_core import ErrorDetails

from fleetbench.catalog import lookup
from fleetbench.matrix.document import Loc, show
from fleetbench.matrix.fields import spell_engine, spell_model
from fleetbench.matrix.form import FORMS

Found = tuple[Loc, str]

_AXES: tuple[Loc, ...] = (
    ("hardware",),
    ("load", "batch"),
    ("load", "rate"),
    ("load", "context"),
    ("load", "output"),
)
_NOUNS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text (put it in quotes)",
    "list_type": "a list",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dict_type": "a mapping",
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
    "string_too_long": ("text of at most", "max_length"),
}
_PLAIN = {
    "missing": "is missing (add it)",
    "too_short": "is empty (give at least one value)",
    "string_too_short": "is empty (give a value)",
    "finite_number": "must be a finite number",
}


def sentence(error: ErrorDetails) -> str:
    """One of pydantic's errors in our words: what is wrong, and what to do."""
    kind, given, context = error["type"], error["input"], error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(error["loc"])
    if kind in _NOUNS:
        return f"must be {_NOUNS[kind]}, not {show(given)}"
    if kind in _BOUNDS:
        word, limit = _BOUNDS[kind]
        return f"must be {word} {context[limit]}, not {show(given)}"
    if kind == "literal_error":
        return f"must be {context['expected']}, not {show(given)}"
    return _PLAIN.get(kind, error["msg"])


def _unknown_key(loc: Loc) -> str:
    words = tuple(step for step in loc[:-1] if isinstance(step, str))
    keys = tuple(FORMS[words].model_fields)
    near = lookup.nearest(str(loc[-1]), keys)
    return f"unknown key ({f'did you mean {near[0]}?' if near else 'known: ' + ', '.join(keys)})"


def nulls(tree: Any, loc: Loc = ()) -> Iterator[Found]:
    """Keys that are there and empty: a newcomer's commonest slip, and never a way to say `default`."""
    if tree is None and loc:
        yield loc, "is empty (give a value, or remove the key)"
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from nulls(value, (*loc, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from nulls(value, (*loc, index))


def cross(tree: dict[str, Any]) -> Iterator[Found]:
    """Every mistake between fields, in the order of the file format."""
    yield from _models(tree)
    for path in _AXES:
        value: Any = tree
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        yield from _twice(path, value, "value")
    yield from _engines(tree)
    yield from _parallel(tree)
    yield from _recipes(tree)
    yield from _load(tree)
    yield from _quality(tree)
    yield from _parity(tree)
    yield from _measures(tree)
    for index, entry in enumerate(_list(tree.get("exclude"))):
        if isinstance(entry, dict) and not entry.keys() - {"because"}:
            yield ("exclude", index), "names no axis, so it would exclude all (name one, such as hardware)"


def _models(tree: dict[str, Any]) -> Iterator[Found]:
    known = (*lookup.embedded_names(), *lookup.published_names())
    words = {*known, *lookup.aliases("models")}
    names: list[Any] = []
    for index, model in enumerate(_list(tree.get("models"))):
        entry = spell_model(model) if isinstance(model, str) else model
        name = entry.get("name") if isinstance(entry, dict) else None
        names.append(name)
        if isinstance(name, str) and not entry.keys() & {"path", "hub"} and not {name, name.casefold()} & words:
            near = lookup.nearest(name, words) or list(known)
            remedy = f"did you mean {' or '.join(near)}?" if len(near) <= 3 else f"known: {', '.join(near)}"  # noqa: PLR2004
            yield ("models", index, "name"), f"{show(name)} is no known model ({remedy}; your own needs a path or hub)"
        if isinstance(entry, dict) and entry.keys() >= {"path", "hub"}:
            yield ("models", index), "has both path and hub (keep one)"
        if isinstance(entry, dict) and entry.get("dummy") is True and "path" not in entry:
            yield ("models", index, "dummy"), "needs path (a folder with config.json and a tokenizer)"
        if isinstance(entry, dict) and "revision" in entry and "hub" not in entry:
            yield ("models", index, "revision"), "needs hub (a folder has no revisions)"
        if isinstance(entry, dict):
            yield from _twice(("models", index, "measure"), entry.get("measure"), "value")
    yield from _twice(("models",), names, "name")


def _engines(tree: dict[str, Any]) -> Iterator[Found]:
    labels: list[Any] = []
    for one in _list(tree.get("engines")):
        entry = spell_engine(one) if isinstance(one, str) else one
        labels.append(" ".join(map(str, entry.values())) if isinstance(entry, dict) else None)
    yield from _twice(("engines",), labels, "engine")


def _parallel(tree: dict[str, Any]) -> Iterator[Found]:
    for index, entry in enumerate(_list(tree.get("parallel"))):
        if isinstance(entry, dict):
            for degree in ("tp", "pp", "dp"):
                yield from _twice(("parallel", index, degree), entry.get(degree), "value")


def _recipes(tree: dict[str, Any]) -> Iterator[Found]:
    entries = _list(tree.get("recipes"))
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    yield from _twice(("recipes",), names, "name")
    reference = tree.get("reference")
    words = tuple(dict.fromkeys(name for name in names if isinstance(name, str)))
    named: list[tuple[Loc, Any]] = [(("reference",), reference)]
    for index, entry in enumerate(_list(tree.get("exclude"))):
        named += [
            (("exclude", index, "recipe"), name) for name in _list(isinstance(entry, dict) and entry.get("recipe"))
        ]
    for loc, name in named:
        if isinstance(name, str) and words and name not in words:
            near = lookup.nearest(name, words)
            remedy = f"did you mean {show(near[0])}?" if near else f"name one of: {', '.join(map(show, words[:20]))}"
            yield loc, f"{show(name)} is not among the recipes ({remedy})"


def _load(tree: dict[str, Any]) -> Iterator[Found]:
    load = tree.get("load")
    if not isinstance(load, dict):
        return
    if "batch" in load and "rate" in load:
        yield ("load",), "has both batch and rate (keep one: requests in flight, or requests per second)"
    elif "batch" not in load and "rate" not in load:
        yield ("load",), "has neither batch nor rate (add batch: requests in flight)"
    if "arrivals" in load and "rate" not in load:
        yield ("load", "arrivals"), "needs rate (a batch is held constant and has no arrivals)"


def _quality(tree: dict[str, Any]) -> Iterator[Found]:
    quality = tree.get("quality")
    if not isinstance(quality, dict):
        return
    suite, items = quality.get("suite"), quality.get("items")
    info = lookup.suite_info(suite) if isinstance(suite, str) else None
    if info and isinstance(items, int) and items > info.max_items:
        why = f"must be at most {info.max_items}, all that suite {info.name} has of a category, not {show(items)}"
        yield ("quality", "items"), why


def _parity(tree: dict[str, Any]) -> Iterator[Found]:
    parity, quality = tree.get("parity"), tree.get("quality")
    if not isinstance(parity, dict):
        return
    if not isinstance(quality, dict):
        yield ("parity",), "judges quality, and the matrix asks for none (add quality: {suite: ...})"
        return
    suite = quality.get("suite")
    info = lookup.suite_info(suite) if isinstance(suite, str) else None
    if info is None:
        return
    margins = parity.get("margins")
    named = [("margins", name) for name in (margins if isinstance(margins, dict) else ())]
    named += [("workload", name) for name in _list(parity.get("workload"))]
    for key, name in named:
        if isinstance(name, str) and name not in info.categories:
            known = ", ".join(info.categories)
            yield ("parity", key), f"names {show(name)}, no category of suite {info.name} (it has {known})"


def _measures(tree: dict[str, Any]) -> Iterator[Found]:
    asked = {"speed": "load", "quality": "quality"}
    if not any(key in tree for key in asked.values()):
        yield (), "asks for nothing (add load for speed, or quality)"
    models = _list(tree.get("models"))
    measured: set[str] = set()
    for index, model in enumerate(models):
        measure = model.get("measure") if isinstance(model, dict) else None
        words = [word for word in _list(measure) if isinstance(word, str) and word in asked]
        measured |= set(words) if measure is not None else set(asked)
        for word in dict.fromkeys(words):
            if asked[word] not in tree:
                yield ("models", index, "measure"), f"asks for {word}, but the matrix has no {asked[word]} (add it)"
    for word, key in asked.items():
        if key in tree and models and word not in measured:
            yield (key,), f"no model measures {word} (add {word} to a model's measure, or remove {key})"


def _twice(loc: Loc, values: Any, what: str) -> Iterator[Found]:
    seen: set[str] = set()
    if not isinstance(values, list):
        return
    for index, value in enumerate(values):
        if value is None:
            continue
        key = f"{float(value)}" if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
        if key in seen:
            yield (*loc, index), f"the {what} {show(value)} stands twice (keep one)"
        seen.add(key)


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
