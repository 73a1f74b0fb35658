"""`fleetbench submit`: run a matrix, or go on with one."""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from fleetbench.cli.main import EPILOG
from fleetbench.cli.options import format_option, matrix_argument, run_options, warehouse_option

if TYPE_CHECKING:
    from fleetbench.fleet.submission import Ended, Submission

FAILED, INTERRUPTED = 1, 3


@click.command(epilog=EPILOG)
@matrix_argument
@run_options
@click.option("--retry-failed", is_flag=True, help="Run trials again that failed or were invalid.")
@click.option("--only", metavar="EXPR", help="Only cells where EXPR holds, in SQL: \"recipe = 'q4_k' AND batch = 1\".")
@warehouse_option
@format_option
def submit(
    matrix: Path, run: str, *, new: bool, retry_failed: bool, only: str | None, warehouse: Path, form: str
) -> int:
    """Run MATRIX on this machine and compare its cells.

    The same command again runs only what is missing: trials are kept one by one as they end. Ctrl-C stops within
    seconds and keeps what is done; a second Ctrl-C kills.
    """
    from fleetbench.artifact.cache import default_cache
    from fleetbench.cli.live import note
    from fleetbench.cli.selection import matching_cells
    from fleetbench.fleet.planning import plan_file
    from fleetbench.fleet.submission import open_submission, sole_driver
    from fleetbench.store.commit import Warehouse

    name = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3] if new else run
    planned = plan_file(matrix, name)
    cells = matching_cells(planned.plan, only) if only else None
    submission = open_submission(planned, Warehouse(warehouse), default_cache(), retry_failed=retry_failed, only=cells)
    with sole_driver(submission.warehouse, planned.plan.run_id):
        ended = _run(submission)
    if ended.interrupted:
        options = ["--run", name, "--warehouse", str(warehouse), *(["--only", only] if only else [])]
        again = shlex.join(["fleetbench", "submit", str(matrix), *options])
        kept = sum(outcome.value != "cancelled" for outcome in ended.outcomes.values())
        note(f"interrupted: {kept} of {len(submission.plan.trials)} trials are kept. Go on with\n  {again}")
        return INTERRUPTED
    _print(submission, warehouse, form)
    return _exit_code(submission, ended)


def _run(submission: Submission) -> Ended:
    from fleetbench.cli.live import RunView
    from fleetbench.fleet.submission import execute
    from fleetbench.plan.estimate import trial_seconds
    from fleetbench.store.history import cell_seconds

    todo = submission.todo
    seconds = trial_seconds(todo, cell_seconds(submission.warehouse.root))
    settled = len(submission.plan.trials) - len(todo.trials)
    with RunView(submission.plan, todo, seconds, settled=settled) as view:
        view.introduce()
        return execute(submission, view.watch, _on_signals(view.say))


def _on_signals(say: Callable[[str], None]) -> Callable[[], bool]:
    """Tells whether to stop: the first signal stops cleanly, the second one kills. Engines die with us anyway."""
    wanted = False

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, kill)
        nonlocal wanted
        wanted = True
        say("[yellow]stopping[/]: what is done is kept; Ctrl-C again kills")

    def kill(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        os._exit(INTERRUPTED)

    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, stop)
    return lambda: wanted


def _print(submission: Submission, warehouse: Path, form: str) -> None:
    from fleetbench.cli.results import show_comparison

    show_comparison(warehouse, [submission.plan.run_id], where=None, form=form)


def _exit_code(submission: Submission, ended: Ended) -> int:
    from fleetbench.matrix.types import Outcome

    outcomes = [ended.outcomes.get(trial.trial_id) for trial in submission.plan.trials]
    return 0 if all(outcome is Outcome.OK for outcome in outcomes) else FAILED
