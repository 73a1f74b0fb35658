"""`fleetbench prepare`: make the checkpoints that a matrix needs, ahead of any run."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetbench.cli.options import format_option, matrix_argument, warehouse_option

if TYPE_CHECKING:
    from fleetbench.fleet.preparing import Prepared

FAILED = 1
MB = 1e6
EPILOG = """\b
Examples:
  fleetbench prepare matrix.yaml
  fleetbench prepare matrix.yaml --fleet fleet.yaml
"""


@click.command(epilog=EPILOG)
@matrix_argument
@click.option(
    "--fleet",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Nodes to prepare for, in YAML.  [default: every kind of the catalog]",
)
@warehouse_option
@format_option
def prepare(matrix: Path, fleet: Path | None, warehouse: Path, form: str) -> int:
    """Make the checkpoints that MATRIX needs: fetched, converted, quantized.

    Each is made once and kept in the cache (FLEETBENCH_CACHE) under an id of its content; the same command again makes
    only what is missing. What each cost is a row of the table `artifacts`. Exit 1 where one could not be made.
    """
    from fleetbench.artifact.cache import default_cache, probe
    from fleetbench.cli.live import note
    from fleetbench.fleet.planning import plan_file
    from fleetbench.fleet.preparing import fetch_configs, fetch_models
    from fleetbench.fleet.preparing import prepare as make
    from fleetbench.store.commit import Warehouse

    fetch_configs(matrix, note)
    planned = plan_file(matrix, "default", fleet)
    cache = default_cache()
    probe(cache)
    failed = fetch_models(planned, note)
    if any(launch.model.lacks and launch.model.name not in failed for launch in planned.plan.launches):
        planned = plan_file(matrix, "default", fleet)
    house = Warehouse(warehouse)
    house.create()
    found = list(make(planned, failed, cache, house, note))
    if form == "json":
        click.echo(json.dumps([_record(one) for one in found], indent=2))
    else:
        _show(found, form)
    if not found:
        note("nothing to prepare: every cell of the matrix is refused (fleetbench plan says why)")
    return FAILED if any(one.state == "failed" for one in found) else 0


def _record(one: Prepared) -> dict[str, Any]:
    artifact = one.artifact
    return {
        "artifact_id": one.launch.artifact_id,
        "model": one.launch.model.name,
        "revision": one.launch.model.revision,
        "recipe": one.launch.recipe.name,
        "engine": one.launch.engine.name,
        "checkpoint": one.kind,
        "state": one.state,
        "path": str(artifact.path) if artifact else None,
        "bytes": artifact.bytes if artifact else None,
        "build_s": artifact.build_s if artifact else None,
        "peak_rss_bytes": artifact.peak_rss_bytes if artifact else None,
        "tool": artifact.tool if artifact else None,
        "why": one.why,
        "commands": [{**asdict(command), "argv": list(command.argv)} for command in one.commands],
    }


def _show(found: list[Prepared], form: str) -> None:
    from fleetbench.cli.output import show
    from fleetbench.report.result import Result

    rows = tuple(
        (
            one.launch.model.name,
            one.launch.recipe.name,
            one.kind,
            one.state,
            one.artifact.bytes / MB if one.artifact else None,
            one.artifact.build_s if one.artifact else None,
            one.artifact.peak_rss_bytes / MB if one.artifact and one.artifact.peak_rss_bytes else None,
            one.launch.artifact_id,
        )
        for one in found
    )
    columns = ("model", "recipe", "checkpoint", "state", "MB", "seconds", "peak MB", "artifact")
    show(Result(columns=columns, rows=rows), form, keys=2)
    for one in found if form == "table" else ():
        if one.why is not None:
            click.echo(f"{click.style('failed', fg='red')} {one.launch.model.name} {one.launch.recipe.name}: {one.why}")
        for command in one.commands:
            click.echo(f"  {command.tool} makes it too, by its documents; fleetbench has never run that:")
            click.echo(f"    {command.install}\n    {shlex.join(command.argv)}")
            for remark in command.notes:
                click.echo(f"    # {remark}")
