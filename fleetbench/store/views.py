"""The warehouse as readers see it: DuckDB views over the files that are whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import duckdb
import pyarrow as pa

from fleetbench import resources
from fleetbench.errors import InputError
from fleetbench.store.parquet import inspect
from fleetbench.store.schema import SCHEMAS

FOLDERS = ("staging", "intermediate", "marts", "checks")
CHECK = "check_"
SMALL = ("runs", "launches", "trials", "refusals", "host")
_SETTINGS = (
    "SET autoinstall_known_extensions = false",  # a query fetches nothing from the network
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",  # a misspelt table is an error, not some Python variable
    "SET TimeZone = 'UTC'",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is in the landing folders: files by table, and what is left out, with why."""

    exact: Mapping[str, tuple[Path, ...]]
    other: Mapping[str, tuple[Path, ...]]
    """Of an older or newer writer: they lack columns, or have more."""
    quarantined: tuple[tuple[str, Path, str], ...]


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory database with every view over the warehouse as it is now; tables may be empty.

    Raises:
        InputError: there is no such folder.
    """
    if not root.is_dir():
        raise InputError((f"there is no warehouse at {root}: submit a matrix first, or give --warehouse DIR",))
    files = survey(root)
    connection = duckdb.connect(":memory:")
    for setting in _SETTINGS:
        connection.execute(setting)
    connection.execute("CREATE SCHEMA landed")
    for table, schema in SCHEMAS.items():
        _land(connection, table, schema, files)
    _quarantine(connection, files)
    for name, sql in ordered(definitions()):
        connection.execute(f'CREATE VIEW "{name}" AS {sql}')
    return connection


def survey(root: Path) -> Files:
    """Look at every file's footer: 20,000 of them take about a second."""
    kept: dict[bool, dict[str, tuple[Path, ...]]] = {True: {}, False: {}}
    quarantined: list[tuple[str, Path, str]] = []
    for table in SCHEMAS:
        footers = {path: inspect(path, table) for path in sorted((root / "landing" / table).glob("*/*.parquet"))}
        quarantined += [(table, path, footer.why_not) for path, footer in footers.items() if footer.why_not]
        for exact, files in kept.items():
            files[table] = tuple(
                path for path, footer in footers.items() if footer.why_not is None and footer.exact is exact
            )
    return Files(exact=kept[True], other=kept[False], quarantined=tuple(quarantined))


def definitions() -> dict[str, str]:
    """The SQL of every view, by name."""
    root = resources.root("warehouse")
    return {
        (CHECK if folder == "checks" else "") + path.stem: path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in sorted((root / folder).glob("*.sql"))
    }


def ordered(views: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Views after those that they read.

    Raises:
        graphlib.CycleError: two views read each other.
    """
    reads = {name: _sources(sql) & views.keys() - {name} for name, sql in views.items()}
    for name in TopologicalSorter(reads).static_order():
        yield name, views[name]


def failed_checks(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """The checks that found something, with how many rows."""
    found = {}
    for name in sorted(view for view in definitions() if view.startswith(CHECK)):
        ((rows,),) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchall()  # noqa: S608 - our own names
        if rows:
            found[name.removeprefix(CHECK)] = int(rows)
    return found


def _sources(sql: str) -> set[str]:
    bare = re.sub(r"--[^\n]*", "", sql)
    return set(re.findall(r"\b(?:FROM|JOIN)\s+([a-z_]+)\b(?!\.)", bare))


def _land(connection: duckdb.DuckDBPyConnection, table: str, schema: pa.Schema, files: Files) -> None:
    """landed.<table>: the rows of all files under the types of the schema, also where there is no file.

    What is one row a trial or less is read now: a view over a view opens its files anew for each that binds it.
    """
    connection.register("typed", schema.empty_table())
    connection.execute(f"CREATE TABLE landed.{table}_typed AS SELECT * FROM typed")  # noqa: S608 - our own names
    connection.unregister("typed")
    columns = ", ".join(_column(field) for field in schema)
    rows = f"SELECT * FROM landed.{table}_typed"  # noqa: S608 - our own names
    for paths, option in ((files.exact[table], ""), (files.other[table], ", union_by_name = true")):
        if paths:
            names = ", ".join(_literal(path) for path in paths)
            rows += f" UNION ALL BY NAME SELECT * FROM read_parquet([{names}]{option})"  # noqa: S608 - escaped
    kind = "TABLE" if table in SMALL else "VIEW"
    connection.execute(f"CREATE {kind} landed.{table} AS SELECT {columns} FROM ({rows})")  # noqa: S608 - our own names


def _quarantine(connection: duckdb.DuckDBPyConnection, files: Files) -> None:
    connection.execute("CREATE TABLE quarantined (table_name VARCHAR, path VARCHAR, reason VARCHAR)")
    if files.quarantined:
        rows = [(table, str(path), why) for table, path, why in files.quarantined]
        connection.executemany("INSERT INTO quarantined VALUES (?, ?, ?)", rows)


def _column(field: pa.Field) -> str:
    """Times leave as UTC without a zone: with one, DuckDB's Python side would need pytz."""
    if pa.types.is_timestamp(field.type):
        return f'"{field.name}" AT TIME ZONE \'UTC\' AS "{field.name}"'
    return f'"{field.name}"'


def _literal(path: Path) -> str:
    """A file's name as SQL text, no character of it a pattern."""
    escaped = re.sub(r"([\[*?])", r"[\1]", str(path)).replace("'", "''")
    return f"'{escaped}'"
