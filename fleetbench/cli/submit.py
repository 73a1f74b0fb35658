"""`fleetbench submit`: run a matrix, or go on with one."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from fleetbench.cli.main import EPILOG
from fleetbench.cli.options import Sql, format_option, matrix_argument, run_options, warehouse_option

if TYPE_CHECKING:
    from fleetbench.fleet.stopping import Stop
    from fleetbench.fleet.submission import Ended, Submission

FAILED, INTERRUPTED = 1, 3


@click.command(epilog=EPILOG)
@matrix_argument
@run_options
@click.option("--retry-failed", is_flag=True, help="Run trials again that failed or were invalid.")
@click.option(
    "--only", type=Sql(), metavar="EXPR", help="Only cells where EXPR holds, in SQL: \"recipe = 'q4_k' AND batch = 1\"."
)
@warehouse_option
@format_option
def submit(
    matrix: Path, run: str, *, new: bool, retry_failed: bool, only: str | None, warehouse: Path, form: str
) -> int:
    """Run MATRIX on this machine and compare its cells.

    The same command again runs only what is missing: trials are kept one by one as they end. Ctrl-C stops within
    seconds and keeps what is done; a second Ctrl-C kills.
    """
    from fleetbench.artifact.cache import default_cache, probe
    from fleetbench.cli.live import note
    from fleetbench.cli.selection import matching_cells
    from fleetbench.fleet.planning import plan_here
    from fleetbench.fleet.submission import open_submission, sole_driver
    from fleetbench.store.commit import Warehouse

    if new and click.get_current_context().get_parameter_source("run") is not ParameterSource.DEFAULT:
        raise click.UsageError("--new takes a fresh run name, --run gives one: keep one of them")
    name = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3] if new else run
    planned = plan_here(matrix, name)
    cells = matching_cells(planned.plan, only) if only else None
    cache = default_cache()
    probe(cache)
    submission = open_submission(planned, Warehouse(warehouse), cache, retry_failed=retry_failed, only=cells)
    with sole_driver(submission.warehouse, planned.plan.run_id):
        ended = _run(submission)
    if ended.interrupted:
        options = ["--run", name, "--warehouse", str(warehouse)]
        options += [*(["--only", only] if only else []), *(["--retry-failed"] if retry_failed else [])]
        again = shlex.join(["fleetbench", "submit", str(matrix), *options])
        kept = len(ended.outcomes)
        note(f"interrupted: {kept} of {len(submission.plan.trials)} trials are kept. Go on with\n  {again}")
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # a Ray that was stopped while it started may abort an orderly end
    _print(submission, warehouse, cells, form)
    return _exit_code(submission, ended)


def _run(submission: Submission) -> Ended:
    from fleetbench.cli.live import RunView
    from fleetbench.fleet.examination import machine_load
    from fleetbench.fleet.stopping import Stop
    from fleetbench.fleet.submission import Ended, execute, settled
    from fleetbench.plan.estimate import trial_seconds
    from fleetbench.store.history import cell_seconds

    todo = submission.todo
    seconds = trial_seconds(todo, cell_seconds(submission.warehouse.root)) if todo.launches else {}
    done = len(submission.plan.trials) - len(todo.trials)
    stop = Stop()
    with RunView(submission.plan, todo, seconds, settled=done) as view:
        view.introduce()
        busy = machine_load()
        if todo.launches and busy.remedy:
            view.say(f"[yellow]note[/]: {busy.found}: {busy.remedy}")
        _on_signals(stop, view.say)
        try:
            ended = execute(submission, view.watch, stop, view.say)
        except KeyboardInterrupt:
            stop.wanted = True
    if stop.wanted:
        return Ended(outcomes=settled(submission), interrupted=True)
    return ended


def _on_signals(stop: Stop, say: Callable[[str], None]) -> None:
    """The first signal stops cleanly, the second one kills. Engines die with this process in any case."""

    def first(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, second)
        say("[yellow]stopping[/]: what is done is kept; Ctrl-C again kills")
        stop.request()

    def second(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        os._exit(INTERRUPTED)

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, first)


def _print(submission: Submission, warehouse: Path, cells: frozenset[str] | None, form: str) -> None:
    """The run's comparison, after --only of its cells: by id, for the axes of a plan are no columns of `cells`."""
    from fleetbench.cli.results import show_comparison

    where = f"cell_id IN ({', '.join(repr(cell) for cell in sorted(cells))})" if cells else None
    with suppress(BrokenPipeError):  # a reader that leaves changes nothing of how the run ended
        show_comparison(warehouse, [submission.plan.run_id], where=where, form=form)


def _exit_code(submission: Submission, ended: Ended) -> int:
    from fleetbench.matrix.types import Outcome

    outcomes = [ended.outcomes.get(trial.trial_id) for trial in submission.plan.trials]
    return 0 if outcomes and all(outcome is Outcome.OK for outcome in outcomes) else FAILED
