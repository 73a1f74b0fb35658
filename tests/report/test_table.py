from __future__ import annotations

import csv
import datetime as dt
import io
import json
import math
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fleetbench.report.cell import Form, column_shown, shown
from fleetbench.report.result import Panel, Result
from fleetbench.report.table import FORMATS, Format, render, render_panels


def written(result: Result, fmt: Format, *, width: int = 80, keys: int = 1) -> str:
    sink = io.StringIO()
    render(result, fmt, Console(file=sink, width=width, color_system=None), keys=keys)
    return sink.getvalue()


def panels(*given_panels: Panel, fmt: Format = "table") -> str:
    sink = io.StringIO()
    render_panels(given_panels, fmt, Console(file=sink, width=80, color_system=None))
    return sink.getvalue()


SPEED = Result(columns=("recipe", "tok_s"), labels=("recipe", "tok/s"), rows=(("f16", 171.96), ("q4_k", None)))

NUMBERS: list[tuple[object, str]] = [
    (None, "—"),
    (True, "yes"),
    (1234567, "1234567"),
    (0.0, "0"),
    (math.nan, "—"),
    (1000.4, "1000"),
    (999.96, "1000"),
    (171.96, "172.0"),
    (9.999, "10.0"),
    (1.523, "1.52"),
    (0.9, "0.900"),
    (0.00026, "0.00026"),
    (-171.96, "-172.0"),
    (Decimal("1.50"), "1.50"),
    ([1.5, None], "1.50, —"),
    ("a\nb\x1b[31m", "a b�[31m"),
    (dt.datetime(2026, 11, 1, 12, tzinfo=dt.UTC).replace(tzinfo=None), "2026-11-01 12:00:00"),
]


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_a_value_is_short_one_line_and_harmless(value: object, text: str) -> None:
    assert shown(value) == text


KL = Form(digits=2)
TOK_S = Form(decimals=1, whole_from=1000)
COLUMNS: list[tuple[Form, list[object], list[str]]] = [
    (KL, [0.0, 0.00011, 0.0056, 0.095, None], ["0.00000", "0.00011", "0.00560", "0.09500", "—"]),
    (KL, [0.0, 1e-12], ["0.000000", "0.000000"]),
    (KL, [0.0, math.nan], ["0.0", "—"]),
    (KL, [12.0, 345.0], ["12", "345"]),
    (TOK_S, [999.96, 12345.6], ["1000.0", "12345.6"]),
    (TOK_S, [1000.0, 12345.6, None], ["1000", "12346", "—"]),
    (TOK_S, [0.04, 7], ["0.0", "7.0"]),
    (Form(decimals=2), [Decimal(1), 0.983, -2.5], ["1.00", "0.98", "-2.50"]),
    (Form(), [240, 240.0, True, "x"], ["240", "240", "yes", "x"]),
]


@pytest.mark.parametrize(("form", "values", "texts"), COLUMNS)
def test_the_numbers_of_a_column_share_their_decimals(form: Form, values: list[object], texts: list[str]) -> None:
    assert column_shown(values, form) == texts


def test_an_alarm_is_red_on_a_terminal_and_plain_elsewhere() -> None:
    alarm = Panel(name="drift", title="Drift", result=SPEED, keys=1, line="WARNING: x", alarm=True)
    sink = io.StringIO()
    render_panels([alarm], "table", Console(file=sink, force_terminal=True, color_system="standard"))
    assert sink.getvalue() == "\x1b[1;31mWARNING: x\x1b[0m\n"
    assert panels(alarm) == "WARNING: x\n"


def test_several_tables_are_no_csv() -> None:
    with pytest.raises(ValueError, match="csv"):
        panels(PANEL, LINE, fmt="csv")


def test_numbers_stand_right_and_what_is_missing_is_an_em_dash() -> None:
    lines = [line.rstrip() for line in written(SPEED, "table").splitlines()]
    assert lines == ["recipe  tok/s", "f16     172.0", "q4_k        —"]


def test_a_wide_table_becomes_panels_that_repeat_their_keys() -> None:
    names = tuple(f"column_{n:02}" for n in range(20))
    text = written(Result(columns=("recipe", *names), rows=(("f16", *range(20)),)), "table")
    blocks = text.split("\n\n")
    assert len(blocks) == 4
    assert all(block.splitlines()[0].startswith("recipe") for block in blocks)
    assert [name for block in blocks for name in block.splitlines()[0].split()[1:]] == list(names)


VALUES = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=60), st.booleans())


@given(st.data(), st.integers(1, 9), st.integers(60, 100), st.integers(0, 2))
def test_no_line_is_wider_than_the_console(data: st.DataObject, columns: int, width: int, keys: int) -> None:
    names = data.draw(st.lists(st.text(min_size=1, max_size=30), min_size=columns, max_size=columns))
    rows = data.draw(st.lists(st.tuples(*[VALUES] * columns), max_size=4))
    text = written(Result(columns=tuple(names), rows=tuple(rows)), "table", width=width, keys=keys)
    assert max((cell_len(line) for line in text.split("\n")), default=0) <= width


def test_json_keeps_precision_and_has_null_for_what_is_no_number() -> None:
    rows = ((0.1 + 0.2, math.inf, Decimal(7), [1, None], dt.date(2026, 1, 2)),)
    said = json.loads(written(Result(columns=tuple("abcde"), rows=rows), "json"))
    assert said == [{"a": 0.1 + 0.2, "b": None, "c": 7, "d": [1, None], "e": "2026-01-02"}]


def test_csv_can_be_read_back() -> None:
    text = written(Result(columns=("a", "b"), rows=(('x,"y\n', None), ("z", True))), "csv")
    assert list(csv.reader(io.StringIO(text))) == [["a", "b"], ['x,"y\n', ""], ["z", "true"]]


def test_markdown_is_a_table_whatever_its_text() -> None:
    text = written(Result(columns=("a|b", "n"), rows=(("x\n|*y*", 1.5), ("", None))), "markdown")
    assert text.splitlines() == ["| a\\|b | n |", "| :-- | --: |", "| x \\|\\*y\\* | 1.50 |", "| — | — |"]


@pytest.mark.parametrize("fmt", FORMATS)
def test_a_result_without_rows_or_columns_is_no_mistake(fmt: Format) -> None:
    named, empty = written(Result(columns=("a", "b"), rows=()), fmt), written(Result(columns=(), rows=()), fmt)
    assert ("a" in named and "b" in named) or (fmt == "json" and json.loads(named) == [])
    assert not empty.strip(" |\n[]")


PANEL = Panel(name="speed", title="Speed", result=SPEED, keys=1, notes=("why",), hidden=("tok_s",))
LINE = Panel(name="drift", title="Drift", result=SPEED, keys=1, line="Drift: none")


def test_people_see_lines_and_notes_and_programs_see_every_column() -> None:
    assert panels(PANEL, LINE).split() == ["Speed", "recipe", "f16", "q4_k", "why", "Drift:", "none"]
    said = json.loads(panels(PANEL, LINE, fmt="json"))
    assert [panel["title"] for panel in said] == ["Speed", "Drift"]
    assert said[0]["rows"][0] == {"recipe": "f16", "tok_s": 171.96}
    assert [panel["name"] for panel in said] == ["speed", "drift"]
    assert "### Speed\n\n| recipe |" in panels(PANEL, LINE, fmt="markdown")


@pytest.mark.parametrize(
    ("value", "table", "csv"),
    [
        (Decimal(2**127 - 1), str(2**127 - 1), str(2**127 - 1)),
        (b"\x05\xfd", "05fd", "05fd"),
        (pa.MonthDayNano((1, 2, 3)), "1 months, 2 days, 3 nanoseconds", '"1 months, 2 days, 3 nanoseconds"'),
    ],
)
def test_values_of_rare_types_are_what_they_are(value: object, table: str, csv: str) -> None:
    result = Result(columns=("a",), rows=((value,),))
    assert written(result, "table").split("\n")[1].strip() == table
    assert written(result, "csv") == f"a\n{csv}\n"
