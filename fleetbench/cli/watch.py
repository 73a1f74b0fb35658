"""`fleetbench watch`: follow a run that another process drives."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.main import EPILOG as CODES
from fleetbench.cli.places import again, is_url, leaving, looking, place_options, run_argument

if TYPE_CHECKING:
    from fleetbench.cli.status_view import StatusView
    from fleetbench.fleet.control.sighting import Sighting, Source

EPILOG = f"""\b
Examples:
  fleetbench watch nightly
  fleetbench watch nightly --address http://HEAD:8265

{CODES}"""
FAILED, INTERRUPTED = 1, 3
LOOK_S = 0.5
LINES_SHOWN = 5
"""Of the log, from before somebody watched."""


@click.command(epilog=EPILOG)
@run_argument
@place_options
def watch(run: str, address: str | None, token: Path | None, warehouse: Path) -> int:
    """Follow RUN until it ends, and exit as its `submit` does.

    RUN is a run's id, the start of one, or its name. Ctrl-C leaves the run alone.
    """
    if is_url(address):
        from fleetbench.cli.remote import ask

        return ask("watch", [run], address, token, warehouse)
    with looking(address, token, warehouse) as place, leaving():
        seen = place.find(run)
        stop = again("cancel", seen.run_id, address=address, token=token, warehouse=place.warehouse)
        return follow(place.source(seen), stop)


def follow(source: Source, cancel: str) -> int:
    """Show a run until its controller is done, and return the exit code of its `submit`; cancel: how to stop it."""
    from fleetbench.cli.live import note
    from fleetbench.cli.status_view import StatusView

    with StatusView() as view:
        try:
            seen = _follow(source, view)
        except KeyboardInterrupt:
            seen = None
        else:
            view.conclude()
    if seen is None:
        note(f"left: the run goes on; this stops it:\n  {cancel}")
        return INTERRUPTED
    return exit_code(seen)


def _follow(source: Source, view: StatusView) -> Sighting:
    reading = Reading(source)
    lines = deque(reading.new(), maxlen=LINES_SHOWN)
    while True:
        seen = source.look()
        view.show(seen)
        for line in (*lines, *reading.new()):
            view.say(line)
        lines.clear()
        if not seen.driven:
            return seen
        time.sleep(LOOK_S)


@dataclass(slots=True)
class Reading:
    """A run's log, read as far as `place`."""

    source: Source
    place: int = 0

    def new(self) -> Iterator[str]:
        """The lines that have come since."""
        while True:
            lines, after = self.source.lines(self.place)
            yield from lines
            if after == self.place:
                return
            self.place = after


def exit_code(seen: Sighting) -> int:
    """As `submit` ends: 0 where every trial is ok, 3 where the run was interrupted or its controller died."""
    status = seen.status
    if seen.condition in ("interrupted", "gone"):
        return INTERRUPTED
    good = status is not None and status.trials > 0 and status.outcomes.get("ok", 0) == status.trials
    return 0 if seen.condition == "ended" and good else FAILED
