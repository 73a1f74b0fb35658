"""The interactive `fleetbench sql`: a question at a time, an error is no end."""

from __future__ import annotations

import os
import re
import readline
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click
import duckdb
import pyarrow as pa

from fleetbench.cli.main import say_error
from fleetbench.cli.options import FORMATS
from fleetbench.cli.output import show
from fleetbench.errors import InputError
from fleetbench.report.query import Asked, fetch, result_of, statements
from fleetbench.report.result import Result
from fleetbench.store.describe import columns, views

PROMPT, MORE = "fleetbench> ", "        ... "
ROWS_SHOWN = 100
HISTORY_LINES = 2000
_LOOK_S = 0.1
_ENDED = re.compile(r";\s*(--[^\n]*)?$")
HELP = """\
SQL ends with a semicolon; it may take several lines.
  .tables            list the views, with what a row of each is
  .describe VIEW     say what its columns are
  .format FORM       table, json, csv or markdown
  .help              this
  .quit              leave; Ctrl-D does so too
Tab completes views, columns and words of SQL. Ctrl-C gives up a line or a query."""
_WORDS = (
    *("SELECT", "FROM", "WHERE", "GROUP", "BY", "ORDER", "LIMIT", "HAVING", "JOIN", "USING", "DISTINCT", "DESCRIBE"),
    *("PIVOT", "WITH", "AS", "AND", "OR", "NOT", "NULL"),
)


@dataclass(slots=True)
class Shell:
    """A connection that is asked by hand."""

    connection: duckdb.DuckDBPyConnection
    form: str

    def run(self) -> int:
        """Until it is left; the exit code."""
        self._prepare()
        click.echo("SQL over the warehouse; .help says more.")
        try:
            while self._goes_on():
                pass
        finally:
            _keep_history()
        return 0

    def _goes_on(self) -> bool:
        """One question and its answer; False where it is left."""
        try:
            text = self._read()
            if text is not None:
                self._answer(text)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            return True
        return text is not None

    def _read(self) -> str | None:
        """Lines up to one that ends a statement, or a command; None at the end of the input."""
        lines: list[str] = []
        while True:
            try:
                lines.append(input(MORE if lines else PROMPT))
            except EOFError:
                click.echo("\nnot asked: it had no semicolon" if lines else "")
                return None
            except KeyboardInterrupt:
                click.echo()
                lines.clear()
                continue
            text = "\n".join(lines)
            if text.lstrip().startswith(".") or _ENDED.search(text):
                return None if text.strip() in (".quit", ".exit") else text
            if not text.strip():
                lines.clear()

    def _answer(self, text: str) -> None:
        try:
            if text.lstrip().startswith("."):
                self._command(text.split())
                return
            for asked in statements(self.connection, text):
                self._show(result_of(self._fetched(asked)))
        except InputError as error:
            say_error(str(error))

    def _fetched(self, asked: Asked) -> pa.Table:
        """In a thread: DuckDB does not look at signals while it works, and so hears of Ctrl-C at once.

        An interruption before it has begun goes unheard, so it is told until it ends.
        """
        given_up = threading.Event()
        before = signal.signal(signal.SIGINT, lambda *_: given_up.set())
        try:
            with ThreadPoolExecutor(1) as pool:
                rows = pool.submit(fetch, self.connection, asked)
                while not rows.done():
                    wait([rows], timeout=_LOOK_S)
                    if given_up.is_set():
                        self.connection.interrupt()
        finally:
            signal.signal(signal.SIGINT, before)
        if given_up.is_set():
            raise KeyboardInterrupt
        return rows.result()

    def _show(self, result: Result) -> None:
        """Of a table the first rows; who wants all takes another form, or a file."""
        if self.form != "table" or len(result.rows) <= ROWS_SHOWN:
            show(result, self.form)
            return
        show(replace(result, rows=result.rows[:ROWS_SHOWN]), self.form)
        click.echo(f"{ROWS_SHOWN} of {len(result.rows):,} rows; .format csv shows all, sql --output writes them")

    def _command(self, words: list[str]) -> None:
        commands: dict[str, Callable[..., None]] = {
            ".help": lambda: click.echo(HELP),
            ".tables": self._tables,
            ".describe": self._describe,
            ".format": self._format,
        }
        command = commands.get(words[0])
        if command is None:
            raise InputError((f"there is no command {words[0]}: .help lists them",))
        try:
            command(*words[1:])
        except TypeError as error:
            raise InputError((f"{words[0]} takes other words: .help says which",)) from error

    def _tables(self) -> None:
        rows = tuple((view.name, view.folder, view.row) for view in views())
        show(Result(columns=("view", "kind", "a row"), rows=rows), self.form, keys=2)

    def _describe(self, view: str) -> None:
        rows = tuple((one.name, one.type, one.unit, one.doc) for one in columns(self.connection, view))
        show(Result(columns=("name", "type", "unit", "doc"), rows=rows), self.form, keys=3)

    def _format(self, form: str) -> None:
        if form not in FORMATS:
            raise InputError((f"there is no format {form}: {', '.join(FORMATS)}",))
        self.form = form

    def _prepare(self) -> None:
        words: list[str] = []

        def complete(text: str, state: int) -> str | None:
            words[:] = words or self._words()
            found = [word for word in words if word.lower().startswith(text.lower())]
            return found[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims(" \t\n,()=<>;'\"")
        readline.parse_and_bind("tab: complete")
        with suppress(OSError):
            readline.read_history_file(_history())

    def _words(self) -> list[str]:
        """What Tab completes; it takes every view to be made, so it waits for the first Tab."""
        own = self.connection.execute(
            "SELECT DISTINCT column_name FROM duckdb_columns() WHERE schema_name = 'main' AND NOT internal"
        ).fetchall()
        names = [view.name for view in views()]
        return sorted({*names, *(name for (name,) in own), *_WORDS, *(f".{word}" for word in _DOTTED)})


_DOTTED = ("help", "tables", "describe", "format", "quit")


def _history() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "fleetbench" / "sql_history"


def _keep_history() -> None:
    """For the next time; where it cannot be kept it is not."""
    path = _history()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        readline.set_history_length(HISTORY_LINES)
        readline.write_history_file(path)
    sys.stdout.flush()
