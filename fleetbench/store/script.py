"""The warehouse for DuckDB's own command line: a script that makes the same views of the same files, without Python."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import duckdb

from fleetbench import resources
from fleetbench.store.connection import SETTINGS, connect
from fleetbench.store.landed import File, columns, scans, survey
from fleetbench.store.schema import SCHEMAS, VERSION
from fleetbench.store.views import create, definitions, macros, ordered

_PYTHON = "python_"


def script(root: Path) -> str:
    """SQL for `duckdb -init`: as the warehouse is now; what lands later is not in it.

    Raises:
        InputError: there is no such folder, or a later fleetbench wrote to it.
    """
    with connect(root) as connection:
        return "".join(f"{statement.rstrip().rstrip(';')};\n" for statement in _statements(root.resolve(), connection))


def _statements(root: Path, connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    yield from (setting for setting in SETTINGS if _PYTHON not in setting)
    yield "CREATE SCHEMA landed"
    found = survey(root)
    for table in SCHEMAS:
        types = connection.execute(f"DESCRIBE landed.{table}_rows").fetchall()
        named = ", ".join(f'"{row[0]}" {row[1]}' for row in types)
        yield f"CREATE TABLE landed.{table}_rows ({named})"
        yield from _landed(table, [file for file in (*found.read, *found.files) if file.table == table])
    for table in ("quarantined", "prices"):
        yield from _copied(connection, table)
    yield from macros().values()
    for name, sql in ordered(definitions()):
        yield create(name, sql)


def _landed(table: str, files: list[File]) -> Iterator[str]:
    """The view landed.<table>; files of an older version by way of the SQL that makes today's rows of them."""
    union = "".join(scans([file for file in files if file.version == VERSION]))
    for version in sorted({file.version for file in files} - {VERSION}):
        older = "".join(scans([file for file in files if file.version == version]))
        yield f"CREATE VIEW landed.{table}_v{version} AS {older.removeprefix(' UNION ALL BY NAME ')}"
        sql = resources.root("warehouse") / "staging" / f"v{version}" / f"{table}.sql"
        union += f" UNION ALL BY NAME ({sql.read_text(encoding='utf-8')})"
    yield f"CREATE VIEW landed.{table} AS SELECT {columns(table)} FROM (SELECT * FROM landed.{table}_rows{union})"  # noqa: S608


def _copied(connection: duckdb.DuckDBPyConnection, table: str) -> Iterator[str]:
    """A table that is no file's, with its rows as text."""
    types = connection.execute(f"DESCRIBE {table}").fetchall()
    yield f"CREATE TABLE {table} ({', '.join(f'{row[0]} {row[1]}' for row in types)})"
    for row in connection.execute(f"SELECT * FROM {table}").fetchall():  # noqa: S608 - our own names
        yield f"INSERT INTO {table} VALUES ({', '.join(_value(value) for value in row)})"  # noqa: S608 - escaped


def _value(value: object) -> str:
    if value is None:
        return "NULL"
    return str(value) if isinstance(value, int | float) else "'" + str(value).replace("'", "''") + "'"
