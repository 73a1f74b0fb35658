"""Tool calls: the right function among several with the right arguments, two at once, or none at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from fleetbench_collectors.quality.general import strict_json, words
from fleetbench_collectors.quality.general.item import Item, Reply, distinct, make, stream

CATEGORY = "tool_call"
STRATA = ("easy/one", "hard/two", "hard/irrelevant")
_MAX_TOKENS = 256
_UNITS = ("celsius", "fahrenheit")


def items(n: int, seed: int) -> Iterator[Item]:
    rng = stream(seed, CATEGORY)
    return distinct(n, lambda i: _draw(rng, STRATA[i % len(STRATA)]))


def is_correct(item: Item, reply: Reply) -> bool:
    """The same calls in any order, arguments as trees; where none is right, any call is wrong and silence too."""
    if not item.want:
        return not reply.calls and bool(reply.text.strip())
    try:
        made = [(name, strict_json.parse(arguments)) for name, arguments in reply.calls]
    except ValueError:
        return False
    for name, arguments in item.want:
        found = next((call for call in made if call[0] == name and strict_json.same(call[1], arguments)), None)
        if found is None:
            return False
        made.remove(found)
    return not made


def _tool(name: str, about: str, properties: dict[str, Any]) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}


_TOOLS = {
    "read_thermometer": _tool(
        "read_thermometer",
        "Reads the thermometer of a place",
        {"place": {"type": "string"}, "unit": {"type": "string", "enum": list(_UNITS)}},
    ),
    "order_goods": _tool(
        "order_goods",
        "Orders goods for a person",
        {"person": {"type": "string"}, "goods": {"type": "string"}, "count": {"type": "integer"}},
    ),
    "set_lamp": _tool(
        "set_lamp",
        "Switches the lamp of a place and sets its brightness",
        {"place": {"type": "string"}, "on": {"type": "boolean"}, "percent": {"type": "integer"}},
    ),
}


def _asked(rng: Random, name: str) -> tuple[str, dict[str, Any]]:
    place = rng.choice(words.PLACES)
    if name == "read_thermometer":
        unit = rng.choice(_UNITS)
        return f"read the thermometer of the place '{place}' in {unit}", {"place": place, "unit": unit}
    if name == "order_goods":
        person, goods, count = rng.choice(words.NAMES), rng.choice(words.THINGS), rng.randint(2, 400)
        return f"order {count} {goods} for {person}", {"person": person, "goods": goods, "count": count}
    percent = rng.randint(1, 100)
    return (
        f"switch the lamp of the place '{place}' on at {percent} percent",
        {"place": place, "on": True, "percent": percent},
    )


def _draw(rng: Random, stratum: str) -> Item:
    names = rng.sample(sorted(_TOOLS), 3)
    if stratum == "hard/irrelevant":
        return _irrelevant(rng, names[0])
    made = [(name, *_asked(rng, name)) for name in names[: 1 if stratum == "easy/one" else 2]]
    prompt = f"Please {' and '.join(text for _, text, _ in made)}."
    want = [[name, arguments] for name, _, arguments in made]
    tools = tuple(_TOOLS[name] for name in names)
    return make(CATEGORY, stratum, prompt, want, json.dumps(want), max_tokens=_MAX_TOKENS, tools=tools)


def _irrelevant(rng: Random, offered: str) -> Item:
    """A question that the one function offered cannot help with."""
    a, b = rng.sample(words.COLOURS, 2)
    name = rng.choice(words.NAMES)
    prompt = f"{name} wrote the words {a} and {b}. Which of the two comes first in the alphabet?"
    want: list[Any] = []
    return make(CATEGORY, "hard/irrelevant", prompt, want, "[]", max_tokens=_MAX_TOKENS, tools=(_TOOLS[offered],))
