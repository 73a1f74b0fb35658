from __future__ import annotations

import datetime as dt
from pathlib import Path

import duckdb
import pytest

from fleetbench.errors import InputError
from fleetbench.report.query import fetch, query, statements
from fleetbench.store.connection import connect


@pytest.fixture
def connection(tmp_path: Path) -> duckdb.DuckDBPyConnection:
    return connect(tmp_path)


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("SELECT\n  speling FROM cells", "LINE 2"),
        ("SELEC 1", "syntax error"),
        ("FROM nothing", "nothing"),
        ("SELECT 1; SELECT 2", "give one SQL statement, not 2"),
        ("", "give one SQL statement, not 0"),
        ("SELECT 'x'::INT", "x"),
    ],
)
def test_a_mistake_in_sql_is_a_sentence(connection: duckdb.DuckDBPyConnection, sql: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        query(connection, sql)


@pytest.mark.parametrize(
    "sql", ["SELECT speling FROM cells", "SELECT\n\t\trun_id,\tspeling\nFROM cells", "\n\nSELEC 1"]
)
def test_a_mistake_has_no_blank_line_and_a_caret_below_it(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    with pytest.raises(InputError) as wrong:
        query(connection, sql)
    lines = str(wrong.value).splitlines()
    assert all(line.strip() for line in lines)
    assert lines[-2].startswith("LINE ")
    assert lines[-2][lines[-1].index("^") :].startswith(("speling", "SELEC"))


def test_columns_of_one_name_are_told_apart(connection: duckdb.DuckDBPyConnection) -> None:
    result = query(connection, "SELECT 1 AS a, 2 AS a, 3 AS a_1")
    assert result.columns == ("a", "a_1", "a_1_1")
    assert result.rows == ((1, 2, 3),)


def test_a_time_with_a_zone_can_be_shown(connection: duckdb.DuckDBPyConnection) -> None:
    ((value,),) = query(connection, "SELECT TIMESTAMPTZ '2026-01-01 00:00:00+00' AS t").rows
    assert value == dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def test_a_statement_without_rows_gives_none(connection: duckdb.DuckDBPyConnection) -> None:
    assert query(connection, "CREATE TABLE mine (x INT)").rows in ((), ((0,),))
    assert query(connection, "DESCRIBE cells").rows
    assert query(connection, "SHOW TABLES").rows


@pytest.mark.parametrize(
    "sql",
    [
        "COPY (SELECT 1) TO 'x.parquet'",
        "-- a remark\ncopy cells to 'x'",
        "/* so */ EXPORT DATABASE 'folder'",
        "EXPLAIN ANALYZE COPY cells TO 'x'",
        "EXPLAIN (ANALYZE, FORMAT json) COPY cells TO 'x'",
        "PREPARE p AS COPY cells TO 'x'",
    ],
)
def test_what_writes_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str) -> None:
    monkeypatch.chdir(tmp_path)
    with connect(tmp_path) as connection:
        (asked,) = statements(connection, sql)
        with pytest.raises(InputError, match=r"(COPY|EXPORT) is refused, for no question writes files"):
            fetch(connection, asked)
    assert list(tmp_path.iterdir()) == []


def test_a_column_may_be_called_copy(tmp_path: Path) -> None:
    with connect(tmp_path) as connection:
        (asked,) = statements(connection, "SELECT copy FROM (SELECT 'COPY x' AS copy)")
        assert fetch(connection, asked).to_pylist() == [{"copy": "COPY x"}]


@pytest.mark.parametrize("sql", ["SELECT DATE '290000-01-01' AS d", "SELECT 'infinity'::TIMESTAMP AS d"])
def test_times_that_python_lacks_are_named_with_what_to_do(tmp_path: Path, sql: str) -> None:
    with connect(tmp_path) as connection, pytest.raises(InputError, match=r"column d holds .*CAST\(d AS VARCHAR\)"):
        query(connection, sql)
