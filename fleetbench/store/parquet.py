"""Rows to Parquet bytes, strictly by schema, and files back to their schema."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleetbench import __version__
from fleetbench.errors import InputError
from fleetbench.store import layout
from fleetbench.store.schema import SCHEMAS, VERSION, schema_of

Rows = Sequence[Mapping[str, Any]]
ROWS_A_GROUP = 50_000
_SCHEMA, _WRITER = b"fleetbench.schema", b"fleetbench.version"
_AT_ONCE = 64
_UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError)


def conform(table: str, rows: pa.Table | Rows) -> pa.Table:
    """`rows` as the schema of `table` says; columns that may be NULL can be left out.

    Raises:
        ValueError: unknown table or column, a required value missing, or a value of another type.
    """
    if table not in SCHEMAS:
        raise ValueError(f"{table} is no table of the warehouse: {', '.join(sorted(SCHEMAS))}")
    return _conform(table, rows, SCHEMAS[table])


def _conform(table: str, rows: pa.Table | Rows, schema: pa.Schema) -> pa.Table:
    given = rows.schema.names if isinstance(rows, pa.Table) else {name for row in rows for name in row}
    unknown = sorted(set(given) - set(schema.names))
    if unknown:
        raise ValueError(f"{table} has no column {', '.join(unknown)}")
    try:
        made = _cast(rows, schema) if isinstance(rows, pa.Table) else _build(rows, schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise ValueError(f"{table}: {error}") from error
    lacking = [field.name for field in schema if not field.nullable and made[field.name].null_count]
    if lacking:
        raise ValueError(f"{table} needs a value in {', '.join(lacking)}")
    return made


def encode(table: pa.Table) -> pa.Buffer:
    """One Parquet file: zstd 3, integers as deltas, floats split by byte, text by dictionary; a single row plainly.

    Of one row the columns cost and not the bytes: a trial's own is written and read in two thirds of the time.
    Gaps take 1.75 B each when they are split by byte too, but DuckDB 1.5 reads that for floats only. The footer says
    which version of the schema it is, and who wrote it.
    """
    sink = pa.BufferOutputStream()
    with writer(sink, table.schema, plain=table.num_rows == 1) as file:
        file.write_table(table, row_group_size=ROWS_A_GROUP)
    return sink.getvalue()


def writer(sink: Any, schema: pa.Schema, *, plain: bool = False) -> pq.ParquetWriter:
    """Of a file in our encodings, for whoever writes it group by group."""
    if plain:
        return pq.ParquetWriter(
            sink, _signed(schema), compression="none", use_dictionary=False, write_page_checksum=True
        )
    encodings: dict[str, str] = {}
    texts: list[str] = []
    for field in schema:
        for path, kind in _leaves(field.name, field.type):
            if pa.types.is_floating(kind):
                encodings[path] = "BYTE_STREAM_SPLIT"
            elif pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
                encodings[path] = "DELTA_BINARY_PACKED"
            elif pa.types.is_string(kind):
                texts.append(path)
    return pq.ParquetWriter(
        sink,
        _signed(schema),
        compression="zstd",
        compression_level=3,
        use_dictionary=texts,
        column_encoding=encodings,
        write_page_checksum=True,
    )


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
        found = pq.read_schema(path)
        return _compare(found, table, _version(path, found))
    except _UNREADABLE as error:
        return Footer(why_not=_unreadable(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """Rows of a file, as the schema of their version says; `exact` as of its footer."""

    rows: pa.Table
    version: int
    exact: bool


def read_whole(path: Path, table: str) -> Whole:
    """Every value of a file, held against the checksums of its pages and the hash in its name.

    Raises:
        ValueError: why the file cannot be part of the table.
        NewerSchemaError: it is of a later version.
    """
    try:
        data = path.read_bytes()
        with pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True) as file:
            version = _version(path, file.schema_arrow)
            _check_hash(path, data)
            rows = file.read(use_threads=False)
        rows.validate(full=True)
    except _UNREADABLE as error:
        raise ValueError(_unreadable(error)) from error
    footer = _compare(rows.schema, table, version)
    if footer.why_not:
        raise ValueError(footer.why_not)
    schema = schema_of(table, version)
    if rows.schema.equals(schema):  # casting column by column costs as much as reading
        return Whole(rows=rows, version=version, exact=True)
    there = set(rows.column_names)
    mine = rows.select([name for name in schema.names if name in there])
    return Whole(rows=_conform(table, mine, schema), version=version, exact=footer.exact)


def _check_hash(path: Path, data: bytes) -> None:
    said, sha256 = layout.hash_of(path), hashlib.sha256(data).hexdigest()
    if said is not None and not sha256.startswith(said):
        raise ValueError(f"its content differs from what was written: sha256 {sha256[:12]}, not {said[:12]}")


def check(path: Path, table: str) -> None:
    """Read every value of a file, held against the checksums of its pages, however large it is.

    Raises:
        ValueError: why the file cannot be part of the table.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            why_not = _compare(file.schema_arrow, table, _version(path, file.schema_arrow)).why_not
            for group in range(file.num_row_groups):
                file.read_row_group(group).validate(full=True)
    except _UNREADABLE as error:
        raise ValueError(_unreadable(error)) from error
    if why_not:
        raise ValueError(why_not)


def read_all(paths: Sequence[Path], table: str) -> Iterator[tuple[Path, Whole | ValueError]]:
    """`read_whole` of many files, in their order, on all cores; what cannot be read is the error.

    Raises:
        NewerSchemaError: one is of a later version.
    """

    def read(path: Path) -> Whole | ValueError:
        try:
            return read_whole(path, table)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for start in range(0, len(paths), _AT_ONCE):
            some = paths[start : start + _AT_ONCE]
            yield from zip(some, pool.map(read, some), strict=True)


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
        elif not _same(found.field(index).type, field.type):
            return Footer(why_not=f"column {field.name} is {found.field(index).type}, not {field.type}")
    return Footer(exact=found.names == schema.names, version=version)


def _unreadable(error: Exception) -> str:
    return f"not a readable Parquet file: {(str(error) or type(error).__name__).splitlines()[0]}"


def _build(rows: Rows, schema: pa.Schema) -> pa.Table:
    return pa.Table.from_arrays(
        [_column([row.get(field.name) for row in rows], field) for field in schema], schema=schema
    )


def _column(values: list[Any], field: pa.Field) -> pa.Array:
    """A column by its type alone; not-a-number is a missing number."""
    inner = field.type.value_type if _is_list(field.type) else field.type
    if pa.types.is_integer(inner):
        parts = itertools.chain.from_iterable(v for v in values if v is not None) if _is_list(field.type) else values
        if any(isinstance(part, bool) or not isinstance(part, Integral | None) for part in parts):
            raise pa.ArrowTypeError(f"column {field.name} takes whole numbers")  # Arrow would cut 1.5 to 1
    return pa.array(values, type=field.type, from_pandas=pa.types.is_floating(field.type))


def _cast(table: pa.Table, schema: pa.Schema) -> pa.Table:
    if table.schema.equals(schema):
        return pa.Table.from_arrays(table.columns, schema=schema)
    columns = []
    for field in schema:
        if table.schema.get_field_index(field.name) < 0:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table[field.name]
        if not _widens(column.type, field.type):
            raise pa.ArrowTypeError(f"column {field.name} is {column.type}, not {field.type}")
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _widens(given: pa.DataType, wanted: pa.DataType) -> bool:
    """Same meaning, perhaps another width: text never becomes a number, nor a number text."""
    families = (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp, _is_text)
    return (
        pa.types.is_null(given)
        or _same(given, wanted)
        or any(family(given) and family(wanted) for family in families)
        or (_is_list(given) and _is_list(wanted) and _widens(given.value_type, wanted.value_type))
    )


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal but for the names that Parquet gives to list elements, and what may be NULL inside."""
    if _is_list(found) and _is_list(wanted):
        return _same(found.value_type, wanted.value_type)
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        return [part.name for part in found] == [part.name for part in wanted] and all(
            _same(left.type, right.type) for left, right in zip(found, wanted, strict=True)
        )
    return bool(found == wanted)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _leaves(path: str, kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    if _is_list(kind):
        return _leaves(f"{path}.list.element", kind.value_type)
    if pa.types.is_struct(kind):
        return [leaf for part in kind for leaf in _leaves(f"{path}.{part.name}", part.type)]
    return [(path, kind)]
