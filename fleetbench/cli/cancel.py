"""`fleetbench cancel`: have a run's controller stop."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.places import again, is_url, looking, place_options, run_argument

if TYPE_CHECKING:
    from fleetbench.fleet.control.sighting import Sighting, Source

FAILED, INTERRUPTED = 1, 3
EXAMPLES = """\b
Examples:
  fleetbench cancel nightly
  fleetbench cancel nightly --address HEAD:6379 --no-wait
"""
LOOK_S = 0.3


@click.command(epilog=EXAMPLES)
@run_argument
@click.option("--no-wait", is_flag=True, help="Ask for it, and do not wait until it has stopped.")
@place_options
def cancel(run: str, *, no_wait: bool, address: str | None, token: Path | None, warehouse: Path) -> int:
    """Stop RUN: its launches end within seconds, and what is measured is kept.

    RUN is a run's id, the start of one, or its name. The same `submit` goes on with it. Exit 1 where nobody measures
    the run.
    """
    if is_url(address):
        from fleetbench.cli.remote import ask_cancel

        return ask_cancel(run, address, token, warehouse, no_wait=no_wait)
    from fleetbench.cli.live import note

    with looking(address, token, warehouse) as place:
        seen = place.find(run)
        if not seen.driven:
            note(f"run {seen.run_id} is not being measured ({seen.condition}): there is nothing to cancel")
            return FAILED
        source = place.source(seen)
        source.cancel()
        watch = again("watch", seen.run_id, address=address, token=token, warehouse=place.warehouse)
        if no_wait:
            note(f"asked: run {seen.run_id} stops within seconds; see it by\n  {watch}")
            return 0
        return _wait(source, seen.run_id, watch)


def _wait(source: Source, run_id: str, watch: str) -> int:
    from fleetbench.cli.live import note

    note(f"asked: waiting for run {run_id} to stop (Ctrl-C leaves, and it stops all the same)")
    try:
        seen = _stopped(source)
    except KeyboardInterrupt:
        note(f"left: see it stop by\n  {watch}")
        return INTERRUPTED
    note(_said(seen))
    return 0


def _stopped(source: Source) -> Sighting:
    while (seen := source.look()).driven:
        time.sleep(LOOK_S)
    return seen


def _said(seen: Sighting) -> str:
    from fleetbench.fleet.progress import UNSETTLED

    status = seen.status
    done = status and sum(count for outcome, count in status.outcomes.items() if outcome not in UNSETTLED)
    kept = f": {done} of {status.trials} trials are kept" if status else ""
    match seen.condition:
        case "ended":
            return f"run {seen.run_id} had ended by then{kept}"
        case "interrupted":
            return f"run {seen.run_id} has stopped{kept}, and the same `fleetbench submit` goes on"
        case _:
            return f"run {seen.run_id} is driven no more ({seen.why}){kept}"
