"""`fleetbench plan`: the dry run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetbench.cli.options import format_option, matrix_argument, warehouse_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetbench.plan.estimate import Estimate
    from fleetbench.plan.types import Plan

REFUSED = 1


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
    if form == "json":
        click.echo(json.dumps(_document(planned, total, history), indent=2))
    elif form == "table":
        _tables(planned, total, history)
    else:
        _rows(planned, form)
    return REFUSED if planned.refusals else 0


def _document(plan: Plan, total: Estimate, history: Mapping[str, float]) -> dict[str, Any]:
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


def _tables(plan: Plan, total: Estimate, history: Mapping[str, float]) -> None:
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
    reasons = Counter((refusal.rule, refusal.sentence) for refusal in plan.refusals)
    for (rule, sentence), cells in reasons.items():
        click.echo(f"{click.style('refused', fg='yellow')} {cells} cells, {rule}: {sentence}")
    cost = "no price known" if total.cost_usd is None else f"{total.cost_usd:.2f} USD"
    known = f"{total.from_history} of {total.trials} trials timed by earlier ones, the others nominally"
    click.echo(
        f"{len(plan.cells)} cells, {total.trials} trials, {len(plan.launches)} launches, "
        f"{len(plan.refusals)} refused; about {total.seconds / 60:.1f} minutes, {cost}\n({known})"
    )
