"""How the rows of a report are named and ordered: recipes by their place, panels by what tells them apart."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fleetbench.report.result import Row
from fleetbench.report.speed import model_name

BREAK = "\n"
"""Between the lines of a panel's heading; the names in it have none."""
_LINE = 44
"""Characters of such a line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A column that can tell panels apart; suffix: after its value, for a number that needs words."""

    name: str
    suffix: str = ""


def engine_name(row: Mapping[str, object]) -> str:
    """The engine with the version that was found, where one was."""
    return f"{row['engine']} {row['engine_version']}" if row.get("engine_version") else str(row["engine"])


def with_names(rows: Iterable[Row]) -> list[Row]:
    """Rows whose model and engine are named as the filters have them: with random weights, degrees and version."""
    return [
        {
            **row,
            "model": model_name({"tp": 1, "pp": 1, "dp": 1, "random_weights": False, **row}),
            "engine": engine_name(row),
        }
        for row in rows
    ]


def recipe_order(*tables: Iterable[Row]) -> dict[str, int]:
    """Recipes by number: references first, then as the matrices have them, then by name."""
    keys: dict[str, tuple[object, ...]] = {}
    for row in (row for rows in tables for row in rows):
        place = row.get("place")
        key = (not row.get("reference"), place if isinstance(place, int) else math.inf)
        name = str(row["recipe"])
        keys[name] = min(keys.get(name, key), key)
    return {name: number for number, name in enumerate(sorted(keys, key=lambda name: (*keys[name], name)))}


def with_panels(rows: Sequence[Row], first: Part, others: Sequence[Part], *, column: str) -> list[Row]:
    """Rows with a panel's heading in `column` and its number in `column`_at, those with the most rows first.

    A heading has the first part, below it the first of the others, and of the rest those that tell panels apart.
    """
    named = [first, *others[:1]]
    for part in others[1:]:
        if _panels(rows, [*named, part]) > _panels(rows, named):
            named.append(part)
    headings = [_heading(row, named) for row in rows]
    numbers = {heading: number for number, (heading, _) in enumerate(Counter(headings).most_common())}
    return [
        {**row, column: heading, f"{column}_at": numbers[heading]} for row, heading in zip(rows, headings, strict=True)
    ]


def _panels(rows: Sequence[Row], parts: Sequence[Part]) -> int:
    return len({tuple(str(row[part.name]) for part in parts) for row in rows})


def _heading(row: Row, parts: Sequence[Part]) -> str:
    rest = ", ".join(_said(row, part) for part in parts[1:] if row[part.name] is not None)
    return BREAK.join((_said(row, parts[0]), *textwrap.wrap(rest, _LINE)))


def _said(row: Row, part: Part) -> str:
    value = row[part.name]
    text = f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()) + part.suffix
