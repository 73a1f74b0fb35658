"""`fleetbench logs`: what a run's controller said, and the last that an engine did."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.places import Place, is_url, looking, place_options, run_argument
from fleetbench.errors import InputError

if TYPE_CHECKING:
    from fleetbench.fleet.control.sighting import Sighting

FAILED = 1
EXAMPLES = """\b
Examples:
  fleetbench logs nightly --follow
  fleetbench logs nightly --launch 9f3c           # what its engine said last
  fleetbench logs nightly --address http://HEAD:8265
"""
LOOK_S = 0.5
_TAILS = """
SELECT launch_id, attempt, model, recipe, hardware, node, outcome, reason, log_tail
FROM launches
WHERE run_id = $run_id AND starts_with(launch_id, $launch_id)
ORDER BY launch_id, started_at
"""


@click.command(epilog=EXAMPLES)
@run_argument
@click.option("--follow", "-f", is_flag=True, help="Go on until the run ends.")
@click.option("--launch", metavar="ID", help="Instead the last lines that this launch's engine wrote.")
@place_options
def logs(
    run: str, *, follow: bool, launch: str | None, address: str | None, token: Path | None, warehouse: Path
) -> int:
    """Print RUN's log: a line an event, times in UTC.

    RUN is a run's id, the start of one, or its name. Ids of launches are in the log; an engine's lines are kept where
    it failed, and are in the warehouse.
    """
    if launch is not None and follow:
        raise click.UsageError("--launch prints what was kept, and --follow waits for more: keep one of them")
    if is_url(address):
        from fleetbench.cli.remote import ask

        given = [*(["--follow"] if follow else []), *(["--launch", launch] if launch else [])]
        return ask("logs", [run, *given], address, token, warehouse)
    with looking(address, token, warehouse) as place:
        seen = place.find(run)
        if launch is not None:
            return _engine(place, seen, launch)
        return _print(place, seen, follow=follow)


def _print(place: Place, seen: Sighting, *, follow: bool) -> int:
    from fleetbench.cli.live import note
    from fleetbench.cli.watch import Reading

    source = place.source(seen)
    reading = Reading(source)
    empty = True
    while True:
        driven = follow and source.look().driven  # before the lines: the last ones come before the end
        for line in reading.new():
            empty = False
            click.echo(line)
        if not driven:
            break
        time.sleep(LOOK_S)
    if empty:
        kept = seen.on_cluster and not seen.driven
        folder = shlex.quote(seen.results or "DIR")
        where = f" (it is in its warehouse: fleetbench logs {seen.run_id} --warehouse {folder})" if kept else ""
        note(f"run {seen.run_id} has no log there: {seen.why or seen.condition}{where}")
    return FAILED if empty else 0


def _engine(place: Place, seen: Sighting, launch: str) -> int:
    from fleetbench.report.query import query
    from fleetbench.store.connection import connect

    if place.warehouse is None:
        raise click.UsageError("engines' lines are in the warehouse: name it by --warehouse DIR")
    with connect(place.warehouse) as connection:
        found = query(connection, _TAILS, {"run_id": seen.run_id, "launch_id": launch})
    if not found.rows:
        raise InputError(
            (f"run {seen.run_id} has no launch {launch} that ended: its ids are in `fleetbench logs {seen.run_id}`",)
        )
    kept = 0
    for row in (dict(zip(found.columns, values, strict=True)) for values in found.rows):
        what = f"{row['model']} {row['recipe']} on {row['hardware']}, node {row['node']}"
        click.echo(f"== {row['launch_id']} attempt {row['attempt']}: {what}: {row['outcome']}")
        if row["reason"]:
            click.echo(str(row["reason"]))
        if row["log_tail"]:
            kept += 1
            click.echo(row["log_tail"])
        else:
            click.echo("(no line of its engine was kept: they are where it fails)")
    return 0 if kept else FAILED
