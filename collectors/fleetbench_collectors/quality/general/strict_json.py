"""JSON compared as trees, by type: 1 is not 1.0 in a text field, nor true, and a repeated key is no object."""

from __future__ import annotations

import json
from typing import Any


def parse(text: str) -> Any:
    """The value.

    Raises:
        ValueError: no JSON, NaN or Infinity, or a key that comes twice.
    """
    return json.loads(text, object_pairs_hook=_once, parse_constant=_refuse)


def same(a: Any, b: Any) -> bool:
    """Keys in any order, lists in theirs; numbers by value, never a bool for a number."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return type(a) is type(b) and bool(a == b)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a key comes twice")
    return out


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
