"""The warehouse as readers ask it: a DuckDB connection that makes each view when it is first named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self, cast

import duckdb

from fleetbench.errors import InputError
from fleetbench.store import facts
from fleetbench.store.landed import Survey, land, lay, mend, survey
from fleetbench.store.schema import SCHEMAS
from fleetbench.store.views import CHECK, create, definitions, macros, ordered, reads

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
    found = survey(root)
    land(connection, found)
    for sql in macros().values():
        connection.execute(sql)
    return cast(
        "duckdb.DuckDBPyConnection", _Connection(connection, found)
    )  # DuckDB's class has no constructor to inherit


def existing(root: Path) -> Path:
    """The folder of a warehouse.

    Raises:
        InputError: there is none.
    """
    if not root.is_dir():
        raise InputError((f"there is no warehouse at {root}: submit a matrix first, or give --warehouse DIR",))
    return root


def failed_checks(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """The checks that found something, with how many rows."""
    found = {}
    for name in sorted(view for view in definitions() if view.startswith(CHECK)):
        ((rows,),) = connection.execute(f'SELECT count(*) FROM "{name}"').fetchall()  # noqa: S608 - our own names
        if rows:
            found[name.removeprefix(CHECK)] = int(rows)
    return found


_FETCHES = frozenset(
    {"fetchall", "fetchone", "fetchmany", "fetchdf", "fetch_df", "fetchnumpy", "df", "pl", "arrow", "to_arrow_table"}
)
_ASKS = frozenset({"sql", "query", "from_query"})
_NAMES_ANY_VIEW = frozenset({"table", "view", "cursor", "duplicate", "executemany", "query_df"})
_WORD = re.compile(r"\w+")
_LANDED = re.compile(r"\blanded\.(\w+?)(?:_rows)?\b")
_ASKS_WHAT_THERE_IS = re.compile(
    r"\b(?:show|pragma|database|information_schema|duckdb_\w+|pg_\w+|sqlite_\w+)\b|\bdescribe\s*(?:;|$)"
)


class _Connection:
    """DuckDB's connection, with two differences.

    A view is made when a statement has its name in it: to bind all takes longer than most questions. And a statement
    that failed for a damaged file runs again without that file.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, found: Survey) -> None:
        self._connection = connection
        self._asked: tuple[Any, ...] = ()
        self._found = found
        self._unlaid = set(SCHEMAS)
        self._reads = reads({**definitions(), facts.PRICES: ""})
        self._missing = _all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def __getattr__(self, name: str) -> Any:
        if name in _FETCHES:
            return self._fetching(name)
        if name in _ASKS:
            return self._asking(name)
        if name in _NAMES_ANY_VIEW:
            self._make(self._missing)
        return getattr(self._connection, name)

    def execute(self, query: duckdb.Statement | str, parameters: object = None) -> Self:
        self._asked = (query, parameters)
        try:
            self._make(self._named(query))
            self._connection.execute(*self._asked)
        except duckdb.CatalogException:
            self._make_rest()
            self._connection.execute(*self._asked)
        except duckdb.Error as error:
            self._again(error)
        return self

    def _asking(self, name: str) -> Callable[..., Any]:
        """For a relation, whose rows are worked out later."""

        def ask(query: duckdb.Statement | str, *args: Any, **options: Any) -> Any:
            self._make(self._named(query))
            try:
                return getattr(self._connection, name)(query, *args, **options)
            except duckdb.CatalogException:
                self._make_rest()
                return getattr(self._connection, name)(query, *args, **options)

        return ask

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

    def _named(self, query: duckdb.Statement | str) -> set[str]:
        """The views that are missing and that a statement may read: those whose names are in it, or all."""
        text = (query if isinstance(query, str) else query.query).lower()
        if _ASKS_WHAT_THERE_IS.search(text):
            return set(self._missing)
        if tables := self._unlaid & set(_LANDED.findall(text)):
            self._end_result()
            self._lay(tables)
        return self._missing.keys() & _WORD.findall(text)

    def _end_result(self) -> None:
        """What was asked before and not fetched ends here, as at the next question: nothing is made beside it."""
        self._connection.execute("SELECT NULL").fetchall()

    def _lay(self, tables: Iterable[str]) -> None:
        """The files' own tables."""
        for table in tables:
            lay(self._connection, self._found, table)
            self._unlaid.remove(table)

    def _make(self, names: Iterable[str]) -> None:
        """Make views, after those that they read."""
        wanted, left = set(), list(names)
        while left:
            name = left.pop()
            if name in self._missing and name not in wanted:
                wanted.add(name)
                left += self._reads[name]
        if wanted:
            self._end_result()
        for name in [name for name in self._missing if name in wanted]:
            if name == facts.PRICES:
                facts.add(self._connection)
            else:
                self._lay(self._unlaid & set(_LANDED.findall(self._missing[name])))
                self._create(create(name, self._missing[name]))
            del self._missing[name]

    def _create(self, statement: str) -> None:
        try:
            self._connection.execute(statement)
        except duckdb.Error as error:
            if not mend(self._connection, error):
                raise
            self._connection.execute(statement)

    def _make_rest(self) -> None:
        """After a name that is not there: what has none of it yet, so that DuckDB finds it or knows what is near."""
        there = self._connection.execute(
            "SELECT schema_name, view_name FROM duckdb_views()"
            " UNION ALL SELECT schema_name, table_name FROM duckdb_tables()"
        ).fetchall()
        self._unlaid = {table for table in SCHEMAS if ("landed", table) not in there}
        self._missing = {name: sql for name, sql in _all().items() if ("main", name) not in there}
        self._make(self._missing)


def _all() -> dict[str, str]:
    """What is made when it is named, each after what it reads: the prices, which no SQL makes, and every view."""
    return {facts.PRICES: "", **dict(ordered(definitions()))}
