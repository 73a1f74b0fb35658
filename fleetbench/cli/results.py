"""`fleetbench runs` and `compare`: what the warehouse holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from fleetbench.cli.options import Sql, filter_options, format_option, store_option
from fleetbench.report.filters import ALL, Filters
from fleetbench.store.url import BucketUrl

RUNS_EXAMPLES = """\b
Examples:
  fleetbench runs
  fleetbench runs --format csv --warehouse /srv/results
"""
COMPARE_EXAMPLES = """\b
Examples:
  fleetbench compare
  fleetbench compare nightly --where "recipe <> 'q2_k' AND batch = 1"
  fleetbench compare --hardware h100 --since 2026-11-01
"""


@click.command(epilog=RUNS_EXAMPLES)
@store_option
@format_option
def runs(warehouse: Path | BucketUrl, form: str) -> None:
    """List the runs in the warehouse, the latest first."""
    from fleetbench.cli.output import show
    from fleetbench.report.runs import brief, list_runs
    from fleetbench.store.connection import connect
    from fleetbench.store.mirror import local

    with connect(local(warehouse)) as connection:
        found = list_runs(connection)
        ((lost,),) = connection.execute("SELECT count(*) FROM quarantined").fetchall()
    show(brief(found) if form == "table" else found, form)
    if lost:
        click.echo(f"Unreadable files left out: {lost}, see the view quarantined", err=True)


@click.command(epilog=COMPARE_EXAMPLES)
@click.argument("run", nargs=-1, metavar="[RUN]...")
@click.option(
    "--where",
    type=Sql(),
    metavar="EXPR",
    help="Only cells where EXPR holds, in SQL: \"recipe <> 'q2_k' AND batch = 1\".",
)
@filter_options
@store_option
@format_option
def compare(run: tuple[str, ...], where: str | None, filters: Filters, warehouse: Path | BucketUrl, form: str) -> None:
    """Compare recipes over batch and context.

    RUN is a run's id, the start of one, or its name; without any it is the latest run, or with --since or --until every
    run of that time.
    """
    from fleetbench.report.runs import resolve
    from fleetbench.store.connection import connect
    from fleetbench.store.mirror import local

    folder = local(warehouse)
    with connect(folder) as connection:
        run_ids = resolve(connection, run, filters)
    show_comparison(folder, run_ids, where=where, filters=filters, form=form)


def show_comparison(
    warehouse: Path, run_ids: Sequence[str], *, where: str | None, filters: Filters = ALL, form: str
) -> None:
    """The comparison of runs on stdout; as CSV its cells, for several tables are no CSV."""
    from fleetbench.cli.output import show, show_panels
    from fleetbench.report.chosen import compared_cells
    from fleetbench.report.compare import compare as compare_runs
    from fleetbench.store.connection import connect

    with connect(warehouse) as connection:
        if form == "csv":
            show(compared_cells(connection, run_ids, where, filters), form)
            return
        show_panels(compare_runs(connection, run_ids, where, filters), form)
