"""Values of options: text that a function turns into what it means, with a sentence where it means nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import click

_MOST = 9e6
_DEPTH_MAX = 100


class Parsed(click.ParamType[Any]):
    """Text that a function turns into a value; its ValueError is what the user sees."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def lengths(text: str) -> Any:
    from fleetbench_collectors.load import lengths as known

    return known.parse(text)


def stages(text: str) -> Any:
    from fleetbench_collectors.load import arrivals

    return arrivals.parse_stages(text)


def ramp(text: str) -> Any:
    from fleetbench_collectors.load import arrivals

    return arrivals.parse_ramp(text)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def positive(text: str) -> float:
    value = _number(text)
    if not 0 < value <= _MOST:
        raise ValueError(f"{text} is not a number above 0 and up to {_MOST:g}")
    return value


def name(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not UTF-8") from None
    return text


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError(f"a header is 'NAME: VALUE', not {text!r}")
    return name.strip(), value.strip()


def body(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{text!r} is no JSON: {error}") from error
    if _depth(value) > _DEPTH_MAX:
        raise ValueError(f"it is nested more than {_DEPTH_MAX} deep")
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object is needed, not {text!r}")  # noqa: TRY004 - of an option's text
    return value


def _depth(value: Any) -> int:
    """How deep JSON is nested; level by level, for a recursion has its limit."""
    depth, level = 0, [value]
    while level := [inner for outer in level for inner in _inner(outer)]:
        depth += 1
    return depth


def _inner(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def burstiness(text: str) -> float:
    from fleetbench_collectors.load.arrivals import BURSTINESS_MAX, BURSTINESS_MIN

    value = _number(text)
    if not BURSTINESS_MIN <= value <= BURSTINESS_MAX:
        raise ValueError(f"{text} is not from {BURSTINESS_MIN:g} to {BURSTINESS_MAX:g}")
    return value
