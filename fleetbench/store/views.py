"""The warehouse as readers see it: DuckDB views over the files that are whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Self, cast

import duckdb

from fleetbench import resources
from fleetbench.errors import InputError
from fleetbench.store import facts
from fleetbench.store.landed import land, mend, survey

FOLDERS = ("staging", "intermediate", "marts", "checks")
CHECK = "check_"
ONCE = (
    *("runs", "trials", "failed_attempts", "cell_trials", "cells", "speed_cells", "latest_cells"),
    *("cmp_recipe", "pareto", "scaling"),
)
"""Worked out at once, into tables: nearly every view reads them, and each would anew. They read small tables alone."""
SETTINGS = (
    "SET autoinstall_known_extensions = false",  # a query fetches nothing from the network
    "SET autoload_known_extensions = false",
    "SET python_enable_replacements = false",  # a misspelt table is an error, not some Python variable
    "SET TimeZone = 'UTC'",
    "SET parquet_metadata_cache = true",  # files never change, and a lookup would be mostly the reading of footers
)


def connect(root: Path) -> duckdb.DuckDBPyConnection:
    """An in-memory database with every view over the warehouse as it is now; they may be empty.

    Raises:
        InputError: there is no such folder, or a later fleetbench wrote to it.
    """
    existing(root)
    connection = duckdb.connect(":memory:")
    for setting in SETTINGS:
        connection.execute(setting)
    land(connection, survey(root))
    facts.add(connection)
    for sql in macros().values():
        connection.execute(sql)
    for name, sql in ordered(definitions()):
        _make(connection, create(name, sql))
    return cast("duckdb.DuckDBPyConnection", _Mending(connection))  # DuckDB's class has no constructor to inherit


def existing(root: Path) -> Path:
    """The folder of a warehouse.

    Raises:
        InputError: there is none.
    """
    if not root.is_dir():
        raise InputError((f"there is no warehouse at {root}: submit a matrix first, or give --warehouse DIR",))
    return root


def create(name: str, sql: str) -> str:
    """The statement that makes a view, or a table of one that nearly all others read."""
    return f'CREATE {"TABLE" if name in ONCE else "VIEW"} "{name}" AS {sql}'


def _make(connection: duckdb.DuckDBPyConnection, statement: str) -> None:
    try:
        connection.execute(statement)
    except duckdb.Error as error:
        if not mend(connection, error):
            raise
        connection.execute(statement)


_FETCHES = frozenset(
    {"fetchall", "fetchone", "fetchmany", "fetchdf", "fetch_df", "fetchnumpy", "df", "pl", "arrow", "to_arrow_table"}
)


class _Mending:
    """A connection whose statements run again where they failed for a damaged file, then without that file."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._asked: tuple[Any, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        return self._fetching(name) if name in _FETCHES else found

    def execute(self, query: duckdb.Statement | str, parameters: object = None) -> Self:
        self._asked = (query, parameters)
        try:
            self._connection.execute(*self._asked)
        except duckdb.Error as error:
            self._again(error)
        return self

    def _fetching(self, name: str) -> Callable[..., Any]:
        """Rows are made when they are fetched, so a fetch may meet the damage."""

        def fetch(*args: Any, **options: Any) -> Any:
            try:
                return getattr(self._connection, name)(*args, **options)
            except duckdb.Error as error:
                self._again(error)
                return getattr(self._connection, name)(*args, **options)

        return fetch

    def _again(self, error: duckdb.Error) -> None:
        if not mend(self._connection, error):
            raise error
        self._connection.execute(*self._asked)


def definitions() -> dict[str, str]:
    """The SQL of every view, by name."""
    root = resources.root("warehouse")
    return {
        (CHECK if folder == "checks" else "") + path.stem: path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in sorted((root / folder).glob("*.sql"))
    }


def macros() -> dict[str, str]:
    """The SQL that makes every macro, by name: before the views, which use them."""
    folder = resources.root("warehouse") / "macros"
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.sql"))}


def ordered(views: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Views after those that they read.

    Raises:
        graphlib.CycleError: two views read each other.
    """
    reads = {name: _sources(sql) & views.keys() - {name} for name, sql in views.items()}
    for name in TopologicalSorter(reads).static_order():
        yield name, views[name]


def failed_checks(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """The checks that found something, with how many rows."""
    found = {}
    for name in sorted(view for view in definitions() if view.startswith(CHECK)):
        ((rows,),) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchall()  # noqa: S608 - our own names
        if rows:
            found[name.removeprefix(CHECK)] = int(rows)
    return found


def _sources(sql: str) -> set[str]:
    bare = re.sub(r"--[^\n]*", "", sql)
    return set(re.findall(r"\b(?:FROM|JOIN)\s+([a-z_]+)\b(?!\.)", bare))
