"""An object by a JSON Schema, generated freely: it must be valid and hold the values that the text gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

from fleetbench_collectors.quality.general import strict_json, words
from fleetbench_collectors.quality.general.item import Item, Reply, distinct, make, stream

CATEGORY = "json_schema"
_PLACE = {"type": "string"}
_PERSON = {"name": {"type": "string"}, "age": {"type": "integer"}, "member": {"type": "boolean"}}
_LINE = {"goods": {"type": "string"}, "count": {"type": "integer"}}


def items(n: int, seed: int) -> Iterator[Item]:
    rng = stream(seed, CATEGORY)
    return distinct(n, lambda i: (_flat, _nested)[i % 2](rng))


def is_correct(item: Item, reply: Reply) -> bool:
    """The whole reply is the object, equal as a tree: the schema leaves no other. A code fence is wrong."""
    try:
        return strict_json.same(strict_json.parse(reply.text), item.want)
    except (ValueError, RecursionError):
        return False


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _flat(rng: Random) -> Item:
    name, age, member = rng.choice(words.NAMES), rng.randint(18, 90), rng.choice((True, False))
    said = "is a member" if member else "is not a member"
    return _item("easy", f"{name} is {age} years old and {said}.", _object(_PERSON), _person(name, age, member=member))


def _nested(rng: Random) -> Item:
    name, age, place = rng.choice(words.NAMES), rng.randint(18, 90), rng.choice(words.PLACES)
    lines = [{"goods": goods, "count": rng.randint(2, 99)} for goods in rng.sample(words.THINGS, 3)]
    list_of = {"type": "array", "items": _object(_LINE)}
    schema = _object({"person": _object(_PERSON), "lines": list_of, "place": _PLACE, "note": {"type": "null"}})
    ordered = ", ".join(f"{line['count']} {line['goods']}" for line in lines)
    text = f"{name}, a member of {age} years, ordered, in this order: {ordered}. Place: {place}. There is no note."
    want = {"person": _person(name, age, member=True), "lines": lines, "place": place, "note": None}
    return _item("hard", text, schema, want)


def _person(name: str, age: int, *, member: bool) -> dict[str, Any]:
    return {"name": name, "age": age, "member": member}


def _item(stratum: str, text: str, schema: dict[str, Any], want: dict[str, Any]) -> Item:
    prompt = (
        f"{text}\nWrite this as one JSON object that is valid by the schema {json.dumps(schema)}\n"
        "Answer with the JSON alone: no code fence, no words."
    )
    return make(CATEGORY, stratum, prompt, want, json.dumps(want), max_tokens=256)
