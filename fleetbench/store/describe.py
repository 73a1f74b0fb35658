"""What the views and their columns are: from the tables' own metadata, the SQL's headers and warehouse/columns.yaml."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

import duckdb
import yaml

from fleetbench import resources
from fleetbench.errors import InputError
from fleetbench.store.schema import SCHEMAS
from fleetbench.store.views import definitions

OTHER = "other_"
BESIDE = {
    "prices": "What a device costs an hour, by hardware; NULL where no price is known.",
    "quarantined": "A file that is left out, with the reason.",
}
"""Tables that no SQL of ours makes."""
_BESIDE_COLUMNS = {
    "prices": {"hardware": "kind of device", "source": "whose price it is", "date": "the day that it is of"},
    "quarantined": {"table_name": "table that it lies in", "path": "the file", "reason": "why it cannot be read"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A view's name, the folder that it is in, and what a row of it is."""

    name: str
    folder: str
    row: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; unit and doc are empty where nobody says them."""

    name: str
    type: str
    unit: str
    doc: str


def views() -> list[View]:
    """Every view that is asked for its rows, the marts first; checks are left out."""
    root = resources.root("warehouse")
    found = [
        View(name=path.stem, folder=folder, row=_row(path.read_text(encoding="utf-8")))
        for folder in ("marts", "intermediate", "staging")
        for path in sorted((root / folder).glob("*.sql"))
    ]
    return [*found, *(View(name=name, folder="facts", row=row) for name, row in BESIDE.items())]


def columns(connection: duckdb.DuckDBPyConnection, view: str) -> list[Column]:
    """The columns of a view, in their order.

    Raises:
        InputError: there is no such view, and which are near.
    """
    known = {*definitions(), *BESIDE}
    if view not in known:
        raise InputError((f"there is no view {view!r}{_near(view, known)}: `fleetbench sql --describe` lists them",))
    found = connection.execute(f'DESCRIBE "{view}"').fetchall()
    return [
        Column(name=str(row[0]), type=str(row[1]), unit=unit, doc=doc)
        for row in found
        for unit, doc in (said(view, str(row[0])),)
    ]


def said(view: str, column: str) -> tuple[str, str]:
    """Unit and meaning of a column; empty where nobody says them."""
    if doc := _BESIDE_COLUMNS.get(view, {}).get(column):
        return "", doc
    listed = _listed()
    if found := listed.get(f"{view}.{column}") or _of_table(view, column) or listed.get(column) or _of_any(column):
        return found
    if column.startswith(OTHER):
        unit, doc = said(view, column.removeprefix(OTHER))
        return (unit, f"of the other one: {doc}") if doc else ("", "")
    return "", ""


@cache
def _listed() -> dict[str, tuple[str, str]]:
    path = resources.root("warehouse") / "columns.yaml"
    listed: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = {name: text.partition("|") for name, text in listed.items()}
    return {name: (unit.strip(), doc.strip()) for name, (unit, _, doc) in parts.items()}


def _of_table(table: str, column: str) -> tuple[str, str] | None:
    """What a table says of its own column."""
    schema = SCHEMAS.get({"runs_all": "runs", "attempts": "trials", "trial_sketches": "trials"}.get(table, table))
    if schema is None or schema.get_field_index(column) < 0:
        return None
    metadata = schema.field(column).metadata
    unit, doc = metadata[b"unit"].decode(), metadata[b"doc"].decode()
    return (unit, doc) if doc else None


def _of_any(column: str) -> tuple[str, str] | None:
    first = ("trials", "runs", *SCHEMAS)
    return next((found for table in first if (found := _of_table(table, column))), None)


def _row(sql: str) -> str:
    """The sentence after `-- Row:`, over as many lines as it takes."""
    header = re.match(r"-- Row: (.*?)\n-- (?:Key|Units):", sql, flags=re.DOTALL)
    return re.sub(r"\n-- ?", " ", header[1]).strip() if header else ""


def _near(name: str, known: set[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for a mistake alone

    found = get_close_matches(name, known, n=3)
    return f", did you mean {' or '.join(found)}?" if found else ""
