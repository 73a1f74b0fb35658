from __future__ import annotations

from pathlib import Path

import pytest

from fleetbench.errors import InputError
from fleetbench.store import describe
from fleetbench.store.connection import connect
from fleetbench.store.views import CHECK, definitions

NUMBERS = ("DOUBLE", "FLOAT", "INTEGER", "BIGINT", "SMALLINT", "HUGEINT", "UINTEGER")


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[describe.Column]]:
    with connect(tmp_path_factory.mktemp("empty")) as connection:
        return {view.name: describe.columns(connection, view.name) for view in describe.views()}


def test_every_view_is_listed_with_what_a_row_is() -> None:
    named = {view.name: view.row for view in describe.views()}
    assert named.keys() >= {name for name in definitions() if not name.startswith(CHECK)}
    assert not [name for name, row in named.items() if not row]


def test_every_column_of_every_view_says_what_it_is_and_every_number_its_unit(
    said: dict[str, list[describe.Column]],
) -> None:
    silent = [(view, one.name) for view, columns in said.items() for one in columns if not one.doc]
    bare = [
        (view, one.name)
        for view, columns in said.items()
        for one in columns
        if one.type.startswith(NUMBERS) and not one.unit and view not in describe.BESIDE
    ]
    assert (silent, bare) == ([], [])


def test_nothing_is_described_that_no_view_has(said: dict[str, list[describe.Column]]) -> None:
    there = {one.name for columns in said.values() for one in columns}
    there |= {f"{view}.{one.name}" for view, columns in said.items() for one in columns}
    assert sorted(describe._listed().keys() - there) == []


def test_a_row_s_sentence_is_whole_where_it_takes_lines() -> None:
    (found,) = [view.row for view in describe.views() if view.name == "scaling"]
    assert found.endswith("all else of the run equal.")


def test_an_unknown_view_names_those_that_are_near(tmp_path: Path) -> None:
    with connect(tmp_path) as connection, pytest.raises(InputError, match="did you mean pareto"):
        describe.columns(connection, "paretto")
