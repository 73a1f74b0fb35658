"""A user's SQL over the warehouse's views."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from fleetbench.errors import InputError
from fleetbench.report.result import Result

_LINE = re.compile(r"\bLINE (\d+):")
_NO_CODE = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|\$(\w*)\$.*?\$\1\$", re.DOTALL)
_WRITES_FILES = re.compile(
    r"\s*(?:EXPLAIN\s*(?:\([^)]*\)|ANALYZE)?\s*|PREPARE\b.*?\bAS\s+)*(COPY|EXPORT)\b", re.IGNORECASE | re.DOTALL
)


def query(connection: duckdb.DuckDBPyConnection, sql: str, parameters: Mapping[str, object] | None = None) -> Result:
    """The rows of one statement; of two columns with one name the later is called `name_1`.

    Raises:
        InputError: not one statement, or DuckDB's sentence with the line that it points at.
    """
    try:
        statements = connection.extract_statements(sql)
        if len(statements) != 1:
            raise InputError((f"give one SQL statement, not {len(statements)}",))
        connection.execute(statements[0], dict(parameters or {}))  # not sql(): its errors point at no line
        found = _fetched(connection)
    except duckdb.Error as error:
        raise InputError((sentence(error),)) from error
    return result_of(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A statement of a text; line: how many lines of the text are before it."""

    sql: str
    line: int


def statements(connection: duckdb.DuckDBPyConnection, text: str) -> list[Asked]:
    """The statements of a text, in their order.

    Raises:
        InputError: it cannot be parsed, with the line.
    """
    try:
        parsed = connection.extract_statements(text)
    except duckdb.Error as error:
        raise InputError((sentence(error),)) from error
    found: list[Asked] = []
    at = 0
    for statement in parsed:
        bare = statement.query.strip().rstrip(";")
        at = max(text.find(bare, at), at)
        found.append(Asked(sql=bare, line=text.count("\n", 0, at)))
        at += len(bare)
    return found


def fetch(connection: duckdb.DuckDBPyConnection, asked: Asked) -> pa.Table:
    """The rows of one statement.

    Raises:
        InputError: DuckDB's sentence with the line of the whole text; or it writes files, which might be the
            warehouse's own.
    """
    if found := _WRITES_FILES.match(_NO_CODE.sub(" ", asked.sql)):
        raise InputError((f"{found[1].upper()} is refused, for no question writes files: give --output FILE",))
    try:
        connection.execute(asked.sql)  # as text: a statement that was parsed among others points at a wrong place
        return _fetched(connection)
    except duckdb.Error as error:
        said = _LINE.sub(lambda found: f"LINE {int(found[1]) + asked.line}:", sentence(error), count=1)
        raise InputError((said,)) from error


def result_of(rows: pa.Table) -> Result:
    """Rows as a result; of two columns with one name the later is called `name_1`."""
    values = [_values(name, column) for name, column in zip(rows.column_names, rows.columns, strict=True)]
    return Result(columns=_unique(tuple(rows.column_names)), rows=tuple(zip(*values, strict=True)))


def _values(name: str, column: pa.ChunkedArray) -> list[object]:
    try:
        return list(column.to_pylist())
    except (OverflowError, ValueError) as error:  # times beyond what Python has
        raise InputError(
            (f"column {name} holds what cannot be shown ({error}): cast it, CAST({name} AS VARCHAR)",)
        ) from error


def sentence(error: duckdb.Error) -> str:
    """DuckDB's message without blank lines, its caret below what it points at."""
    lines = [line.rstrip() for line in str(error).splitlines() if line.strip()]
    for number, line in enumerate(lines[1:], 1):
        if line.strip("^ ") == "" and "\t" in lines[number - 1]:
            lines[number - 1], lines[number] = _aligned(lines[number - 1], line)
    return "\n".join(lines)


def _aligned(code: str, caret: str) -> tuple[str, str]:
    """DuckDB counts a tab as nothing; make it one blank in both."""
    column = caret.index("^")
    tabs = 0
    for place, sign in enumerate(code):
        if sign == "\t":
            tabs += 1
        elif place - tabs >= column:
            break
    return code.replace("\t", " "), " " * tabs + caret


def _fetched(connection: duckdb.DuckDBPyConnection) -> pa.Table:
    """The rows by way of Arrow: fetchall would need pytz where a time has a zone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Arrow output on a DB-API result", category=UserWarning)
        return connection.to_arrow_table()


def _unique(names: tuple[str, ...]) -> tuple[str, ...]:
    taken: list[str] = []
    for name in names:
        free, number = name, 0
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        taken.append(free)
    return tuple(taken)
