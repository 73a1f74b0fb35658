"""The rows of a warehouse's files inside DuckDB: those of the files that are whole, each row once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from fleetbench.store import layout, versions
from fleetbench.store.manifest import Compacted, latest
from fleetbench.store.parquet import Footer, check, inspect, read_all
from fleetbench.store.schema import SCHEMAS, VERSION

SMALL = ("runs", "launches", "trials", "refusals", "host", "artifacts", "verdicts")
"""One row a trial or less. Landed files are read whole at once, for a view over a view opens its files anew for each
that binds it; compacted ones are held against their hash."""

_MISTAKES = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.InterruptException)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that counts. exact: its columns are just the table's; else it lacks some that may be NULL, or has more."""

    table: str
    path: Path
    exact: bool
    version: int = VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a warehouse holds, and what is left out: table, path and why.

    rows: of small tables, out of `read`; files: those that DuckDB reads itself.
    """

    rows: Mapping[str, pa.Table]
    read: tuple[File, ...]
    files: tuple[File, ...]
    quarantined: tuple[tuple[str, Path, str], ...]


def survey(root: Path) -> Survey:
    """Read every landed file of the small tables, and the footers of the others: 20,000 take some seconds.

    Raises:
        NewerSchemaError: something in it was written by a later fleetbench.
    """
    found = latest(root)
    manifest = found.manifest
    shelf = _Shelf(quarantined=[("manifest", path, why) for path, why in found.damaged])
    shelf.quarantined += [(path.name, path, "no folder: what was in it is not here") for path in layout.misplaced(root)]
    for table in SCHEMAS:
        landed = sorted((root / "landing" / table).glob("*/*.parquet"))
        if manifest is not None:
            landed = [path for path in landed if not manifest.has_absorbed(root, path)]
            for compacted in (file for file in manifest.files if file.table == table):
                shelf.put(table, root / compacted.path, _look(root, compacted))
        if table in SMALL:
            shelf.read(table, landed)
        else:
            for path in landed:
                shelf.put(table, path, inspect(path, table))
    return Survey(
        rows=shelf.rows, read=tuple(shelf.done), files=tuple(shelf.files), quarantined=tuple(shelf.quarantined)
    )


@dataclass(slots=True, kw_only=True)
class _Shelf:
    """A survey on its way."""

    quarantined: list[tuple[str, Path, str]]
    rows: dict[str, pa.Table] = field(default_factory=dict)
    done: list[File] = field(default_factory=list)
    files: list[File] = field(default_factory=list)

    def put(self, table: str, path: Path, footer: Footer) -> None:
        if footer.why_not:
            self.quarantined.append((table, path, footer.why_not))
        else:
            self.files.append(File(table=table, path=path, exact=footer.exact, version=footer.version))

    def read(self, table: str, paths: Sequence[Path]) -> None:
        """Every value of these files, in today's columns."""
        parts: dict[int, list[pa.Table]] = {VERSION: [pa.Table.from_batches([], SCHEMAS[table])]}
        for path, whole in read_all(paths, table):
            if isinstance(whole, ValueError):
                self.quarantined.append((table, path, str(whole)))
                continue
            version = whole.version if versions.older(table) else VERSION
            parts.setdefault(version, []).append(whole.rows)
            self.done.append(File(table=table, path=path, exact=whole.exact, version=version))
        today = [versions.today(table, pa.concat_tables(tables), version) for version, tables in parts.items()]
        self.rows[table] = pa.concat_tables(today).combine_chunks()


def _look(root: Path, file: Compacted) -> Footer:
    """At a compacted file's footer, its size, and its hash where the table is small: marts rest on it."""
    path = root / file.path
    footer = inspect(path, file.table)
    if footer.why_not is None and path.stat().st_size != file.bytes:
        return Footer(why_not=f"it has {path.stat().st_size} bytes, not {file.bytes} as in the manifest")
    if footer.why_not is None and file.table in SMALL:
        with path.open("rb") as opened:
            if hashlib.file_digest(opened, "sha256").hexdigest() != file.sha256:
                return Footer(why_not="its content is not as in the manifest: the hash differs")
    return footer


def land(connection: duckdb.DuckDBPyConnection, found: Survey) -> None:
    """Note which files count, and which are left out: the table `quarantined`."""
    connection.execute("CREATE SCHEMA landed")
    connection.execute("CREATE TABLE landed.files (table_name VARCHAR, path VARCHAR, exact BOOLEAN)")
    connection.execute("CREATE TABLE quarantined (table_name VARCHAR, path VARCHAR, reason VARCHAR)")
    _insert(connection, "landed.files", [(file.table, str(file.path), file.exact) for file in found.files])
    _insert(connection, "quarantined", [(table, str(path), why) for table, path, why in found.quarantined])


def lay(connection: duckdb.DuckDBPyConnection, found: Survey, table: str) -> None:
    """Make landed.<table> over the files of one table, under the types of its schema, also where there is no file."""
    rows = found.rows.get(table)
    connection.register("arrow_rows", pa.Table.from_batches([], SCHEMAS[table]) if rows is None else rows)
    connection.execute(f"CREATE TABLE landed.{table}_rows AS SELECT * FROM arrow_rows")  # noqa: S608 - our own names
    connection.unregister("arrow_rows")
    try:
        _show(connection, table)
    except duckdb.Error as error:
        if not mend(connection, error):
            raise


def mend(connection: duckdb.DuckDBPyConnection, error: duckdb.Error) -> bool:
    """After `error`: quarantine the files that cannot be read whole.

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
    laid = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = 'landed'").fetchall()
    for table in {table for table, _, _ in damaged if (f"{table}_rows",) in laid}:
        _show(connection, table)
    return bool(damaged)


def _damage(table: str, path: Path) -> str | None:
    """Why a file cannot be read, by either reader: one may stumble over what the other passes over."""
    try:
        check(path, table)
        with duckdb.connect(":memory:") as probe:  # its own: an internal error of DuckDB ends the whole database
            probe.execute(f"SELECT max(hash(t)) FROM read_parquet({_literal(path)}) AS t").fetchall()  # noqa: S608 - escaped
    except (ValueError, duckdb.Error) as error:
        return str(error).splitlines()[0]
    return None


def _show(connection: duckdb.DuckDBPyConnection, table: str) -> None:
    found = connection.execute(
        "SELECT path, exact FROM landed.files WHERE table_name = ? ORDER BY path", [table]
    ).fetchall()
    files = [File(table=table, path=Path(path), exact=exact) for path, exact in found]
    connection.execute(
        f"CREATE OR REPLACE VIEW landed.{table} AS SELECT {columns(table)} FROM ("  # noqa: S608 - escaped
        f"SELECT * FROM landed.{table}_rows{''.join(scans(files))})"
    )


def scans(files: Sequence[File]) -> Iterator[str]:
    """What joins a table's files to its rows: by name, those that lack columns or have more apart."""
    for exact, option in ((True, ""), (False, ", union_by_name = true")):
        names = [_literal(file.path) for file in files if file.exact is exact]
        if names:
            yield f" UNION ALL BY NAME SELECT * FROM read_parquet([{', '.join(names)}]{option})"  # noqa: S608 - escaped


def columns(table: str) -> str:
    """Today's columns of a table. Times leave as UTC without a zone: with one, DuckDB's Python side would need pytz."""
    return ", ".join(
        f'"{column.name}" AT TIME ZONE \'UTC\' AS "{column.name}"'
        if pa.types.is_timestamp(column.type)
        else f'"{column.name}"'
        for column in SCHEMAS[table]
    )


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[tuple[str, str, str | bool]]) -> None:
    if rows:
        connection.executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", rows)  # noqa: S608 - our own names


def _literal(path: Path) -> str:
    """A file's name as SQL text, no character of it a pattern."""
    escaped = re.sub(r"([\[*?])", r"[\1]", str(path)).replace("'", "''")
    return f"'{escaped}'"
