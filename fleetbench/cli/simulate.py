"""`fleetbench simulate`: a matrix on a fleet that exists on paper."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetbench.cli.options import format_option, matrix_argument, warehouse_option
from fleetbench.cli.values import Parsed

if TYPE_CHECKING:
    from fleetbench.fleet.simulation.schedule import Simulation
    from fleetbench.plan.types import Plan

UNSURE_MOST = 0.9
EPILOG = """\b
Example:
  fleetbench simulate matrix.yaml --fleet fleet.yaml --svg run.svg

\b
A fleet, of which count (1), gpus (the kind's in the catalog) and use (whole)
may be left out:
  nodes: [{hardware: h100, count: 4, gpus: 8, engines: [vllm==0.33.0]}]

\b
Faults, each with its probability:
  lost=P     a launch's actor dies, per launch
  node=P     a launch's node dies, back after 5 minutes, per launch
  fail=P     an engine does not come up, per launch
  oom=P      an engine runs out of memory at its start, per launch
  crash=P    an engine dies in a trial, per trial
  timeout=P  a trial runs into its limit, per trial
  bad=P      no engine ever comes up on a node, per node
"""


def _faults(text: str) -> Any:
    from fleetbench.fleet.simulation.faults import parse

    return parse(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share <= UNSURE_MOST:  # nan is not, which click's own range would take
        raise ValueError(f"{text} is not from 0 to {UNSURE_MOST}")
    return share


@click.command(epilog=EPILOG)
@matrix_argument
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Nodes by kind, in YAML; see below.  [required]",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of all chance: the same seed, the same schedule.")
@click.option(
    "--unsure",
    type=Parsed("share", _share),
    default=0.3,
    show_default=True,
    metavar="SHARE",
    help="True times are within this share of what the scheduler believes.",
)
@click.option(
    "--faults",
    type=Parsed("faults", _faults),
    default="",
    metavar="LIST",
    help="What goes wrong, like lost=0.01,node=0.002; see below.  [default: nothing]",
)
@click.option("--first-come", is_flag=True, help="Start launches in the plan's order, to see what the order is worth.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Draw the schedule.")
@warehouse_option
@format_option
def simulate(
    matrix: Path,
    fleet: Path | None,
    seed: int,
    unsure: float,
    faults: Any,
    *,
    first_come: bool,
    svg: Path | None,
    warehouse: Path,
    form: str,
) -> None:
    """Run MATRIX on a fleet that exists on paper, by the scheduler of real runs.

    Times come from earlier trials of the same cells in the warehouse, else from nominal figures. The bound is what no
    schedule of the same work can beat. JSON holds everything, CSV the schedule.
    """
    if fleet is None:
        raise click.UsageError("Missing option '--fleet': the nodes, such as infra/fleets/example.yaml.")
    from fleetbench.fleet.fleet_file import read_fleet
    from fleetbench.fleet.planning import plan_file
    from fleetbench.fleet.simulation import simulator, tables
    from fleetbench.fleet.simulation.times import estimated
    from fleetbench.plan.rules import Rules
    from fleetbench.store.history import cell_seconds

    nodes = simulator.nodes_of(read_fleet(fleet))
    plan = plan_file(matrix, "default", fleet).plan
    _check(plan, matrix, fleet)
    used = {launch.hardware for launch in plan.launches}
    limits = plan.matrix.limits
    found = simulator.simulate(
        plan.launches,
        [node for node in nodes if node.hardware in used],
        estimated(plan, cell_seconds(warehouse)),
        rules=Rules(
            order="first-come" if first_come else "balanced", cost_usd=limits.cost_usd, price_usd_h=_prices(used)
        ),
        world=simulator.World(seed=seed, unsure=unsure, faults=faults, trial_limit_s=limits.trial_s),
    )
    world = f"seed {seed}, times within {100 * unsure:g} %, faults {faults}" + (", first come" if first_come else "")
    title = f"{plan.matrix.name} on {fleet.name}"
    if svg is not None:
        _draw(found, svg, title=f"{title}, simulated", world=world)
    unused = sorted({node.hardware for node in nodes} - used)
    if form == "json":
        sys.stdout.write(json.dumps(tables.document(plan, found, unused), indent=1, ensure_ascii=False) + "\n")
    elif form == "csv":
        from fleetbench.cli.output import show

        show(tables.schedule(found), form)
    else:
        _tables(found, form, title=f"{title}, simulated: {world}", notes=_notes(plan, unused, svg))


def _check(plan: Plan, matrix: Path, fleet: Path) -> None:
    from fleetbench.errors import InputError

    if not plan.launches:
        why = f"all {len(plan.refusals)} cells are refused" if plan.refusals else "the matrix has no cell"
        raise InputError((f"nothing to simulate, {why} (`fleetbench plan {matrix} --fleet {fleet}` says why)",))


def _prices(kinds: set[str]) -> dict[str, float]:
    """USD for an hour of a GPU, of the kinds that have a price."""
    from fleetbench.catalog.lookup import gpu_info

    infos = {kind: gpu_info(kind) for kind in sorted(kinds)}
    return {kind: info.price_usd_h.value for kind, info in infos.items() if info and info.price_usd_h}


def _draw(found: Simulation, path: Path, *, title: str, world: str) -> None:
    from fleetbench.errors import InputError
    from fleetbench.fleet.simulation.picture import chart
    from fleetbench.fleet.simulation.tables import brief
    from fleetbench.report.gantt import svg

    if path.exists() and not path.is_file() and not path.is_char_device():
        raise InputError((f"--svg {path}: is no file that can be written (name another)",))
    picture = svg(chart(found, title=title, subtitle=f"{brief(found)}; {world}"))
    try:
        path.write_text(picture, encoding="utf-8")
    except OSError as error:
        raise InputError((f"--svg {path}: cannot be written: {error.strerror or error}",)) from error


def _notes(plan: Plan, unused: list[str], svg: Path | None) -> list[str]:
    notes = []
    if plan.refusals:
        notes.append(f"{len(plan.refusals)} cells are refused (`fleetbench plan` says why).")
    if unused:
        notes.append(f"The matrix has no launch for {', '.join(unused)}: left out.")
    if svg is not None:
        notes.append(f"The schedule is drawn in {svg}.")
    return notes


def _tables(found: Simulation, form: str, *, title: str, notes: list[str]) -> None:
    import textwrap

    from fleetbench.cli.output import show_panels
    from fleetbench.fleet.simulation.tables import brief, panels, trials
    from fleetbench.report.result import PAGE

    for number, line in enumerate((title, f"{brief(found)}.", trials(found))):
        lines = textwrap.wrap(line, PAGE) if form == "table" else [line]
        click.secho("\n".join(lines) + ("\n" if form == "markdown" else ""), bold=not number)
    click.echo()
    show_panels(panels(found), form)
    for line in notes:
        click.echo("\n".join(textwrap.wrap(line, PAGE)) if form == "table" else f"\n{line}")
    cpu_ms = 1e3 * found.machine_cpu_s / max(1, found.cells)
    click.echo(f"the scheduler took {cpu_ms:.3f} ms of CPU a cell", err=True)
