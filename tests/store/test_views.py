from __future__ import annotations

import re
from graphlib import CycleError
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetbench.errors import InputError
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect, failed_checks
from fleetbench.store.landed import SMALL
from fleetbench.store.rows import conform
from fleetbench.store.schema import SCHEMAS
from fleetbench.store.views import ONCE, definitions, ordered
from tests.samples import Lab, keyed, request_row, trial_row


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    warehouse = Warehouse(tmp_path / "it's [1] *?")
    warehouse.create()
    return Lab(warehouse)


def count(connection: duckdb.DuckDBPyConnection, view: str) -> int:
    return len(connection.sql(f'FROM "{view}"').fetchall())


def test_every_view_is_there_and_empty_before_the_first_run(lab: Lab) -> None:
    connection = connect(lab.warehouse.root)
    assert {view: count(connection, view) for view in definitions()} == dict.fromkeys(definitions(), 0)
    (described,) = connection.sql(
        "SELECT any_value(column_type) FROM (DESCRIBE cells) WHERE column_name = 'batch'"
    ).fetchall()
    assert described == ("INTEGER",)
    assert failed_checks(connection) == {}


def test_an_empty_folder_is_an_empty_warehouse_and_a_missing_one_a_mistake(tmp_path: Path) -> None:
    assert count(connect(tmp_path), "cells") == 0
    with pytest.raises(InputError, match="no warehouse at"):
        connect(tmp_path / "nothing")


def test_every_view_says_what_a_row_is() -> None:
    for name, sql in definitions().items():
        assert sql.startswith("-- Must be empty: " if name.startswith("check_") else "-- Row: "), name
        assert name.startswith("check_") or "-- Key: " in sql, name


def test_what_is_worked_out_at_once_reads_nothing_that_a_query_may_find_damaged() -> None:
    views = definitions()
    seen: set[str] = set()
    left = list(ONCE)
    while left:
        name = left.pop()
        found = set(re.findall(r"\b(?:FROM|JOIN)\s+([a-z_.]+)", views[name])) - seen
        seen |= found
        left += found & views.keys()
    landed = {name.removeprefix("landed.") for name in seen if name.startswith("landed.")}
    assert landed <= set(SMALL)
    assert "trials" in landed


def test_a_good_run_passes_every_check(lab: Lab) -> None:
    lab.run()
    lab.speed("f16", 100.0)
    connection = connect(lab.warehouse.root)
    assert failed_checks(connection) == {}
    assert [count(connection, view) for view in ("runs", "trials", "requests", "cells")] == [1, 1, 2, 1]


def test_a_broken_file_is_left_out_counted_and_fails_no_query(lab: Lab) -> None:
    lab.run()
    lab.speed("f16", 100.0)
    folder = lab.warehouse.root / "landing/requests/run1"
    (whole,) = folder.glob("*.parquet")
    (folder / "cut.parquet").write_bytes(whole.read_bytes()[:-9])
    (folder / "none.parquet").write_bytes(b"")
    (folder / "middle.parquet").write_bytes(b"PAR1" + b"\0" * 100 + b"PAR1")
    pq.write_table(pa.table({"x": [1]}), folder / "foreign.parquet")
    (folder / "folder.parquet").mkdir()
    connection = connect(lab.warehouse.root)
    assert count(connection, "requests") == 2
    said = dict(connection.sql("SELECT parse_filename(path), reason FROM quarantined").fetchall())
    assert sorted(said) == ["cut.parquet", "folder.parquet", "foreign.parquet", "middle.parquet", "none.parquet"]
    assert said["foreign.parquet"] == "column run_id is missing"


def test_a_file_with_a_widened_type_is_quarantined_not_read_as_text(lab: Lab) -> None:
    lab.run()
    rows = conform("trials", [trial_row()])
    text = rows.set_column(rows.schema.get_field_index("batch"), "batch", pa.array(["1"]))
    folder = lab.warehouse.root / "landing/trials/run1"
    folder.mkdir()
    pq.write_table(text, folder / "t.parquet")
    connection = connect(lab.warehouse.root)
    assert (count(connection, "trials"), count(connection, "quarantined")) == (0, 1)


def test_files_of_an_older_and_of_a_newer_writer_are_read(lab: Lab) -> None:
    lab.run()
    lab.speed("f16", 100.0)
    folder = lab.warehouse.root / "landing/requests/run1"
    rows = conform("requests", keyed(trial_row(), [request_row(7, [1])]))
    pq.write_table(rows.drop_columns(["error"]), folder / "older.parquet")
    pq.write_table(rows.append_column("new", pa.array([1])), folder / "newer.parquet")
    connection = connect(lab.warehouse.root)
    assert connection.sql("FROM requests").columns == SCHEMAS["requests"].names
    assert (count(connection, "requests"), count(connection, "quarantined")) == (4, 0)


def test_rows_of_a_trial_that_was_not_committed_do_not_count(lab: Lab) -> None:
    lab.run()
    lab.warehouse.commit("requests", keyed(trial_row(), [request_row(0, [1])]), run_id="run1", name="x")
    connection = connect(lab.warehouse.root)
    assert (count(connection, "requests"), count(connection, "quarantined")) == (0, 0)


def test_a_query_sees_no_variable_of_python(lab: Lab) -> None:
    trails = pa.table({"x": [1]})
    assert trails.num_rows
    with pytest.raises(duckdb.CatalogException):
        connect(lab.warehouse.root).sql("FROM trails")


def test_views_come_after_what_they_read() -> None:
    views = {"a": "FROM b JOIN landed.a", "b": "-- FROM a\nFROM c", "c": "SELECT 1"}
    assert [name for name, _ in ordered(views)] == ["c", "b", "a"]
    with pytest.raises(CycleError):
        list(ordered({"a": "FROM b", "b": "FROM a"}))


def test_a_view_is_there_however_it_is_asked_for(lab: Lab) -> None:
    lab.run()
    lab.speed("f16", 100.0)
    root = lab.warehouse.root
    assert len(connect(root).execute('SELECT * FROM "Cells" AS c').fetchall()) == 1
    assert len(connect(root).table("cells").fetchall()) == 1
    assert len(connect(root).cursor().execute("FROM cells").fetchall()) == 1
    assert len(connect(root).query("FROM main.cells").fetchall()) == 1
    listed = {name for (name,) in connect(root).execute("SHOW TABLES").fetchall()}
    assert set(definitions()) | {"prices", "quarantined"} == listed


def test_a_question_may_follow_one_whose_rows_were_not_fetched(lab: Lab) -> None:
    lab.run()
    lab.speed("f16", 100.0)
    connection = connect(lab.warehouse.root)
    connection.execute("FROM trials")
    connection.execute("FROM landed.requests")
    connection.execute("FROM runs")
    assert len(connection.fetchall()) == 1
    assert len(connection.execute("FROM requests").fetchall()) == 2


def test_a_misspelt_view_is_told_from_all_that_there_are(lab: Lab) -> None:
    with pytest.raises(duckdb.CatalogException, match=r"cells_x.*\n.*Did you mean \"cells"):
        connect(lab.warehouse.root).execute("FROM cells_x")


def test_a_view_that_was_rolled_back_or_dropped_is_made_again(lab: Lab) -> None:
    connection = connect(lab.warehouse.root)
    connection.execute("BEGIN")
    connection.execute("FROM cells")
    connection.execute("ROLLBACK")
    assert connection.execute("FROM cells").fetchall() == []
    connection.execute("DROP VIEW kl")
    assert connection.execute("FROM kl").fetchall() == []
