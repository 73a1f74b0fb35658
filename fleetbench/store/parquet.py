"""Rows to Parquet bytes, and files back to rows of their schema."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleetbench import __version__
from fleetbench.errors import InputError
from fleetbench.store import layout
from fleetbench.store.rows import conform_to, is_list, same
from fleetbench.store.schema import SCHEMAS, VERSION, schema_of

ROWS_A_GROUP = 50_000
_SCHEMA, _WRITER = b"fleetbench.schema", b"fleetbench.version"
_AHEAD, _AT_ONCE = 4, 64
_UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError)


def encode(table: str, rows: pa.Table) -> pa.Buffer:
    """One Parquet file: zstd 3, integers as deltas, floats split by byte, text by dictionary; a single row plainly.

    Of one row the columns cost and not the bytes: a trial's own is written and read in half the time without
    compression, dictionaries, statistics, and the columns' units and meanings, which are in files of several rows.
    Gaps take 1.75 B each when they are split by byte too, but DuckDB 1.5 reads that for floats only. The footer says
    which version of the schema it is, and who wrote it.
    """
    sink = pa.BufferOutputStream()
    with writer(sink, table, plain=rows.num_rows == 1) as file:
        file.write_table(rows, row_group_size=ROWS_A_GROUP)
    return sink.getvalue()


def writer(sink: Any, table: str, *, plain: bool = False) -> pq.ParquetWriter:
    """Of a file in our encodings, for whoever writes it group by group."""
    how = _plainly(table) if plain else _packed(table)
    return pq.ParquetWriter(sink, write_page_checksum=True, **how)


@cache
def _plainly(table: str) -> dict[str, Any]:
    bare = pa.schema([field.remove_metadata() for field in SCHEMAS[table]])
    return {"schema": _signed(bare), "compression": "none", "use_dictionary": False, "write_statistics": False}


@cache
def _packed(table: str) -> dict[str, Any]:
    encodings: dict[str, str] = {}
    texts: list[str] = []
    for field in SCHEMAS[table]:
        for path, kind in _leaves(field.name, field.type):
            if pa.types.is_floating(kind):
                encodings[path] = "BYTE_STREAM_SPLIT"
            elif pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
                encodings[path] = "DELTA_BINARY_PACKED"
            elif pa.types.is_string(kind):
                texts.append(path)
    return {
        "schema": _signed(SCHEMAS[table]),
        "compression": "zstd",
        "compression_level": 3,
        "use_dictionary": texts,
        "column_encoding": encodings,
    }


def _signed(schema: pa.Schema) -> pa.Schema:
    """With the version of the schema, and who writes it."""
    return schema.with_metadata({_SCHEMA: str(VERSION), _WRITER: __version__})


class NewerSchemaError(InputError):
    """A file of a later fleetbench, whose columns may mean what this one does not know."""

    def __init__(self, path: Path, version: int, by: str) -> None:
        mistake = (
            f"{path} is of version {version} of the warehouse's schema, written by fleetbench {by}; this is "
            f"fleetbench {__version__}, which reads up to version {VERSION}: install fleetbench {by} or later"
        )
        super().__init__((mistake,))


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a file's footer says of it: why it cannot be read as a table, or whether it is just like the table."""

    why_not: str | None = None
    exact: bool = False
    version: int = VERSION


def inspect(path: Path, table: str) -> Footer:
    """Look whether a file can be part of `table`, at its footer alone.

    A column that is missing must be one that may be NULL (an older writer); one too many is left aside
    (a newer writer).

    Raises:
        NewerSchemaError: it is of a later version.
    """
    try:
        found = pq.read_schema(_regular(path))
        return _compare(found, table, _version(path, found))
    except NewerSchemaError:
        try:
            _check_hash(path, path.read_bytes())  # a damaged byte of the version is no later fleetbench
        except ValueError as error:
            return Footer(why_not=str(error))
        raise
    except _UNREADABLE as error:
        return Footer(why_not=_unreadable(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Rows of a file, as the schema of their version says; `exact` as of its footer."""

    rows: pa.Table
    version: int
    exact: bool


def read_whole(path: Path, table: str) -> Whole:
    """Every value of a file, held against the hash in its name, or else against the checksums of its pages.

    Raises:
        ValueError: why the file cannot be part of the table.
        NewerSchemaError: it is of a later version.
    """
    try:
        return _whole(path, table, _regular(path).read_bytes())
    except OSError as error:
        raise ValueError(_unreadable(error)) from error


def _whole(path: Path, table: str, data: bytes) -> Whole:
    try:
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            found = file.schema_arrow
            named = _check_hash(path, data)
            version = _version(path, found)
            rows = file.read(use_threads=False)
        if not named:  # else it is what was written, and that was whole
            rows.validate(full=True)
    except _UNREADABLE as error:
        raise ValueError(_unreadable(error)) from error
    footer = _compare(found, table, version)
    if footer.why_not:
        raise ValueError(footer.why_not)
    schema = schema_of(table, version)
    if found.equals(schema):  # casting column by column costs as much as reading
        return Whole(rows=rows, version=version, exact=True)
    there = set(rows.column_names)
    mine = rows.select([name for name in schema.names if name in there])
    return Whole(rows=conform_to(schema, table, mine), version=version, exact=footer.exact)


def _check_hash(path: Path, data: bytes) -> bool:
    """Whether there is one in the name.

    Raises:
        ValueError: it is another one.
    """
    said, sha256 = layout.hash_of(path), hashlib.sha256(data).hexdigest()
    if said is not None and not sha256.startswith(said):
        raise ValueError(f"its content differs from what was written: sha256 {sha256[:12]}, not {said[:12]}")
    return said is not None


def check(path: Path, table: str) -> None:
    """Read every value of a file, held against the checksums of its pages, however large it is.

    Raises:
        ValueError: why the file cannot be part of the table.
    """
    try:
        with pq.ParquetFile(_regular(path), page_checksum_verification=True) as file:
            why_not = _compare(file.schema_arrow, table, _version(path, file.schema_arrow)).why_not
            for group in range(file.num_row_groups):
                file.read_row_group(group).validate(full=True)
    except _UNREADABLE as error:
        raise ValueError(_unreadable(error)) from error
    if why_not:
        raise ValueError(why_not)


def read_all(paths: Sequence[Path], table: str) -> Iterator[tuple[Path, Whole | ValueError]]:
    """`read_whole` of many files, in their order; what cannot be read is the error.

    Bytes are fetched ahead, for a folder may be far away; to decode in threads takes twice as long as in one.

    Raises:
        NewerSchemaError: one is of a later version.
    """
    with ThreadPoolExecutor(_AHEAD) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            for path, data in zip(some, pool.map(_bytes, some), strict=True):
                try:
                    yield path, _whole(path, table, data) if isinstance(data, bytes) else data
                except ValueError as error:
                    yield path, error


def _bytes(path: Path) -> bytes | ValueError:
    try:
        return _regular(path).read_bytes()
    except _UNREADABLE as error:
        return ValueError(_unreadable(error))


def _regular(path: Path) -> Path:
    """The file, if it is one: a pipe or a device would be read for ever.

    Raises:
        ValueError: it is none.
    """
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")
    return path


def _version(path: Path, found: pa.Schema) -> int:
    said = found.metadata or {}
    number = said.get(_SCHEMA, b"1")
    if not number.isdigit():
        raise ValueError(f"it says that it is of version {number!r} of the schema")
    version = int(number)
    if version > VERSION:
        raise NewerSchemaError(path, version, said.get(_WRITER, b"unknown").decode(errors="replace"))
    return version


def _compare(found: pa.Schema, table: str, version: int) -> Footer:
    schema = schema_of(table, version)
    if found.equals(schema):  # nearly every file, and a look at each column costs twice the reading
        return Footer(exact=True, version=version)
    times = Counter(found.names)
    for field in schema:
        if times[field.name] > 1:
            return Footer(why_not=f"column {field.name} is there twice")
        index = found.get_field_index(field.name)
        if index < 0:
            if not field.nullable:
                return Footer(why_not=f"column {field.name} is missing")
        elif not same(found.field(index).type, field.type):
            return Footer(why_not=f"column {field.name} is {found.field(index).type}, not {field.type}")
    return Footer(exact=found.names == schema.names, version=version)


def _unreadable(error: Exception) -> str:
    return f"not a readable Parquet file: {(str(error) or type(error).__name__).splitlines()[0]}"


def _leaves(path: str, kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    if is_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for part in kind for leaf in _leaves(f"{path}.{part.name}", part.type)]
    return [(path, kind)]
