"""`fleetbench plan`: the dry run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetbench.cli.options import format_option, matrix_argument, warehouse_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetbench.matrix.types import Cell
    from fleetbench.plan.estimate import Estimate
    from fleetbench.plan.types import Plan

REFUSED = 1
SHOWN = 5
"""Refused recipes that are named for one reason, and load points of each."""


@click.command()
@matrix_argument
@click.option("--run", default="default", show_default=True, metavar="NAME", help="Name of the run.")
@warehouse_option
@format_option
def plan(matrix: Path, run: str, warehouse: Path, form: str) -> int:
    """Say what MATRIX would run, and what is refused and why; nothing is started.

    Times come from earlier trials of the same cells in the warehouse, else from nominal figures. Exit 1 where
    something is refused.
    """
    from fleetbench.fleet.planning import plan_file
    from fleetbench.plan.estimate import estimate
    from fleetbench.store.history import cell_seconds

    planned = plan_file(matrix, run).plan
    history = cell_seconds(warehouse)
    total = estimate(planned, history)
    settled = _settled(planned, warehouse)
    if form == "json":
        click.echo(json.dumps(_document(planned, total, history, settled), indent=2))
    elif form == "table":
        _tables(planned, total, history, settled)
    else:
        _rows(planned, form)
    return REFUSED if planned.refusals else 0


def _settled(plan: Plan, warehouse: Path) -> int:
    """Trials of the run that `submit` would not run again."""
    from fleetbench.fleet.progress import progress
    from fleetbench.store.commit import Warehouse

    if not warehouse.is_dir():
        return 0
    done = progress(Warehouse(warehouse).committed(plan.run_id), retry_failed=False).outcomes
    return sum(trial.trial_id in done for trial in plan.trials)


def _document(plan: Plan, total: Estimate, history: Mapping[str, float], settled: int) -> dict[str, Any]:
    from fleetbench.plan.estimate import launch_s

    return {
        "run_id": plan.run_id,
        "run": plan.run,
        "matrix": plan.matrix.name,
        "cells": _cells(plan),
        "launches": [
            {
                "launch_id": launch.launch_id,
                "role": launch.role,
                "model": launch.model.name,
                "recipe": launch.recipe.name,
                "engine": launch.engine.name,
                "hardware": launch.hardware,
                "artifact_id": launch.artifact_id,
                "slots": launch.slots,
                "slot_tok": launch.slot_tok,
                "trials": len(launch.trials),
                "estimated_s": round(launch_s(launch, plan.effort, history), 1),
            }
            for launch in plan.launches
        ],
        "refusals": _refusals(plan),
        "settled_trials": settled,
        "estimate": {
            "seconds": round(total.seconds, 1),
            "cost_usd": total.cost_usd,
            "trials": total.trials,
            "trials_from_history": total.from_history,
        },
    }


def _cells(plan: Plan) -> list[dict[str, Any]]:
    from fleetbench.fleet.rows import axes, work

    return [{"cell_id": cell.cell_id, "kind": cell.kind, **axes(cell), **work(cell)} for cell in plan.cells]


def _refusals(plan: Plan) -> list[dict[str, Any]]:
    from fleetbench.fleet.rows import refusal_row

    return [refusal_row(plan.run_id, refusal) for refusal in plan.refusals]


def _rows(plan: Plan, form: str) -> None:
    """Every cell as a row, refused ones with their reason."""
    from fleetbench.cli.output import show
    from fleetbench.report.result import Result

    cells = [{**cell, "rule": None, "sentence": None} for cell in _cells(plan)]
    rows = cells + [{key: row[key] for key in row if key != "run_id"} for row in _refusals(plan)]
    columns = list(rows[0]) if rows else ["cell_id"]
    show(Result(columns=tuple(columns), rows=tuple(tuple(row[name] for name in columns) for row in rows)), form)


def _tables(plan: Plan, total: Estimate, history: Mapping[str, float], settled: int) -> None:
    from fleetbench.cli.output import show
    from fleetbench.plan.estimate import launch_s
    from fleetbench.report.result import Result

    click.secho(f"{plan.matrix.name}, run {plan.run} ({plan.run_id})", bold=True)
    if plan.matrix.analysis:
        click.echo(plan.matrix.analysis)
    rows = tuple(
        (
            launch.label,
            launch.engine.name,
            launch.hardware,
            len({trial.cell.cell_id for trial in launch.trials}),
            len(launch.trials),
            round(launch_s(launch, plan.effort, history), 1),
        )
        for launch in plan.launches
    )
    show(Result(columns=("launch", "engine", "hardware", "cells", "trials", "seconds"), rows=rows), "table")
    reasons: dict[tuple[str, str], list[Cell]] = {}
    for refusal in plan.refusals:
        reasons.setdefault((refusal.rule, refusal.sentence), []).append(refusal.cell)
    for (rule, sentence), cells in reasons.items():
        count = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
        click.echo(f"{click.style('refused', fg='yellow')} {count}, {rule}: {sentence}")
        for line in _which(cells):
            click.echo(f"  {line}")
    if settled:
        click.echo(f"{settled} of {total.trials} trials are already done")
    cost = "no price known" if total.cost_usd is None else f"{total.cost_usd:.2f} USD"
    known = f"{total.from_history} of {total.trials} trials timed by earlier ones, the others nominally"
    click.echo(
        f"{len(plan.cells)} cells, {total.trials} trials, {len(plan.launches)} launches, "
        f"{len(plan.refusals)} refused; about {total.seconds / 60:.1f} minutes, {cost}\n({known})"
    )


def _which(cells: list[Cell]) -> list[str]:
    """The refused cells, a line for each model and recipe; other axes are named where they differ."""
    places = {(cell.engine.name, cell.hardware, cell.parallel) for cell in cells}
    points: dict[str, list[str]] = {}
    for cell in cells:
        degrees = f"tp {cell.parallel.tp} pp {cell.parallel.pp} dp {cell.parallel.dp}"
        place = f" on {cell.engine.name} {cell.hardware} {degrees}" if len(places) > 1 else ""
        points.setdefault(f"{cell.model.name} {cell.recipe.name}{place}", []).append(_point(cell))
    lines = [f"{head}: {', '.join(_few(said))}" for head, said in points.items()]
    return _few(lines)


def _point(cell: Cell) -> str:
    from fleetbench.matrix.types import LoadPoint

    if not isinstance(cell.work, LoadPoint):
        return f"quality suite {cell.work.suite}"
    load = f"rate {cell.work.rate:g}" if cell.work.rate is not None else f"batch {cell.work.batch}"
    return f"{load} context {cell.work.context_tok} output {cell.work.output_tok}"


def _few(texts: list[str]) -> list[str]:
    more = len(texts) - SHOWN
    return [*texts[:SHOWN], f"and {more} more"] if more > 0 else texts
