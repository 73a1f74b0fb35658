"""`fleetbench plan`: the dry run."""

from __future__ import annotations

import json
import math
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetbench.cli.options import format_option, matrix_argument, warehouse_option

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetbench.matrix.types import Cell
    from fleetbench.plan.estimate import Estimate
    from fleetbench.plan.types import Plan, Refusal

REFUSED = 1
LAUNCHES_SHOWN = 60
REASONS_SHOWN = 30
HOURS_FROM_S = 2 * 3600
SAME = ("engine", "hardware", "tp")
"""Columns that are said in a line where every launch has the same."""
PAGE = 80
SHOWN = 5
"""Refused recipes that are named for one reason, and load points of each."""
EPILOG = """\b
Examples:
  fleetbench plan matrix.yaml
  fleetbench plan matrix.yaml --fleet fleet.yaml --format csv > cells.csv
"""


@click.command(epilog=EPILOG)
@matrix_argument
@click.option("--run", default="default", show_default=True, metavar="NAME", help="Name of the run.")
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Nodes to plan for, in YAML.  [default: every kind of the catalog]",
)
@warehouse_option
@format_option
def plan(matrix: Path, run: str, fleet: Path | None, warehouse: Path, form: str) -> int:
    """Say what MATRIX would run, and what is refused and why; nothing is started.

    A config.json is enough of a model, and no GPU need be here. Times come from earlier trials of the same cells in
    the warehouse, else from nominal figures. Exit 1 where something is refused.
    """
    from fleetbench.fleet.planning import plan_file
    from fleetbench.plan.estimate import estimate
    from fleetbench.store.history import cell_seconds

    planned = plan_file(matrix, run, fleet).plan
    history = cell_seconds(warehouse)
    total = estimate(planned, history)
    settled = _settled(planned, warehouse)
    if form == "json":
        sys.stdout.writelines(_document(planned, total, settled))
    elif form == "table":
        _tables(planned, total, settled)
    else:
        _rows(planned, form)
    return REFUSED if any(refusal.verdict != "excluded" for refusal in planned.refusals) else 0


def _settled(plan: Plan, warehouse: Path) -> int:
    """Trials of the run that `submit` would not run again."""
    from fleetbench.fleet.progress import progress
    from fleetbench.store.commit import Warehouse

    if not warehouse.is_dir():
        return 0
    done = progress(Warehouse(warehouse).committed(plan.run_id), retry_failed=False).outcomes
    return sum(trial.trial_id in done for trial in plan.trials)


def _document(plan: Plan, total: Estimate, settled: int) -> Iterator[str]:
    """One JSON object, a line for each cell, launch and refusal, so that a large plan is never whole in memory."""
    head = {"run_id": plan.run_id, "run": plan.run, "matrix": plan.matrix.name}
    tail = {
        "settled_trials": settled,
        "estimate": {
            "seconds": round(total.seconds, 1),
            "cost_usd": total.cost_usd,
            "unpriced": list(total.unpriced),
            "trials": total.trials,
            "trials_from_history": total.from_history,
        },
    }
    lists = {"cells": _cells(plan), "launches": _launches(plan, total), "refusals": _refusals(plan)}
    yield json.dumps(head)[:-1]
    for name, rows in lists.items():
        yield f',\n"{name}": ['
        for number, row in enumerate(rows):
            yield ("," if number else "") + "\n" + json.dumps(row)
        yield "]"
    yield ",\n" + json.dumps(tail)[1:] + "\n"


def _launches(plan: Plan, total: Estimate) -> Iterator[dict[str, Any]]:
    from fleetbench.engine.registry import names
    from fleetbench.matrix.resolve import scheme

    started = names()
    for launch in plan.launches:
        ruling = plan.rulings.get(launch.launch_id)
        yield {
            "launch_id": launch.launch_id,
            "role": launch.role,
            "model": launch.model.name,
            "recipe": launch.recipe.name,
            "scheme": scheme(launch.recipe),
            "engine": launch.engine.name,
            "engine_version": launch.engine.version,
            "hardware": launch.hardware,
            "tp": launch.parallel.tp,
            "pp": launch.parallel.pp,
            "dp": launch.parallel.dp,
            "artifact_id": launch.artifact_id,
            "slots": launch.slots,
            "slot_tok": launch.slot_tok,
            "verdict": ruling.verdict if ruling else None,
            "kernel": launch.kernel,
            "adapter": launch.engine.name in started,
            "guessed": shape.guessed if (shape := launch.model.shape) else None,
            "uncounted": list(shape.uncounted) if shape else None,
            "sentence": ruling.sentence if ruling else None,
            "source": ruling.source if ruling else None,
            "trials": len(launch.trials),
            "estimated_s": round(total.launches_s[launch.launch_id], 1),
        }


def _cells(plan: Plan) -> Iterator[dict[str, Any]]:
    """Cells that run: what they are, how, the bytes they need of a GPU, and the floors of what they can measure."""
    from fleetbench.fleet.rows import axes, work
    from fleetbench.matrix.resolve import scheme
    from fleetbench.plan.roofline import cell_floors, cell_roof
    from fleetbench.plan.room import cell_demand, needed_bytes

    for launch in plan.launches:
        if launch.role != "measure":
            continue
        ruling, bound = plan.rulings[launch.launch_id], cell_roof(launch.trials[0].cell)
        needed, usable = cell_demand(launch.trials[0].cell)
        shared = {**axes(launch.trials[0].cell), "scheme": scheme(launch.recipe), "verdict": ruling.verdict,
                  "kernel": ruling.kernel}  # fmt: skip
        for trial in launch.trials:
            if trial.repeat:
                continue
            cell, floors = trial.cell, cell_floors(trial.cell, bound)
            yield {
                "cell_id": cell.cell_id, "kind": cell.kind, **shared, **work(cell),
                "launch_id": launch.launch_id,
                "needed_bytes": needed_bytes(cell, needed), "usable_bytes": usable,
                "ttft_floor_ms": floors.ttft_ms, "itl_floor_ms": floors.itl_ms,
            }  # fmt: skip


def _refusals(plan: Plan) -> Iterator[dict[str, Any]]:
    from fleetbench.fleet.rows import refusal_row

    return (refusal_row(plan.run_id, refusal) for refusal in plan.refusals)


def _rows(plan: Plan, form: str) -> None:
    """Every cell as a row, refused ones with their reason."""
    from fleetbench.cli.output import show
    from fleetbench.report.result import Result

    rows = [*_cells(plan), *({key: row[key] for key in row if key != "run_id"} for row in _refusals(plan))]
    columns = tuple(dict.fromkeys(key for row in (rows[:1] + rows[-1:]) for key in row)) or ("cell_id",)
    show(Result(columns=columns, rows=tuple(tuple(row.get(name) for name in columns) for row in rows)), form)


def _tables(plan: Plan, total: Estimate, settled: int) -> None:
    click.secho(f"{plan.matrix.name}, run {plan.run} ({plan.run_id})", bold=True)
    if plan.matrix.analysis:
        click.echo(plan.matrix.analysis)
    _launch_table(plan, total)
    _notes(plan)
    _reasons(plan)
    if settled:
        click.echo(f"{settled} of {total.trials} trials are already done")
    priced = {one.hardware for one in plan.launches} - set(total.unpriced)
    unknown = "not all prices known" if priced else "no price known"
    cost = unknown if total.cost_usd is None else f"{total.cost_usd:.2f} USD"
    known = f"{total.from_history} of {total.trials} trials timed by earlier ones, the others nominally"
    cells = sum(len({trial.cell.cell_id for trial in one.trials}) for one in plan.launches if one.role == "measure")
    counts = f"{cells} cells, {total.trials} trials, {len(plan.launches)} launches, {len(plan.refusals)} refused"
    click.echo(textwrap.fill(f"{counts}; about {_long(total.seconds)}, {cost}", PAGE))
    click.echo(f"({known})")


def _launch_table(plan: Plan, total: Estimate) -> None:
    from fleetbench.cli.output import show
    from fleetbench.matrix.resolve import scheme
    from fleetbench.report.result import Result

    columns = ("launch", *SAME, "scheme", "how", "trials", "seconds")
    rows = [
        (
            f"{launch.model.name} {launch.recipe.name}",
            launch.engine.name,
            launch.hardware,
            launch.parallel.tp,
            scheme(launch.recipe),
            ruling.verdict if (ruling := plan.rulings.get(launch.launch_id)) else launch.role,
            len(launch.trials),
            round(total.launches_s[launch.launch_id], 1),
        )
        for launch in plan.launches[:LAUNCHES_SHOWN]
    ]
    same = {
        name: rows[0][n]
        for n, name in enumerate(columns)
        if rows and name in SAME and len({row[n] for row in rows}) == 1
    }
    kept = [n for n, name in enumerate(columns) if name not in same]
    shown = tuple(tuple(row[n] for n in kept) for row in rows)
    keys = 1 + len(SAME) - len(same)
    show(Result(columns=tuple(columns[n] for n in kept), rows=shown), "table", keys=keys)
    if same:
        click.echo(f"All with {', '.join(f'{name} {value}' for name, value in same.items())}.")
    if (more := len(plan.launches) - LAUNCHES_SHOWN) > 0:
        click.echo(f"and {more} more launches (--format json has them all)")


def _notes(plan: Plan) -> None:
    """What a table of verdicts does not say: engines that nothing here starts, what sums and limits leave out."""
    from fleetbench.engine.registry import names
    from fleetbench.plan.estimate import unlimited
    from fleetbench.report.fit import caveats

    without = dict.fromkeys(one.engine.name for one in plan.launches if one.engine.name not in names())
    said = [f"planned only, no adapter is here to start them: {', '.join(without)}"] if without else []
    models = {one.model.name: one.model for one in plan.launches}
    said += [f"{name}: {'; '.join(found)}" for name, model in models.items() if (found := caveats(model.shape))]
    said += [why] if (why := unlimited(plan)) else []
    for line in said:
        click.echo(textwrap.fill(line, PAGE, subsequent_indent="  "))


def _reasons(plan: Plan) -> None:
    """What is refused, the same reason once: by its rule and sentence, those of memory by what does not fit where."""
    reasons: dict[tuple[str, ...], list[Refusal]] = {}
    for refusal in plan.refusals:
        cell = refusal.cell
        key = (cell.model.name, cell.recipe.name, cell.hardware) if refusal.rule == "memory" else (refusal.sentence,)
        reasons.setdefault((refusal.rule, *key), []).append(refusal)
    for refused in list(reasons.values())[:REASONS_SHOWN]:
        first, cells = refused[0], [refusal.cell for refusal in refused]
        count = f"{len(cells)} cell{'s' if len(cells) > 1 else ''}"
        verdict = first.verdict.replace("_", " ")
        rule = first.rule if first.rule == first.verdict else f"{verdict} ({first.rule})"
        said = textwrap.fill(f"refused {count}, {rule}: {first.sentence}", PAGE, subsequent_indent="  ")
        click.echo(said.replace("refused", click.style("refused", fg="yellow"), 1))
        for line in _which(cells):
            click.echo(textwrap.fill(line, PAGE, initial_indent="  ", subsequent_indent="    "))
    if (more := len(reasons) - REASONS_SHOWN) > 0:
        click.echo(f"and {more} more reasons (--format json has them all)")


def _long(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds < HOURS_FROM_S else f"{seconds / 3600:.1f} hours"


def _which(cells: list[Cell]) -> list[str]:
    """The refused cells, a line for each model and recipe; other axes are named where they differ."""
    places = [_place(cell) for cell in cells]
    differ = [n for n in range(len(places[0])) if len({place[n] for place in places}) > 1]
    points: dict[str, list[Cell]] = {}
    for cell, place in zip(cells, places, strict=True):
        where = " ".join(place[n] for n in differ)
        points.setdefault(f"{cell.model.name} {cell.recipe.name}{f' on {where}' if where else ''}", []).append(cell)
    return _few([f"{head}: {_loads(said)}" for head, said in points.items()])


def _place(cell: Cell) -> tuple[str, ...]:
    parallel = cell.parallel
    degrees = (f"tp {parallel.tp}", f"pp {parallel.pp}", f"dp {parallel.dp}")
    return (cell.engine.name, cell.hardware, *degrees)


def _loads(cells: list[Cell]) -> str:
    """Their loads: axis by axis where they are a whole grid, else one by one."""
    from fleetbench.matrix.types import LoadPoint

    works = [cell.work for cell in cells]
    loads = [work for work in works if isinstance(work, LoadPoint)]
    axes: list[tuple[str, list[object]]] = [
        ("batch", list(dict.fromkeys(load.batch for load in loads))),
        ("rate", list(dict.fromkeys(load.rate for load in loads))),
        ("context", list(dict.fromkeys(load.context_tok for load in loads))),
        ("output", list(dict.fromkeys(load.output_tok for load in loads))),
    ]
    if len(loads) == len(works) == math.prod(len(values) for _, values in axes):
        said = [f"{name} {', '.join(map(str, values))}" for name, values in axes if values != [None]]
        return "; ".join(said)
    return ", ".join(_few([_point(cell) for cell in cells]))


def _point(cell: Cell) -> str:
    from fleetbench.matrix.types import LoadPoint

    if not isinstance(cell.work, LoadPoint):
        return f"quality suite {cell.work.suite}"
    load = f"rate {cell.work.rate:g}" if cell.work.rate is not None else f"batch {cell.work.batch}"
    return f"{load} context {cell.work.context_tok} output {cell.work.output_tok}"


def _few(texts: list[str]) -> list[str]:
    more = len(texts) - SHOWN
    return [*texts[:SHOWN], f"and {more} more"] if more > 0 else texts
