"""`fleetbench sql`: questions to the warehouse, one, from a file, or one after another."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import click

from fleetbench.cli.options import FORMATS, Sql, store_option
from fleetbench.errors import InputError

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from fleetbench.report.table import Format
    from fleetbench.store.url import BucketUrl

    Form = Format | Literal["parquet"]

PARQUET = "parquet"
STDIN = "-"
EPILOG = """\b
Examples:
  fleetbench sql "SELECT recipe, output_tok_s FROM cells WHERE batch = 1"
  fleetbench sql --describe cells
  fleetbench sql --file weekly.sql --format csv --output out.csv
  fleetbench sql "FROM trials" --format parquet --output trials.parquet
  fleetbench sql                       # asks for one question after another
"""


@click.command(epilog=EPILOG)
@click.argument("query", type=Sql(), metavar="[QUERY]", required=False)
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Ask what stands in FILE; - is the standard input.",
)
@click.option("--describe", is_flag=True, help="Say what the views are; of a view that is named, its columns.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the rows there, of several statements those of the last.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice((*FORMATS, PARQUET)),
    default="table",
    show_default=True,
    help="How rows are written; parquet wants --output.",
)
@store_option
def sql(
    query: str | None, *, file: Path | None, describe: bool, output: Path | None, form: str, warehouse: Path | BucketUrl
) -> int:
    """Ask the warehouse: QUERY is SQL over its views, one statement or several.

    "--describe" lists the views, "--describe VIEW" the columns of one with their units. Without QUERY and --file
    questions are read from the terminal, or from what is piped in. The database is in memory: what a statement
    creates is gone at the end. COPY and EXPORT are refused: they could write over the files of the warehouse.
    """
    from fleetbench.cli.shell import Shell
    from fleetbench.store.connection import connect
    from fleetbench.store.mirror import local

    output = None if output == Path(STDIN) else output
    if form == PARQUET and output is None:
        raise click.UsageError("--format parquet wants --output FILE: it is no text.")
    if describe and file is not None:
        raise click.UsageError("--describe takes the name of a view, and no --file.")
    if query is not None and file is not None:
        raise click.UsageError("give QUERY or --file, not both.")
    with connect(local(warehouse)) as connection:
        if describe:
            _write(_described(connection, query), form, output, keys=2 if query is None else 3)
            return 0
        if query is None and file is None and sys.stdin.isatty():
            return Shell(connection, form=form).run()
        text, source = (query, None) if query is not None else _read(file or Path(STDIN))
        answers = _answers(connection, text, source)
        for rows in answers if output is None else answers[-1:]:
            _write(rows, form, output)
    return 0


def _described(connection: duckdb.DuckDBPyConnection, view: str | None) -> pa.Table:
    import pyarrow as pa

    from fleetbench.store.describe import columns, views

    if view is None:
        rows = [{"view": one.name, "kind": one.folder, "a row": one.row} for one in views()]
    else:
        rows = [asdict(one) for one in columns(connection, view)]
    return pa.Table.from_pylist(rows)


def _read(file: Path) -> tuple[str, str]:
    """The text of a file, and its name for messages."""
    named = "standard input" if str(file) == STDIN else str(file)
    try:
        data = sys.stdin.buffer.read() if str(file) == STDIN else file.read_bytes()
        return data.decode("utf-8-sig"), named
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError((f"{named} cannot be read: {why}",)) from error


def _answers(connection: duckdb.DuckDBPyConnection, text: str, source: str | None) -> list[pa.Table]:
    from fleetbench.report.query import fetch, statements

    prefix = f"{source}: " if source else ""
    try:
        asked = statements(connection, text)
        answers = [fetch(connection, one) for one in asked]
    except InputError as error:
        raise InputError((f"{prefix}{error}",)) from error
    if not asked:
        raise InputError((f"{prefix}there is no SQL statement in it",))
    return answers


def _write(rows: pa.Table, form: str, output: Path | None, *, keys: int = 1) -> None:
    from fleetbench.cli.output import show
    from fleetbench.report.export import export
    from fleetbench.report.query import result_of
    from fleetbench.store.describe import said

    if output is None:
        show(result_of(rows), form, keys=keys)
        return
    export(rows, cast("Form", form), output, lambda column: said("", column))
    click.echo(f"{output}: {rows.num_rows:,} rows", err=True)
