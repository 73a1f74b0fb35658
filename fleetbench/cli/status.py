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

ENDED_SHOWN = 10
"""Runs that are driven no more, in a list."""


@click.command()
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
            _one(place.find(run), form)
    return 0


def _list(place: Place, form: str) -> None:
    from fleetbench.cli.live import note
    from fleetbench.cli.output import show
    from fleetbench.cli.status_text import brief, remark, rows
    from fleetbench.report.result import PAGE

    runs = place.runs()
    driven = sum(seen.driven for seen in runs)
    shown = runs if form in ("json", "csv") else runs[: driven + ENDED_SHOWN]
    if not shown:
        if place.warehouse is None:
            note(f"no run is being measured at {place.address}; those that ended are in their --warehouse DIR")
        else:
            note(f"no run is being measured in {place.warehouse}, and none has left word there")
    if shown or form != "table":
        width = PAGE if form == "table" else None
        show(rows(shown) if form in ("json", "csv") else brief(shown, time.time(), width=width), form)
    if form == "table":
        for seen in shown:
            if seen.condition in ("gone", "silent", "unknown", "waiting") and (said := remark(seen)):
                note(f"{seen.run_id} {seen.condition}: {said}")
        if (more := len(runs) - len(shown)) > 0:
            note(f"and {more} older ones: fleetbench runs lists them")


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
