"""Files with flipped bytes: they are quarantined, and every view answers with what is left."""

from __future__ import annotations

import random
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fleetbench.report.query import query
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from fleetbench.store.landed import SMALL, survey
from fleetbench.store.schema import SCHEMAS
from fleetbench.store.views import definitions
from tests.samples import START, Lab, request_row, trial_row


def rows_of(table: str, count: int) -> list[dict[str, Any]]:
    """Rows of a table that no sample makes: something in every column, other in each row."""
    return [{field.name: _value(field.type, n) for field in SCHEMAS[table]} for n in range(count)]


def _value(kind: pa.DataType, n: int) -> Any:
    if pa.types.is_string(kind):
        return f"text {n}"
    if pa.types.is_timestamp(kind):
        return START + timedelta(seconds=n)
    if pa.types.is_list(kind):
        return [_value(kind.value_type, n + k) for k in range(3)]
    if pa.types.is_struct(kind):
        return {part.name: _value(part.type, n) for part in kind}
    if pa.types.is_boolean(kind):
        return n % 2 == 0
    return n if pa.types.is_integer(kind) else n + 0.5


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files in every table, made once: a test damages a copy."""
    made = Lab(Warehouse(tmp_path_factory.mktemp("built")))
    made.warehouse.create()
    apart = {"runs", "trials", "requests", "launches", "refusals", "artifacts", "host", "verdicts"}
    for repeat in range(2):
        made.run()
        row = trial_row(repeat=repeat)
        measured = {table: rows_of(table, 20) for table in SCHEMAS if table not in apart}
        for rows in measured.values():
            for one in rows:
                for key in ("run_id", "trial_id", "attempt"):
                    del one[key]
        made.trial(row, requests=[request_row(n, range(n, n + 50)) for n in range(20)], **measured)
        for table in ("launches", "refusals", "artifacts", "host", "verdicts"):
            made.warehouse.commit(table, rows_of(table, 5), run_id="run1", name=f"{table}-{repeat}")
    return made.warehouse.root


@pytest.fixture
def lab(built: Path, tmp_path: Path) -> Lab:
    shutil.copytree(built, tmp_path / "data")
    return Lab(Warehouse(tmp_path / "data"), runs=2)


def files(lab: Lab, table: str) -> list[Path]:
    return sorted(lab.warehouse.root.glob(f"landing/{table}/*/*.parquet"))


def flip(path: Path, places: list[int]) -> None:
    data = bytearray(path.read_bytes())
    for place in places:
        data[place % len(data)] ^= 0xFF
    path.write_bytes(data)


def quarantined(lab: Lab, *asked: str) -> list[str]:
    """The files left out once these views were asked."""
    with connect(lab.warehouse.root) as connection:
        for view in asked:
            query(connection, f"FROM {view}")
        return [str(path) for (path,) in query(connection, "SELECT path FROM quarantined").rows]


def test_whole_files_are_all_read(lab: Lab) -> None:
    with connect(lab.warehouse.root) as connection:
        for table in SCHEMAS:
            assert len(files(lab, table)) == 2, table
            assert query(connection, f"SELECT count(*) > 0 FROM landed.{table}").rows == ((True,),), table  # noqa: S608 - our own names
    assert quarantined(lab, *definitions()) == []


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_byte_of_a_page_costs_its_file_and_nothing_else(lab: Lab, table: str) -> None:
    damaged, _ = files(lab, table)
    flip(damaged, [60, damaged.stat().st_size // 4])
    with connect(lab.warehouse.root) as connection:
        left = query(connection, f"FROM landed.{table}")
        out = query(connection, "SELECT table_name, path FROM quarantined").rows
    if table in SMALL or out:  # DuckDB checks no checksum: of a large table it reads what decodes
        assert out == ((table, str(damaged)),)
        damaged.unlink()
        with connect(lab.warehouse.root) as connection:
            assert query(connection, f"FROM landed.{table}") == left


def test_a_small_table_finds_a_damaged_byte_in_any_column(lab: Lab) -> None:
    damaged, _ = files(lab, "launches")
    whole = damaged.read_bytes()
    group = pq.read_metadata(damaged).row_group(0)
    for column in map(group.column, range(0, group.num_columns, 3)):
        start = column.dictionary_page_offset or column.data_page_offset
        flip(damaged, [start + column.total_compressed_size - 1])
        assert [path for _, path, _ in survey(lab.warehouse.root).quarantined] == [damaged], column.path_in_schema
        damaged.write_bytes(whole)


def test_a_damaged_file_of_a_large_table_is_found_by_the_query_that_meets_it(lab: Lab) -> None:
    damaged, _ = files(lab, "quality_items")
    flip(damaged, list(range(60, damaged.stat().st_size // 4)))
    assert quarantined(lab) == []
    assert quarantined(lab, "landed.quality_items") == [str(damaged)]
    with connect(lab.warehouse.root) as connection:
        assert len(connection.execute("FROM landed.quality_items").fetchall()) == 20


@pytest.mark.parametrize("seed", range(12))
def test_with_any_flipped_bytes_every_view_answers(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - places to damage, no secret
    tables = sorted(SCHEMAS)
    damaged = {chance.choice(files(lab, table)) for table in (tables[seed % len(tables)], chance.choice(tables))}
    for path in damaged:
        flip(path, [chance.randrange(path.stat().st_size) for _ in range(chance.choice([1, 1, 3, 30]))])
    out = set(quarantined(lab, *definitions()))
    assert out <= {str(path) for path in damaged}
    assert out >= {str(path) for path in damaged if path.parent.parent.name in SMALL}
