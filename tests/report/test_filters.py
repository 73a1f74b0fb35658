"""Filters by hardware, recipe and the run's time: the condition, and what commands make of it."""

from __future__ import annotations

from datetime import datetime, timedelta

import click
import duckdb
import pytest
from click.testing import CliRunner

from fleetbench.cli.options import Moment, filter_options
from fleetbench.errors import InputError
from fleetbench.report.chosen import compared_cells
from fleetbench.report.compare import compare
from fleetbench.report.filters import Filters
from fleetbench.report.runs import resolve
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.samples import START, Lab, run_row, trial_row

NASTY = "q4' OR '1'='1"
NAIVE = START.replace(tzinfo=None)


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """Three nightlies; in the last one two kinds of hardware, and a recipe of an awkward name."""
    lab = Lab(Warehouse(tmp_path_factory.mktemp("nights")))
    lab.rows(
        "runs", [run_row(run_id=f"n{n}", run=f"night{n}", submitted_at=START + timedelta(days=n)) for n in range(3)]
    )
    trials = [
        trial_row(recipe, run_id=f"n{n}", output_tok_s=1.0, hardware=hardware, cell_id=f"{recipe}-{hardware}")
        for n in range(3)
        for recipe, hardware in (("f16", "h100"), ("q8_0", "h100"), *((("f16", "b200"), (NASTY, "b200")) * (n == 2)))
    ]
    lab.rows("trials", trials)
    return connect(lab.warehouse.root)


def kept(connection: duckdb.DuckDBPyConnection, filters: Filters) -> set[tuple[str, ...]]:
    asked = f"SELECT run_id, hardware, recipe FROM cells WHERE {filters.condition}"  # noqa: S608 - what is tested
    return set(connection.sql(asked).fetchall())


def test_a_condition_keeps_any_of_the_names_within_the_time(connection: duckdb.DuckDBPyConnection) -> None:
    assert len(kept(connection, Filters())) == 8
    assert kept(connection, Filters(hardware=("b200", "l4"))) == {("n2", "b200", "f16"), ("n2", "b200", NASTY)}
    assert kept(connection, Filters(recipe=("q8_0",), since=NAIVE + timedelta(days=1))) == {
        ("n1", "h100", "q8_0"),
        ("n2", "h100", "q8_0"),
    }
    until = Filters(until=NAIVE + timedelta(days=1))
    assert {run for run, _, _ in kept(connection, until)} == {"n0"}


@pytest.mark.parametrize("name", [NASTY, "x'; DROP VIEW coverage; --", "\\", "{condition}", "a\nb", "' \N{ROCKET}"])
def test_a_name_is_a_name_whatever_it_holds(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    assert len(kept(connection, Filters(recipe=(name,)))) == (name == NASTY)
    with pytest.raises(InputError, match="none of the 4 cells"):
        compared_cells(connection, ["n2"], filters=Filters(recipe=(name,), hardware=("h100",)))
    assert connection.sql("SELECT count(*) FROM coverage").fetchall() == [(3,)]


def test_a_comparison_is_over_what_the_filters_and_the_condition_leave(connection: duckdb.DuckDBPyConnection) -> None:
    found = compared_cells(connection, ["n2"], "recipe = 'f16' -- both", Filters(hardware=("b200",)))
    assert [row[found.columns.index("cell_id")] for row in found.rows] == ["f16-b200"]
    titles = [panel.title for panel in compare(connection, ["n2"], filters=Filters(hardware=("b200",)))]
    assert any("b200" in title for title in titles)
    assert not any("h100" in title for title in titles)


def test_what_no_cell_matches_is_said_in_the_users_words_with_what_there_is(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    asked = Filters(hardware=("h200",), since=NAIVE)
    with pytest.raises(InputError) as wrong:
        compared_cells(connection, ["n0"], "batch = 1", asked)
    assert str(wrong.value) == (
        "--hardware h200 --since 2026-11-01T12:00:00 --where batch = 1: none of the 2 cells of quickstart/night0 "
        "matches: there is hardware h100; recipes f16, q8_0"
    )


def test_a_time_names_all_runs_of_it_and_a_run_beside_it_stays_that_one(connection: duckdb.DuckDBPyConnection) -> None:
    since = Filters(since=NAIVE + timedelta(days=1))
    assert resolve(connection, []) == ("n2",)
    assert resolve(connection, [], Filters(hardware=("b200",))) == ("n2",)
    assert resolve(connection, [], since) == ("n2", "n1")
    assert resolve(connection, ["night0"], since) == ("n0",)
    with pytest.raises(InputError, match="--until 2020-01-01T00:00:00: no run was submitted then"):
        resolve(connection, [], Filters(until=datetime(2020, 1, 1)))  # noqa: DTZ001 - UTC by definition


@pytest.mark.parametrize(
    ("text", "end", "wanted"),
    [
        ("2026-11-30", False, "2026-11-30T00:00:00"),
        ("2026-11-30", True, "2026-12-01T00:00:00"),
        ("2026-11-30T06:00", True, "2026-11-30T06:00:00"),
        ("2026-11-30 06:00:30", False, "2026-11-30T06:00:30"),
        ("2026-11-30T06:00+02:00", False, "2026-11-30T04:00:00"),
        ("20261130T06Z", True, "2026-11-30T06:00:00"),
    ],
)
def test_a_time_is_utc_and_a_day_ends_with_its_end(text: str, *, end: bool, wanted: str) -> None:
    assert Moment(end=end).convert(text, None, None).isoformat() == wanted


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "9999-12-31", "1'; --"])
def test_a_time_that_is_none_is_wrong_input(text: str) -> None:
    with pytest.raises(click.BadParameter, match="give a day, as in 2026-11-30"):
        Moment(end=True).convert(text, None, None)


def test_a_command_gets_all_four_options_as_one_value() -> None:
    got: list[Filters] = []

    @click.command()
    @filter_options
    def ask(filters: Filters) -> None:
        got.append(filters)

    for arguments in ([], ["--hardware", "h100", "--hardware", "b200", "--recipe", NASTY, "--since", "2026-11-01"]):
        assert CliRunner().invoke(ask, arguments).exit_code == 0
    nothing, asked = got
    assert not nothing
    assert asked == Filters(hardware=("h100", "b200"), recipe=(NASTY,), since=datetime(2026, 11, 1))  # noqa: DTZ001
