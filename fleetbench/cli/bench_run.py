"""From the options of `fleetbench bench` to its result on stdout.

The client's processes start first: they load meanwhile.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from fleetbench.bench.asked import Asked
from fleetbench.bench.run import Load, View, send
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.store.url import BucketUrl
from fleetbench_collectors.load.crew import Crew

if TYPE_CHECKING:
    from fleetbench.bench.verdict import Judged

OK, FAILED, INTERRUPTED = 0, 1, 3
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def bench(asked: Asked, *, form: str, warehouse: Path | BucketUrl | None, out: Path | None) -> int:
    """Sends the load, prints the result, keeps it where it was asked for; the exit code."""
    if out is not None:
        _check_out(out)
    if isinstance(warehouse, BucketUrl):
        _check_bucket(warehouse)
    with _stoppable() as stopping:
        with _crew(asked.processes) as crew, _view(asked) as view:
            stopping.attend(crew, view)
            try:
                load = send(asked, crew, view=view, stopped=stopping.stopped)
            except (OSError, ValueError) as error:
                raise InputError((str(error),)) from error
        return _report(load, interrupted=stopping.stopped(), form=form, warehouse=warehouse, out=out)


def _crew(processes: int) -> Crew:
    try:
        return Crew(processes)
    except OSError as error:
        raise UnusableEnvironmentError(
            f"the client's processes cannot be started: {error.strerror or error}"
        ) from error


class _Stopping:
    """Whether somebody wants the load to end."""

    def __init__(self) -> None:
        self._crew: Crew | None = None
        self._view: View | None = None
        self._stopped = False

    def attend(self, crew: Crew, view: View | None) -> None:
        """Whom to tell; at once where it has happened already."""
        self._crew, self._view = crew, view
        if self._stopped:
            self._tell()

    def stopped(self) -> bool:
        return self._stopped

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        self._stopped = True
        self._tell()

    def _tell(self) -> None:
        if self._crew is not None:
            self._crew.stop()
        if self._view is not None:
            self._view.stopping()


@contextlib.contextmanager
def _stoppable() -> Iterator[_Stopping]:
    """Ctrl-C and SIGTERM end the load, not the process: what was done is reported."""
    stopping = _Stopping()
    for number in _SIGNALS:
        signal.signal(number, stopping)
    try:
        yield stopping
    finally:
        # Python puts the default back as it ends: a late signal would take the place of the exit code.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _view(asked: Asked) -> Iterator[View | None]:
    """What a person at the terminal sees meanwhile; nothing where there is none."""
    if not sys.stderr.isatty():
        yield None
        return
    from fleetbench.cli.bench_live import BenchView

    with BenchView(
        label=f"{asked.url} {asked.load}",
        total=asked.requests,
        seconds=asked.seconds,
        batch=asked.batch,
        processes=asked.processes,
    ) as view:
        yield view


def _report(load: Load, *, interrupted: bool, form: str, warehouse: Path | BucketUrl | None, out: Path | None) -> int:
    from fleetbench.bench.verdict import judged

    found = judged(load, interrupted=interrupted)
    try:
        # The result comes before what may be wrong with keeping it, and is kept where nobody reads it.
        _show(found.row, form)
    finally:
        _keep(found, out=out, warehouse=warehouse)
    if interrupted:
        return INTERRUPTED
    return OK if found.row["valid"] else FAILED


def _show(row: dict[str, Any], form: str) -> None:
    if form == "json":
        print(json.dumps(row, indent=2, allow_nan=False))
    else:
        from fleetbench.cli.output import show_bench

        show_bench(row, form)
    sys.stdout.flush()


def _keep(found: Judged, *, out: Path | None, warehouse: Path | BucketUrl | None) -> None:
    if out is not None:
        _write(out, found.row)
        print(f"written to {out}", file=sys.stderr)
    if warehouse is not None:
        from fleetbench.bench.keep import keep
        from fleetbench.store.mirror import writing

        with writing(warehouse) as folder:
            run_id = keep(found, folder)
        print(f"kept as run {run_id}: fleetbench compare {run_id} --warehouse {warehouse}", file=sys.stderr)


def _check_out(out: Path) -> None:
    """Refuses a file that cannot be, before anything is sent."""
    if not out.parent.is_dir():
        raise InputError((f"{out} cannot be written: there is no folder {out.parent}",))


def _check_bucket(warehouse: BucketUrl) -> None:
    """Refuses one that cannot be reached, likewise."""
    from fleetbench.store.mirror import writing

    with writing(warehouse):
        pass


def _write(out: Path, row: dict[str, Any]) -> None:
    try:
        out.write_text(json.dumps(row, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError((f"{out} cannot be written: {error.strerror}",)) from error
