"""Rows as a file that is whole or not there."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from fleetbench.errors import InputError
from fleetbench.report import place
from fleetbench.report.query import result_of
from fleetbench.report.result import PAGE, Panel, Result
from fleetbench.report.table import Format, render, render_panels

OPTION = "--output"
Docs = Callable[[str], tuple[str, str]]


def export(rows: pa.Table, form: Format | Literal["parquet"], target: Path, docs: Docs) -> None:
    """Write rows to a file, in place of what was there.

    Args:
        rows: of a query.
        form: parquet keeps types, and says unit and meaning of each column in its metadata.
        target: the file.
        docs: unit and meaning of a column by its name; empty where nobody says them.

    Raises:
        InputError: it cannot be written, or is no file; or Parquet has no such type.
    """
    place.check(target, OPTION)
    place.replace(target, _parquet(rows, docs) if form == "parquet" else text_of(result_of(rows), form), OPTION)


def text_of(result: Result, form: Format) -> bytes:
    """What `form` makes of a result."""
    sink = io.StringIO()
    render(result, form, Console(file=sink, width=PAGE, highlight=False))
    return sink.getvalue().encode()


def panels_text(panels: Sequence[Panel]) -> bytes:
    """Panels as Markdown."""
    sink = io.StringIO()
    render_panels(panels, "markdown", Console(file=sink, width=PAGE, highlight=False))
    return sink.getvalue().encode()


def _parquet(rows: pa.Table, docs: Docs) -> bytes:
    fields = []
    for column in rows.schema:
        unit, doc = docs(column.name)
        fields.append(column.with_metadata({"unit": unit, "doc": doc}) if doc else column)
    sink = pa.BufferOutputStream()
    try:
        pq.write_table(rows.cast(pa.schema(fields)), sink, compression="zstd")
    except pa.ArrowException as error:
        raise InputError((f"Parquet cannot hold it ({error}): cast the column to text or a number",)) from error
    return bytes(sink.getvalue())
