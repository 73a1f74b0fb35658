"""Rows as a table's schema says, strictly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral
from typing import Any

import pyarrow as pa

from fleetbench.store.schema import SCHEMAS

Rows = Sequence[Mapping[str, Any]]


def conform(table: str, rows: pa.Table | Rows) -> pa.Table:
    """`rows` as the schema of `table` says; columns that may be NULL can be left out.

    Raises:
        ValueError: unknown table or column, a required value missing, or a value of another type.
    """
    if table not in SCHEMAS:
        raise ValueError(f"{table} is no table of the warehouse: {', '.join(sorted(SCHEMAS))}")
    return conform_to(SCHEMAS[table], table, rows)


def conform_to(schema: pa.Schema, table: str, rows: pa.Table | Rows) -> pa.Table:
    """The same for another version's schema, of which rows are a table already.

    Raises:
        ValueError: as `conform`.
    """
    given = rows.schema.names if isinstance(rows, pa.Table) else {name for row in rows for name in row}
    unknown = sorted(set(given) - set(schema.names))
    if unknown:
        raise ValueError(f"{table} has no column {', '.join(unknown)}")
    try:
        made = _cast(rows, schema) if isinstance(rows, pa.Table) else _build(table, rows)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError) as error:
        raise ValueError(f"{table}: {error}") from error
    lacking = [field.name for field in schema if not field.nullable and made[field.name].null_count]
    if lacking:
        raise ValueError(f"{table} needs a value in {', '.join(lacking)}")
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """What making a table's rows asks of its schema: to ask it anew costs four times as much as the rows."""

    whole: tuple[str, ...]
    whole_lists: tuple[str, ...]
    floats: tuple[str, ...]
    row: pa.DataType


@cache
def _shape(table: str) -> _Shape:
    schema = SCHEMAS[table]
    whole = [field for field in schema if pa.types.is_integer(_inner(field.type))]
    return _Shape(
        whole=tuple(field.name for field in whole if not is_list(field.type)),
        whole_lists=tuple(field.name for field in whole if is_list(field.type)),
        floats=tuple(field.name for field in schema if pa.types.is_floating(field.type)),
        row=pa.struct([field.with_nullable(True) for field in schema]),
    )


def _build(table: str, rows: Rows) -> pa.Table:
    """Columns by their types alone, all of a row at once; not-a-number is a missing number."""
    shape = _shape(table)
    for row in rows:
        _check_whole((name, row.get(name)) for name in shape.whole)
        _check_whole((name, part) for name in shape.whole_lists for part in row.get(name) or ())
    missing = ({name: None for name in shape.floats if row.get(name) != row.get(name)} for row in rows)
    made = pa.array([{**row, **nan} for row, nan in zip(rows, missing, strict=True)], type=shape.row)
    return pa.Table.from_arrays(made.flatten(), schema=SCHEMAS[table])


def _check_whole(values: Iterable[tuple[str, Any]]) -> None:
    """Arrow would cut 1.5 to 1."""
    for name, value in values:
        if type(value) is not int and (isinstance(value, bool) or not isinstance(value, Integral | None)):
            raise pa.ArrowTypeError(f"column {name} takes whole numbers")


def _inner(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if is_list(kind) else kind


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
        or same(given, wanted)
        or any(family(given) and family(wanted) for family in families)
        or (is_list(given) and is_list(wanted) and _widens(given.value_type, wanted.value_type))
    )


def same(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Equal but for the names that Parquet gives to list elements, and what may be NULL inside."""
    if is_list(found) and is_list(wanted):
        return same(found.value_type, wanted.value_type)
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        return [part.name for part in found] == [part.name for part in wanted] and all(
            same(left.type, right.type) for left, right in zip(found, wanted, strict=True)
        )
    return bool(found == wanted)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))
