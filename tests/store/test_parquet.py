from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.store.parquet import Footer, encode, inspect
from fleetbench.store.rows import conform
from fleetbench.store.schema import SCHEMAS
from tests.samples import keyed, position_row, request_row, run_row, trial_row

BAD_RUNS: list[tuple[dict[str, Any], str]] = [
    ({"cells": "2"}, "runs: "),
    ({"cells": 1.5}, "runs: "),
    ({"cells": True}, "runs: "),
    ({"cells": 2**40}, "runs: "),
    ({"run": 7}, "runs: "),
    ({"submitted_at": "today"}, "runs: "),
    ({"cells": None}, "needs a value in cells"),
    ({"speling": 1}, "no column speling"),
]


@pytest.mark.parametrize(("change", "why"), BAD_RUNS)
def test_rows_that_do_not_fit_are_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        conform("runs", [{**run_row(), **change}])


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no table of the warehouse"):
        conform("speeds", [])


def test_an_arrow_table_may_differ_in_width_but_not_in_kind() -> None:
    given_rows = conform("runs", [run_row()])
    wide = given_rows.set_column(given_rows.schema.get_field_index("cells"), "cells", pa.array([2], pa.int64()))
    assert conform("runs", wide).schema.equals(SCHEMAS["runs"], check_metadata=True)
    text = given_rows.set_column(given_rows.schema.get_field_index("cells"), "cells", pa.array(["2"]))
    with pytest.raises(ValueError, match="cells is string, not int32"):
        conform("runs", text)
    too_big = given_rows.set_column(given_rows.schema.get_field_index("cells"), "cells", pa.array([2**40], pa.int64()))
    with pytest.raises(ValueError, match="runs: "):
        conform("runs", too_big)


def test_columns_that_may_be_null_can_be_left_out_and_stay_null() -> None:
    made = conform("trials", pa.Table.from_pylist([trial_row()]))
    assert made["output_tok_s"].to_pylist() == [None]


def test_a_number_that_is_none_is_null() -> None:
    assert conform("trials", [trial_row(output_tok_s=float("nan"))])["output_tok_s"].to_pylist() == [None]


def test_a_broken_gap_is_refused() -> None:
    gaps: Any = [1, 2.5]
    with pytest.raises(ValueError, match="gaps_us takes whole numbers"):
        conform("requests", keyed(trial_row(), [{**request_row(0, []), "gaps_us": gaps}]))


@pytest.mark.parametrize("table", sorted(SCHEMAS))
def test_a_file_comes_back_with_types_units_and_meanings(tmp_path: Path, table: str) -> None:
    path = tmp_path / "f.parquet"
    path.write_bytes(encode(table, conform(table, [])))
    assert inspect(path, table) == Footer(exact=True)
    back = pq.read_schema(path)
    for wanted in SCHEMAS[table]:
        field = back.field(wanted.name)
        kept = {key: value for key, value in field.metadata.items() if not key.startswith(b"PARQUET:")}
        assert kept == wanted.metadata


def test_numbers_are_packed_and_text_is_by_dictionary(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    row = trial_row()
    path.write_bytes(
        encode("requests", conform("requests", keyed(row, [request_row(n, range(500)) for n in range(2)])))
    )
    group = pq.read_metadata(path).row_group(0)
    chunks = {group.column(n).path_in_schema: group.column(n) for n in range(group.num_columns)}
    assert "DELTA_BINARY_PACKED" in chunks["gaps_us.list.element"].encodings
    assert "DELTA_BINARY_PACKED" in chunks["start_ns"].encodings
    assert "RLE_DICTIONARY" in chunks["phase"].encodings
    assert chunks["start_ns"].compression == "ZSTD"


@given(
    st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=20), max_size=5),
    st.lists(st.floats(width=32, allow_nan=False), max_size=9),
)
def test_what_is_written_is_what_is_read(gaps: list[list[int]], logprobs: list[float]) -> None:
    row = trial_row()
    requests = conform("requests", keyed(row, [request_row(n, each) for n, each in enumerate(gaps)]))
    assert pq.read_table(pa.BufferReader(encode("requests", requests))).to_pylist() == requests.to_pylist()
    positions = conform("quality_positions", keyed(row, [position_row(0, logprobs)]))
    assert pq.read_table(pa.BufferReader(encode("quality_positions", positions))).to_pylist() == positions.to_pylist()


def test_a_foreign_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    path.write_bytes(b"")
    assert "not a readable Parquet file" in str(inspect(path, "runs").why_not)
    pq.write_table(conform("runs", []).drop_columns(["cells"]), path)
    assert inspect(path, "runs").why_not == "column cells is missing"
    pq.write_table(conform("requests", []).drop_columns(["error"]), path)
    assert inspect(path, "requests") == Footer(exact=False, version=1)
    rows = conform("runs", [run_row()])
    text = rows.set_column(rows.schema.get_field_index("cells"), "cells", pa.array(["2"]))
    pq.write_table(text.append_column("new", pa.array([1])), path)
    assert inspect(path, "runs").why_not == "column cells is string, not int32"
