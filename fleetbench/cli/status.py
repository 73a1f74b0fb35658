"""`fleetbench status`: the runs that are being driven, or one of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.options import format_option
from fleetbench.cli.places import Place, is_url, looking, place_options

if TYPE_CHECKING:
    from fleetbench.fleet.control.sighting import Sighting

EXAMPLES = """\b
Examples:
  fleetbench status                               # in ./fleetbench-data
  fleetbench status --address HEAD:6379           # on a cluster
  fleetbench status nightly --address http://HEAD:8265
"""
ENDED_SHOWN = 10
"""Runs that are driven no more, in a list."""
TOLD = ("gone", "silent", "unknown", "waiting")
"""Conditions that need a sentence in a list."""


@click.command(epilog=EXAMPLES)
@click.argument("run", metavar="[RUN]", required=False)
@place_options
@format_option
def status(run: str | None, address: str | None, token: Path | None, warehouse: Path, form: str) -> int:
    """Say how RUN stands; without it, which runs are being measured, and which were lately.

    RUN is a run's id, the start of one, or its name. A run whose controller died is told from one that goes on.
    """
    if is_url(address):
        from fleetbench.cli.remote import ask

        return ask("status", [*([run] if run else []), "--format", form], address, token, warehouse)
    with looking(address, token, warehouse) as place:
        if run is None:
            _list(place, form)
        else:
            _one(place.find(run, jobs=True), form)
    return 0


def _list(place: Place, form: str) -> None:
    from fleetbench.cli.live import note
    from fleetbench.cli.output import show
    from fleetbench.cli.status_text import brief, remark, rows
    from fleetbench.report.result import PAGE

    runs = place.runs(jobs=True)
    driven = sum(seen.driven for seen in runs)
    shown = runs if form in ("json", "csv") else runs[: driven + ENDED_SHOWN]
    if not shown:
        where = f"at {place.address}" if place.warehouse is None else f"in {place.warehouse}"
        note(f"no run is being measured {where}, and none has left word there")
    if shown or form != "table":
        width = PAGE if form == "table" else None
        show(rows(shown) if form in ("json", "csv") else brief(shown, time.time(), width=width), form)
    if form == "table":
        for seen in shown:
            if (seen.condition in TOLD or seen.status is None) and (said := remark(seen)):
                note(f"{seen.run_id} {seen.condition}: {said}")
        if (more := len(runs) - len(shown)) > 0:
            note(f"and {more} older ones: fleetbench runs lists them")
        if place.warehouse is None:
            note("all that have ended are in their warehouse: fleetbench status --warehouse DIR")


def _one(seen: Sighting, form: str) -> None:
    from fleetbench.cli.output import show, show_lines
    from fleetbench.cli.status_text import brief, describe, rows

    match form:
        case "table":
            show_lines(describe(seen, time.time()))
        case "markdown":
            show(brief([seen], time.time()), form)
        case _:
            show(rows([seen]), form)
