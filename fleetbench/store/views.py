"""What readers see of a warehouse: DuckDB views over the files that are whole, each a file of SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from graphlib import TopologicalSorter

from fleetbench import resources

FOLDERS = ("staging", "intermediate", "marts", "checks")
CHECK = "check_"
ONCE = (
    *("runs", "trials", "failed_attempts", "cell_trials", "recipe_verdicts", "cells", "speed_cells", "latest_cells"),
    *("cmp_recipe", "pareto", "scaling"),
)
"""Worked out at once, into tables: nearly every view reads them, and each would anew. They read small tables alone."""


def create(name: str, sql: str) -> str:
    """The statement that makes a view, or a table of one that nearly all others read."""
    return f'CREATE {"TABLE" if name in ONCE else "VIEW"} "{name}" AS {sql}'


def definitions() -> dict[str, str]:
    """The SQL of every view, by name."""
    root = resources.root("warehouse")
    return {
        (CHECK if folder == "checks" else "") + path.stem: path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in sorted((root / folder).glob("*.sql"))
    }


def macros() -> dict[str, str]:
    """The SQL that makes every macro, by name: before the views, which use them."""
    folder = resources.root("warehouse") / "macros"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}


def ordered(views: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Views after those that they read.

    Raises:
        graphlib.CycleError: two views read each other.
    """
    for name in TopologicalSorter(reads(views)).static_order():
        yield name, views[name]


def reads(views: Mapping[str, str]) -> dict[str, set[str]]:
    """Which of these views each of them reads, itself left out."""
    return {name: _sources(sql) & views.keys() - {name} for name, sql in views.items()}


def _sources(sql: str) -> set[str]:
    bare = re.sub(r"--[^\n]*", "", sql)
    return set(re.findall(r"\b(?:FROM|JOIN)\s+([a-z_]+)\b(?!\.)", bare))
