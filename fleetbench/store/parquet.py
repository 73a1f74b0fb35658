"""Rows to Parquet bytes, strictly by schema, and files back to their schema."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fleetbench.store.schema import SCHEMAS

Rows = Sequence[Mapping[str, Any]]
_UNREADABLE = (pa.ArrowException, OSError, ValueError, MemoryError)


def conform(table: str, rows: pa.Table | Rows) -> pa.Table:
    """`rows` as the schema of `table` says; columns that may be NULL can be left out.

    Raises:
        ValueError: unknown table or column, a required value missing, or a value of another type.
    """
    if table not in SCHEMAS:
        raise ValueError(f"{table} is no table of the warehouse: {', '.join(sorted(SCHEMAS))}")
    schema = SCHEMAS[table]
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
    """One Parquet file: zstd 3, integers as deltas, floats split by byte, text by dictionary.

    Gaps take 1.75 B each when they are split by byte too, but DuckDB 1.5 reads that for floats only.
    """
    sink = pa.BufferOutputStream()
    encodings: dict[str, str] = {}
    texts: list[str] = []
    for field in table.schema:
        for path, kind in _leaves(field.name, field.type):
            if pa.types.is_floating(kind):
                encodings[path] = "BYTE_STREAM_SPLIT"
            elif pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
                encodings[path] = "DELTA_BINARY_PACKED"
            elif pa.types.is_string(kind):
                texts.append(path)
    pq.write_table(
        table,
        sink,
        compression="zstd",
        compression_level=3,
        use_dictionary=texts,
        column_encoding=encodings,
        row_group_size=50_000,
        write_page_checksum=True,
    )
    return sink.getvalue()


@dataclass(frozen=True, slots=True, kw_only=True)
class Footer:
    """What a file's footer says of it: why it cannot be read as a table, or whether it is just like the table."""

    why_not: str | None = None
    exact: bool = False


def inspect(path: Path, table: str) -> Footer:
    """Look whether a file can be part of `table`, at its footer alone.

    A column that is missing must be one that may be NULL (an older writer); one too many is left aside
    (a newer writer).
    """
    try:
        found = pq.read_schema(path)
    except _UNREADABLE as error:
        return Footer(why_not=_unreadable(error))
    return _compare(found, table)


def read_whole(path: Path, table: str) -> pa.Table:
    """Every value of a file, held against the checksums of its pages, as the schema of `table` says.

    Raises:
        ValueError: why the file cannot be part of the table.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            rows = file.read(use_threads=False)
        rows.validate(full=True)
        footer = _compare(rows.schema, table)
    except _UNREADABLE as error:
        raise ValueError(_unreadable(error)) from error
    if footer.why_not:
        raise ValueError(footer.why_not)
    there = set(rows.column_names)
    return conform(table, rows.select([name for name in SCHEMAS[table].names if name in there]))


def _compare(found: pa.Schema, table: str) -> Footer:
    if found.equals(SCHEMAS[table]):  # nearly every file, and a look at each column costs twice the reading
        return Footer(exact=True)
    times = Counter(found.names)
    for field in SCHEMAS[table]:
        if times[field.name] > 1:
            return Footer(why_not=f"column {field.name} is there twice")
        index = found.get_field_index(field.name)
        if index < 0:
            if not field.nullable:
                return Footer(why_not=f"column {field.name} is missing")
        elif not _same(found.field(index).type, field.type):
            return Footer(why_not=f"column {field.name} is {found.field(index).type}, not {field.type}")
    return Footer(exact=found.names == SCHEMAS[table].names)


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
