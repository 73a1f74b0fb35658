"""The rows of the landing folders inside DuckDB: those of the files that are whole."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from fleetbench.store.parquet import inspect, read_whole
from fleetbench.store.schema import SCHEMAS

SMALL = ("runs", "launches", "trials", "refusals", "host")
"""One row a trial or less: read whole at once, for a view over a view opens its files anew for each that binds it."""

_MISTAKES = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.InterruptException)


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """What is in the landing folders: rows of small tables, files of large ones, and what is left out, with why."""

    rows: Mapping[str, pa.Table]
    exact: Mapping[str, tuple[Path, ...]]
    other: Mapping[str, tuple[Path, ...]]
    """Of an older or newer writer: they lack columns, or have more."""
    quarantined: tuple[tuple[str, Path, str], ...]


def survey(root: Path) -> Files:
    """Read every file of the small tables, and the footers of the others: 20,000 take some seconds."""
    rows: dict[str, pa.Table] = {}
    kept: dict[bool, dict[str, tuple[Path, ...]]] = {True: {}, False: {}}
    quarantined: list[tuple[str, Path, str]] = []
    for table, schema in SCHEMAS.items():
        paths = sorted((root / "landing" / table).glob("*/*.parquet"))
        if table in SMALL:
            parts = [schema.empty_table()]
            for path in paths:
                try:
                    parts.append(read_whole(path, table))
                except ValueError as error:
                    quarantined.append((table, path, str(error)))
            rows[table] = pa.concat_tables(parts).combine_chunks()
            continue
        footers = {path: inspect(path, table) for path in paths}
        quarantined += [(table, path, footer.why_not) for path, footer in footers.items() if footer.why_not]
        for exact, files in kept.items():
            files[table] = tuple(
                path for path, footer in footers.items() if footer.why_not is None and footer.exact is exact
            )
    return Files(rows=rows, exact=kept[True], other=kept[False], quarantined=tuple(quarantined))


def land(connection: duckdb.DuckDBPyConnection, files: Files) -> None:
    """landed.<table> for every table, under the types of its schema, also where there is no file; and `quarantined`."""
    connection.execute("CREATE SCHEMA landed")
    connection.execute("CREATE TABLE landed.files (table_name VARCHAR, path VARCHAR, exact BOOLEAN)")
    connection.execute("CREATE TABLE quarantined (table_name VARCHAR, path VARCHAR, reason VARCHAR)")
    for table, rows in files.rows.items():
        connection.register("arrow_rows", rows)
        connection.execute(f"CREATE TABLE landed.{table} AS SELECT {_columns(table)} FROM arrow_rows")  # noqa: S608 - our own names
        connection.unregister("arrow_rows")
    for exact, by_table in ((True, files.exact), (False, files.other)):
        _insert(
            connection, "landed.files", [(table, str(p), exact) for table, paths in by_table.items() for p in paths]
        )
    _insert(connection, "quarantined", [(table, str(path), why) for table, path, why in files.quarantined])
    for table in files.exact:
        _type(connection, table)
        try:
            _show(connection, table)
        except duckdb.Error as error:
            if not mend(connection, error):
                raise


def mend(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> bool:
    """After `error`: quarantine the files of large tables that cannot be read whole.

    Returns:
        False where there is none: the statement would fail again.
    """
    if isinstance(error, _MISTAKES):
        return False
    found = connection.execute("SELECT table_name, path FROM landed.files ORDER BY ALL").fetchall()
    damaged = [(table, path, why) for table, path in found if (why := _damage(table, Path(path)))]
    for table, path, _ in damaged:
        connection.execute("DELETE FROM landed.files WHERE table_name = ? AND path = ?", [table, path])
    _insert(connection, "quarantined", damaged)
    for table in {table for table, _, _ in damaged}:
        _type(connection, table)
        _show(connection, table)
    return bool(damaged)


def _damage(table: str, path: Path) -> str | None:
    """Why a file cannot be read, by either reader: one may stumble over what the other passes over."""
    try:
        read_whole(path, table)
        with duckdb.connect(":memory:") as probe:  # its own: an internal error of DuckDB ends the whole database
            probe.execute("CREATE SCHEMA landed")
            _type(probe, table)
            probe.execute(f"SELECT max(hash(t)) FROM ({_union(table, [([path], '')])}) AS t").fetchall()  # noqa: S608 - escaped
    except (ValueError, duckdb.Error) as error:
        return str(error).splitlines()[0]
    return None


def _type(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    connection.register("arrow_rows", SCHEMAS[table].empty_table())
    connection.execute(f"CREATE OR REPLACE TABLE landed.{table}_typed AS SELECT * FROM arrow_rows")  # noqa: S608 - our own names
    connection.unregister("arrow_rows")


def _show(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    sources = []
    for exact, option in ((True, ""), (False, ", union_by_name = true")):
        found = connection.execute(
            "SELECT path FROM landed.files WHERE table_name = ? AND exact = ? ORDER BY path", [table, exact]
        )
        sources.append(([Path(path) for (path,) in found.fetchall()], option))
    connection.execute(
        f"CREATE OR REPLACE VIEW landed.{table} AS SELECT {_columns(table)} FROM ({_union(table, sources)})"  # noqa: S608 - escaped
    )


def _union(table: str, sources: list[tuple[list[Path], str]]) -> str:
    rows = f"SELECT * FROM landed.{table}_typed"  # noqa: S608 - our own names
    for paths, option in sources:
        if paths:
            names = ", ".join(_literal(path) for path in paths)
            rows += f" UNION ALL BY NAME SELECT * FROM read_parquet([{names}]{option})"  # noqa: S608 - escaped
    return rows


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[str, str, str | bool]]) -> None:
    if rows:
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608 - our own names


def _columns(table: str) -> str:
    return ", ".join(_column(field) for field in SCHEMAS[table])


def _column(field: pa.Field) -> str:
    """Times leave as UTC without a zone: with one, DuckDB's Python side would need pytz."""
    if pa.types.is_timestamp(field.type):
        return f'"{field.name}" AT TIME ZONE \'UTC\' AS "{field.name}"'
    return f'"{field.name}"'


def _literal(path: Path) -> str:
    """A file's name as SQL text, no character of it a pattern."""
    escaped = re.sub(r"([\[*?])", r"[\1]", str(path)).replace("'", "''")
    return f"'{escaped}'"
