"""The foreign files of the tests, and rows out of a warehouse whatever its layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fleetbench.store.commit import Warehouse
from fleetbench.store.foreign.record import Reader, Record

DATA = Path(__file__).parent / "data"


def records(reader: Reader, path: Path) -> list[Record]:
    return list(reader.read(path))


def only(reader: Reader, path: Path) -> Record:
    (record,) = records(reader, path)
    return record


def document(name: str) -> dict[str, Any]:
    found = json.loads((DATA / name).read_text(encoding="utf-8"))
    assert isinstance(found, dict)
    return found


def written(folder: Path, found: object, name: str = "result.json") -> Path:
    path = folder / name
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    return path


def changed(folder: Path, name: str, changes: dict[str, Any]) -> Path:
    """A file of the tests with other values; `...` takes a key out."""
    found = document(name) | changes
    return written(folder, {key: value for key, value in found.items() if value is not ...})


def warehouse(folder: Path) -> Warehouse:
    made = Warehouse(folder / "warehouse")
    made.create()
    return made


def rows(made: Warehouse, table: str) -> list[dict[str, Any]]:
    """Every row of a table that is in the warehouse."""
    files = sorted(path for path in made.root.rglob("*.parquet") if table in path.parts)
    return [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]
