"""`fleetbench report`: runs as one HTML file, and as pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.options import filter_options, store_option

if TYPE_CHECKING:
    from fleetbench.report.filters import Filters
    from fleetbench.store.url import BucketUrl

STDOUT = "-"
EPILOG = """\b
Examples:
  fleetbench report --output report.html
  fleetbench report RUN OTHER --hardware h100 --output h100.html --png pics
"""


@click.command(epilog=EPILOG)
@click.argument("run", nargs=-1, metavar="[RUN]...")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The HTML file; one that is there is replaced; - is stdout.",
)
@click.option("--png", type=click.Path(path_type=Path), metavar="DIR", help="A folder for each figure as a picture.")
@click.option("--unproven", is_flag=True, help="Call recipes the best whose quality is not shown to hold, too.")
@filter_options
@store_option
def report(
    run: tuple[str, ...],
    *,
    output: Path | None,
    png: Path | None,
    unproven: bool,
    filters: Filters,
    warehouse: Path | BucketUrl,
) -> None:
    """Write runs as one HTML file that needs nothing else.

    RUN is a run's id, the start of one, or its name; without any it is the latest run, or with --since or --until every
    run of that time. The file has words, figures and tables, which can be narrowed in the browser; it fetches nothing,
    so it can be sent, kept and printed.
    """
    if output is None and png is None:
        raise click.UsageError("Say where to: --output FILE for the page, --png DIR for pictures, or both.")
    from datetime import UTC, datetime

    from fleetbench import __version__
    from fleetbench.report import place
    from fleetbench.report.page.gather import gather
    from fleetbench.report.page.html import Made, html
    from fleetbench.report.page.pictures import pictures
    from fleetbench.report.runs import resolve
    from fleetbench.store.connection import connect
    from fleetbench.store.mirror import local

    if output is not None and str(output) != STDOUT:
        place.check(output, "--output")
    if png is not None:
        place.folder(png, "--png")
    with connect(local(warehouse)) as connection:
        gathered = gather(connection, resolve(connection, run, filters), filters, unproven=unproven)
    if output is not None:
        made = Made(version=__version__, at=datetime.now(UTC), warehouse=str(warehouse))
        page = html(gathered, made).encode("utf-8", "replace")
        if str(output) == STDOUT:
            click.echo(page, nl=False)
        else:
            place.replace(output, page, "--output")
            click.echo(f"{output}: {len(page) / 1e6:.1f} MB, open it in a browser")
    if png is not None:
        written = 0
        for name, picture in pictures(gathered):
            place.replace(png / name, picture, "--png")
            written += 1
        click.echo(f"{png}: {written} pictures")
