"""`fleetbench submit`: run a matrix, or go on with one."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fleetbench.cli.live import note
from fleetbench.cli.main import EPILOG as CODES
from fleetbench.cli.main import give_up
from fleetbench.cli.options import (
    Duration,
    Sql,
    address_option,
    format_option,
    matrix_argument,
    run_options,
    token_option,
    warehouse_option,
)
from fleetbench.cli.wish import Wish
from fleetbench.fleet.control.stopping import Stop

if TYPE_CHECKING:
    from fleetbench.fleet.driving import Audience
    from fleetbench.fleet.planning import Planned
    from fleetbench.fleet.submission import Ended, Submission

FAILED, INTERRUPTED = 1, 3
LOCAL = "local"
TABLE = "table"
EPILOG = f"""\b
Examples:
  fleetbench submit matrix.yaml
  fleetbench submit matrix.yaml --run nightly --only "hardware = 'h100'"
  fleetbench submit matrix.yaml --address HEAD:6379 --warehouse /srv/results

{CODES}"""


@click.command(epilog=EPILOG)
@matrix_argument
@run_options
@click.option("--retry-failed", is_flag=True, help="Run trials again that failed or were invalid.")
@click.option(
    "--only", type=Sql(), metavar="EXPR", help="Only cells where EXPR holds, in SQL: \"recipe = 'q4_k' AND batch = 1\"."
)
@click.option("--first", type=Sql(), metavar="EXPR", help="Cells where EXPR holds go before the others.")
@address_option
@token_option
@click.option("--detach", is_flag=True, help="With --address http://...: return once the run is on its way.")
@click.option(
    "--wait-for-nodes",
    "wait_s",
    type=Duration(),
    metavar="TIME",
    help="For kinds of node that are not there: have an autoscaler bring them, and wait: 15m, or seconds as a number.",
)
@warehouse_option
@format_option
def submit(form: str, **asked: Any) -> int:
    """Run MATRIX and compare its cells: on this machine, or on the cluster at --address.

    The same command again runs only what is missing, or follows the run where it is being measured: trials are kept
    one by one as they end. Ctrl-C stops within seconds and keeps what is done; a second Ctrl-C kills.
    """
    wish = Wish(**asked)
    if wish.new and click.get_current_context().get_parameter_source("run") is not ParameterSource.DEFAULT:
        raise click.UsageError("--new takes a fresh run name, --run gives one: keep one of them")
    if wish.new:
        wish = replace(wish, run=datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")[:-3])
    by_http = wish.address is not None and "://" in wish.address
    if wish.detach and not by_http:
        raise click.UsageError(
            "--detach needs --address http://HEAD:8265: there the controller is a job of the cluster"
        )
    if wish.wait_s is not None and wish.address is None:
        raise click.UsageError("--wait-for-nodes needs --address: this machine is the only node of a run without it")
    from fleetbench.fleet.control.sole import BeingDrivenError
    from fleetbench.fleet.nodes.connection import AUTO

    if wish.address is not None and wish.address != AUTO:
        note(f"joining {wish.address} ...")
    if by_http:
        return _send(wish, form)

    try:
        return _drive(wish, form)
    except BeingDrivenError as error:
        return _join(wish, error.run_id, form)


def _has_rows(warehouse: Path, run_id: str) -> bool:
    """Whoever joins a run on a cluster may have named another warehouse than its controller did."""
    from fleetbench.store.commit import Warehouse

    return bool(Warehouse(warehouse).attempts(run_id))


def _send(wish: Wish, form: str) -> int:
    """Have the cluster's head drive the run."""
    from fleetbench.cli.remote import send

    wait = None if wish.wait_s is None else f"{wish.wait_s:g}s"
    given = {"--only": wish.only, "--first": wish.first, "--wait-for-nodes": wait}
    options = [word for name, value in given.items() if value is not None for word in (name, value)]
    return send(
        wish.matrix,
        run=wish.run,
        options=[*options, "--format", form, *(["--retry-failed"] if wish.retry_failed else [])],
        address=wish.address or "",
        token=wish.token,
        warehouse=wish.warehouse,
        detach=wish.detach,
    )


def _join(wish: Wish, run_id: str, form: str) -> int:
    """Follow a run that another process drives, and print what it came to."""
    from fleetbench.cli.ending import how_to_go_on
    from fleetbench.cli.places import again, looking
    from fleetbench.cli.watch import follow
    from fleetbench.store.commit import Warehouse, best

    note(f"run {run_id} is being measured already: following it (--new takes a run of your own)")
    with looking(wish.address, wish.token, wish.warehouse, both=True) as place:
        stop = again("cancel", run_id, address=wish.address, token=wish.token, warehouse=place.warehouse)
        code = follow(place.source(place.find(run_id)), stop)
    if code in (0, FAILED) and not _has_rows(wish.warehouse, run_id):
        note(f"its rows are not in {wish.warehouse}: they are in the warehouse of who submitted it (see --warehouse)")
    elif code in (0, FAILED):
        _print(wish.warehouse, run_id, None, form)
        rows = best(Warehouse(wish.warehouse).committed(run_id))
        if (advice := how_to_go_on([row.outcome for row in rows.values()], wish)) is not None:
            note(advice)
    return code


def _drive(wish: Wish, form: str) -> int:
    """Drive the run from this process.

    Raises:
        BeingDrivenError: another one does.
    """
    from fleetbench.cli.ending import how_to_begin, how_to_go_on
    from fleetbench.fleet.nodes.connection import AUTO
    from fleetbench.fleet.progress import UNSETTLED

    stop = Stop()
    with ExitStack() as stack:
        submission, cells, ended = (_here if wish.address is None else _on_cluster)(wish, stop, stack)
    if ended.interrupted:
        kept = sum(outcome not in UNSETTLED for outcome in ended.outcomes.values())
        how = "" if wish.address == AUTO else f" Go on with\n  {wish.command()}"
        note(f"interrupted: {kept} of {len(submission.plan.trials)} trials are kept.{how}")
        sys.stderr.flush()
        os._exit(INTERRUPTED)  # a Ray that was stopped while it started may abort an orderly end
    plan = submission.plan
    _judge_quality(wish.warehouse, plan.run_id)
    if plan.trials or form != TABLE:  # a table of refusals would say again what was said when the run began
        _print(wish.warehouse, plan.run_id, cells, form)
    outcomes = [ended.outcomes.get(trial.trial_id) for trial in plan.trials]
    advice = how_to_go_on(outcomes, wish) if outcomes else how_to_begin(plan.refusals, wish)
    if advice is not None:
        note(advice)
    return 0 if advice is None else FAILED


def _judge_quality(warehouse: Path, run_id: str) -> None:
    """The parity gate over what there is now; `fleetbench parity` does it again."""
    from fleetbench.store.commit import Warehouse
    from fleetbench.store.connection import connect
    from fleetbench.store.verdicts import judge_run, keep

    with connect(warehouse) as connection:
        if judged := judge_run(connection, run_id):
            keep(Warehouse(warehouse), connection, run_id, judged)


Done = tuple["Submission", frozenset[str] | None, "Ended"]


def _here(wish: Wish, stop: Stop, stack: ExitStack) -> Done:
    from fleetbench.fleet.driving import drive_here
    from fleetbench.fleet.planning import plan_here

    planned = plan_here(wish.matrix, wish.run)
    submission, cells = stack.enter_context(_opened(wish, planned))
    return submission, cells, _run(submission, stop, lambda audience: drive_here(submission, audience, stop))


def _on_cluster(wish: Wish, stop: Stop, stack: ExitStack) -> Done:
    from fleetbench.fleet.nodes.connection import connected
    from fleetbench.fleet.planning import plan_cluster

    address = wish.address or ""
    head = stack.enter_context(connected(address, wish.token, give_up))
    from fleetbench.fleet.driving import drive_cluster  # Ray reads its environment when it is imported
    from fleetbench.fleet.nodes.head_watch import watched_head
    from fleetbench.fleet.submission import check_nodes
    from fleetbench.fleet.watching import ClusterFleet

    fleet = ClusterFleet(say=note)
    kept = "what is done is kept, and the same command goes on"
    stack.enter_context(watched_head(head.address, fleet.lose, lambda why: give_up(f"{why}; {kept}")))
    stack.callback(fleet.part)
    fleet.begin()
    seen, may_come = fleet.planned(), wish.wait_s is not None
    planned = plan_cluster(wish.matrix, wish.run, seen, may_come=may_come, warehouse=wish.warehouse)
    submission, cells = stack.enter_context(_opened(wish, planned))
    if not may_come:
        check_nodes(submission, seen)

    def drive(audience: Audience) -> Ended:
        fleet.say = audience.say
        return drive_cluster(submission, fleet, audience, stop, address=head.address, wait_s=wish.wait_s)

    return submission, cells, _run(submission, stop, drive)


@contextmanager
def _opened(wish: Wish, planned: Planned) -> Iterator[tuple[Submission, frozenset[str] | None]]:
    """The submission, which nobody else drives meanwhile, and the cells to stay with."""
    from fleetbench.artifact.cache import default_cache, probe
    from fleetbench.cli.selection import matching_cells
    from fleetbench.fleet.control.sole import sole_driver
    from fleetbench.fleet.submission import open_submission
    from fleetbench.store.commit import Warehouse

    only, first = (matching_cells(planned.plan, one) if one else None for one in (wish.only, wish.first))
    cache = default_cache()
    if wish.address is None:
        probe(cache)
    warehouse = Warehouse(wish.warehouse)
    warehouse.create()
    with sole_driver(warehouse, planned.plan.run_id):
        yield (
            open_submission(planned, warehouse, cache, retry_failed=wish.retry_failed, only=only, first=first),
            only,
        )


def _run(submission: Submission, stop: Stop, drive: Callable[[Audience], Ended]) -> Ended:
    from fleetbench.cli.live import RunView
    from fleetbench.fleet.driving import Audience
    from fleetbench.fleet.examination import machine_load
    from fleetbench.fleet.submission import Ended, settled
    from fleetbench.plan.estimate import trial_seconds, unlimited
    from fleetbench.store.history import cell_seconds

    todo = submission.todo
    seconds = trial_seconds(todo, cell_seconds(submission.warehouse.root)) if todo.launches else {}
    done = len(submission.plan.trials) - len(todo.trials)
    with RunView(submission.plan, todo, seconds, settled=done) as view:
        view.introduce()
        busy = machine_load()
        if any(launch.hardware == LOCAL for launch in todo.launches) and busy.remedy:
            view.remark(f"{busy.found}: {busy.remedy}")
        if (why := unlimited(todo)) is not None:
            view.remark(why)
        _on_signals(stop, view.say)
        try:
            ended = drive(Audience(watch=view.watch, say=view.remark, tell=view.tell))
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


def _print(warehouse: Path, run_id: str, cells: frozenset[str] | None, form: str) -> None:
    """The run's comparison, after --only of its cells: by id, for the axes of a plan are no columns of `cells`."""
    from fleetbench.cli.results import show_comparison

    where = f"cell_id IN ({', '.join(repr(cell) for cell in sorted(cells))})" if cells else None
    with suppress(BrokenPipeError):  # a reader that leaves changes nothing of how the run ended
        show_comparison(warehouse, [run_id], where=where, form=form)
