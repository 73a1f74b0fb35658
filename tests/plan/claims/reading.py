"""What a claim can mean, as a sum that a person can follow, and the rule that judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["confirmed", "refuted", "underspecified"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One of them: what it takes for granted, the sum in numbers, and what that comes to in the metric's unit."""

    assumed: str
    sum: str
    value: float

    def __str__(self) -> str:
        return f"{self.assumed}: {self.sum} = {self.value:.6g}"


def holds(value: float, expected: Mapping[str, object]) -> bool:
    """Whether a value is what a claim expects.

    Raises:
        ValueError: an operator that no claim has.
    """
    numbers = {name: float(given) for name, given in expected.items() if isinstance(given, int | float)}
    match expected["op"]:
        case "about":
            return abs(value - numbers["value"]) <= numbers["tolerance"] * numbers["value"]
        case "between":
            return numbers["low"] <= value <= numbers["high"]
        case "at_most":
            return value <= numbers["value"]
        case "at_least":
            return value >= numbers["value"]
    raise ValueError(f"no such operator: {expected['op']}")


def judged(readings: Sequence[Reading], expected: Mapping[str, object]) -> Verdict:
    """Confirmed where every reading holds, refuted where none does, underspecified where they differ."""
    held = [holds(reading.value, expected) for reading in readings]
    if all(held):
        return "confirmed"
    return "underspecified" if any(held) else "refuted"


def shown(readings: Sequence[Reading], expected: Mapping[str, object]) -> str:
    """Every sum on a line of its own, under what was expected."""
    marks = ("in " if holds(reading.value, expected) else "out" for reading in readings)
    return "\n".join(
        [f"expected {dict(expected)}", *(f"  {mark} {reading}" for mark, reading in zip(marks, readings, strict=True))]
    )
