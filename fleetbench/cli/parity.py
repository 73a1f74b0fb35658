"""`fleetbench parity`: what a run's recipes lose against the reference, and how many items it takes to know."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.options import format_option, store_option
from fleetbench.errors import InputError
from fleetbench.store.url import BucketUrl

if TYPE_CHECKING:
    from fleetbench.report.result import Result
    from fleetbench.store.verdicts import Judged

BLOCKED, UNDECIDED = 1, 5
SMALL_SUITE = 200
"""Items that suites have by habit."""
EPILOG = """\b
Examples:
  fleetbench parity
  fleetbench parity nightly --output verdicts
  fleetbench parity --power 0.9 --margin 0.02 --churn 0.04 --categories 6
\b
Exit codes: 0 every recipe passes, 1 one is blocked, 5 one is not decided
or could not be judged; 2 to 4 as for all commands.
"""


class _Share(click.FloatRange):
    """A share between 0 and 1."""

    def __init__(self, *, zero: bool = False) -> None:
        super().__init__(0, 1, min_open=not zero, max_open=True)


@click.command(epilog=EPILOG)
@click.argument("run", required=False, metavar="[RUN]")
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write summary.md there, and a CSV of each recipe's items beside the reference's.",
)
@click.option("--power", type=_Share(), multiple=True, help="Plan: the chance that a good recipe passes; repeatable.")
@click.option("--margin", type=_Share(), help="Plan: the acceptable drop.  [default: 0.02]")
@click.option("--churn", type=_Share(), help="Plan: the share of items that differ.  [default: 0.04]")
@click.option("--drop", type=_Share(zero=True), help="Plan: the recipe's true drop.  [default: 0]")
@click.option("--categories", type=click.IntRange(1, 100), help="Plan: how many have to pass.  [default: 6]")
@store_option
@format_option
def parity(
    run: str | None,
    *,
    output: Path | None,
    power: tuple[float, ...],
    margin: float | None,
    churn: float | None,
    drop: float | None,
    categories: int | None,
    warehouse: Path | BucketUrl,
    form: str,
) -> int:
    """Judge the recipes of a run against its reference: PASS, BLOCK or INCONCLUSIVE.

    RUN is a run's id, the start of one, or its name; without it the latest. A recipe passes where the drop of every
    category is shown to be below the margin that the matrix gives (parity: {margin: 0.02}). With --power, --margin or
    --churn nothing is judged: it says how many items that takes, by formula and by simulation.
    """
    planned = any(value is not None for value in (margin, churn, drop, categories)) or bool(power)
    if planned and (run is not None or output is not None):
        raise click.UsageError("--power, --margin, --churn, --drop and --categories plan; RUN and --output judge.")
    if planned:
        _plan(
            power or (0.8, 0.9),
            margin=margin or 0.02,
            churn=churn or 0.04,
            drop=drop or 0.0,
            categories=categories or 6,
            form=form,
        )
        return 0
    return _judge(run, warehouse, output, form)


def _judge(run: str | None, place: Path | BucketUrl, output: Path | None, form: str) -> int:
    from fleetbench.report.runs import resolve
    from fleetbench.store.commit import Warehouse
    from fleetbench.store.connection import connect
    from fleetbench.store.mirror import local, writing
    from fleetbench.store.verdicts import judge_run, keep

    with connect(local(place)) as connection:
        (run_id,) = resolve(connection, (run,) if run else ())
        judged = judge_run(connection, run_id)
        if not judged:
            raise InputError((f"{run_id} has no quality to judge: ask for it in the matrix (quality: {{suite: ...}})",))
        with writing(place) as folder:
            keep(Warehouse(folder), connection, run_id, judged)
    _show(place, run_id, judged, output, form)
    return exit_code(judged)


def exit_code(judged: list[Judged]) -> int:
    """0 where all pass, 1 where one is blocked, else 5."""
    from fleetbench.judge.parity.verdict import Verdict

    verdicts = {one.judgement.verdict for one in judged}
    if Verdict.BLOCK in verdicts:
        return BLOCKED
    return 0 if verdicts == {Verdict.PASS} else UNDECIDED


def _show(place: Path | BucketUrl, run_id: str, judged: list[Judged], output: Path | None, form: str) -> None:
    from fleetbench.cli.output import show, show_panels
    from fleetbench.report.diagnosis import diagnosis_panels, example_panels
    from fleetbench.report.export import panels_text, text_of
    from fleetbench.report.parity import parity_panels
    from fleetbench.report.place import folder, replace
    from fleetbench.report.query import query
    from fleetbench.store.connection import connect
    from fleetbench.store.mirror import local

    with connect(local(place)) as connection:
        panels = [*parity_panels(connection, run_id), *diagnosis_panels(judged)]
        if form == "csv":
            show(query(connection, "FROM parity WHERE run_id = $run ORDER BY ALL", {"run": run_id}), form)
        else:
            show_panels(panels, form)
    if output is None:
        return
    folder(output, "--output")
    replace(output / "summary.md", panels_text([*panels, *example_panels(judged)]), "--output")
    for one in judged:
        facts = one.candidate.facts
        name = re.sub(r"[^\w.-]+", "_", f"{facts['recipe']}-{facts['cell_id']}")
        replace(output / f"{name}.csv", text_of(_items(one), "csv"), "--output")
    click.echo(f"{output}: summary.md and {len(judged)} CSV files", err=True)


def _items(judged: Judged) -> Result:
    """Each item of the candidate's first run beside the reference's."""
    from fleetbench.report.result import Result

    columns = ("item_id", "category", "stratum", "cluster", "context_tok", "expected")
    runs = judged.reference.runs if judged.reference else ()
    before = {one.item_id: one for run in runs[:1] for one in run}
    rows = []
    for answer in (one for run in judged.candidate.runs[:1] for one in run):
        had = before.get(answer.item_id)
        rows.append(
            (
                *(getattr(answer, name) for name in columns),
                had.correct if had else None,
                had.answer if had else None,
                answer.correct,
                answer.answer,
            )
        )
    names = (*columns, "reference_correct", "reference_answer", "correct", "answer")
    return Result(columns=names, rows=tuple(rows))


def _plan(powers: tuple[float, ...], *, margin: float, churn: float, drop: float, categories: int, form: str) -> None:
    from fleetbench.cli.output import show
    from fleetbench.judge.parity.planning import needs, shown
    from fleetbench.report.result import Result

    try:
        found = needs(margin=margin, churn=churn, drop=drop, powers=powers, categories=categories, seed=1)
        small = shown(SMALL_SUITE, margin=margin, churn=churn, drop=drop, seed=1)
    except ValueError as error:
        raise InputError((f"{error}",)) from error
    rows = tuple((one.power, one.categories, one.by_formula, one.simulated) for one in found)
    labels = ("power", "categories", "items of each, by formula", "simulated")
    columns = ("power", "categories", "items_by_formula", "items_simulated")
    show(Result(columns=columns, labels=labels, rows=rows), form)
    if form == "table":
        click.echo(
            f"\nMargin {100 * margin:g} points, {100 * churn:g} % of items differ, true drop {100 * drop:g} points.\n"
            f"With {small.n} items a recipe like that passes {100 * small.passes:.0f} % of the time, and one that\n"
            f"loses the whole margin {100 * small.false_ship:.1f} %: "
            + ("enough to tell." if small.passes >= min(powers) else "too few to certify it, whatever it is.")
        )
