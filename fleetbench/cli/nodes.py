"""`fleetbench nodes`: the fleet, what is tagged against what is there."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.options import format_option, token_option

if TYPE_CHECKING:
    from fleetbench.fleet.nodes.state import NodeState
    from fleetbench.report.result import Result

FAILED = 1
COLUMNS = (
    "node", "hardware", "gpus", "pool", "use", "address", "state", "why", "remedy", "note", "devices", "driver",
    "gpus_free", "share_free", "launches", "engines", "unusable_engines", "cache_free_bytes", "clock_offset_s",
    "version", "node_id",
)  # fmt: skip
STYLES = {"ready": "green", "busy": "cyan"}


@click.command()
@click.option("--address", metavar="HOST:PORT", help="Of the head; by default of the cluster that this machine is in.")
@token_option
@format_option
def nodes(address: str | None, token: Path | None, form: str) -> int:
    """Show the fleet: what is tagged against what is there.

    Every tagged node is looked at now: its GPUs, engines, clock, and what runs on it. `busy` is measured on or taken,
    `stale` does not answer, `mismatched` has other GPUs than its tag says. Exit 1 where a node cannot be measured on,
    or there is none.
    """
    from fleetbench.fleet.nodes.connection import connected

    with connected(_address(address), token) as head:
        from fleetbench.fleet.nodes.survey import survey

        found = survey()
    from fleetbench.cli.output import show

    if form != "table":
        show(rows_of(found), form)
    elif not found:
        click.echo(f"no node of the cluster at {head.address} is tagged: fleetbench node up --address {head.address}")
    else:
        _show(found, head.address)
    return 0 if found and all(state.measurable for state in found) else FAILED


def _address(given: str | None) -> str:
    """What was given, else the cluster of this process, else that of this machine's node."""
    from fleetbench.fleet.nodes.connection import ADDRESS
    from fleetbench.fleet.nodes.processes import home_addresses

    if found := given or os.environ.get(ADDRESS):
        return found
    homes = home_addresses()
    if len(homes) != 1:
        where = f"several ({', '.join(homes)})" if homes else "none"
        raise click.UsageError(f"Which cluster? This machine is in {where}: give --address HOST:PORT of a head.")
    return homes[0]


def _show(found: Sequence[NodeState], address: str) -> None:
    from fleetbench.cli.output import show
    from fleetbench.report.result import Result

    counted = Counter(state.verdict for state in found)
    said = ", ".join(f"{count} {verdict}" for verdict, count in counted.items())
    click.secho(f"{len(found)} node{'s' * (len(found) > 1)} at {address}: {said}", bold=True)
    pools = len({state.node.pool for state in found}) > 1
    labels = ("node", "tagged", "found", "free", *(("pool",) if pools else ()), "use", "state")
    rows = tuple(
        (
            state.node.name,
            f"{state.node.gpus} x {state.node.hardware}" if state.node.gpus else state.node.hardware,
            _there(state),
            None if state.gpus_free is None else f"{state.gpus_free:g}",
            *((state.node.pool,) if pools else ()),
            state.node.use,
            state.verdict,
        )
        for state in found
    )
    show(Result(columns=labels, rows=rows), "table")
    for state in found:
        _explain(state)
    for line in _engines(found):
        click.echo(line)


def _there(state: NodeState) -> str | None:
    """The devices by kind, those of no kind by name."""
    if state.facts is None:
        return None
    if state.node.hardware.startswith("sim-"):
        return "played by CPU"
    kinds = Counter(device.kind or device.name for device in state.facts.devices)
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "no GPU"


def _explain(state: NodeState) -> None:
    """Why it is not simply ready, and what to do."""
    if state.verdict != "ready":
        name = click.style(state.node.name, fg=STYLES.get(state.verdict, "red"))
        click.echo(f"\n{name}: {state.sentence}")
        if state.remedy:
            click.echo(f"  → {state.remedy}")
    for name, why in (state.facts.unusable if state.facts else {}).items():
        click.echo(f"\n{click.style(state.node.name, fg='yellow')}: {name} cannot be started: {why}")
    if state.note:
        click.echo(f"\n{click.style(state.node.name, fg='yellow')}: {state.note}")


def _engines(found: Sequence[NodeState]) -> Iterator[str]:
    """Each engine and version once, with the nodes that have it."""
    have: dict[str, list[str]] = {}
    looked_at = [state for state in found if state.node.engines is not None]
    for state in looked_at:
        for engine, version in (state.node.engines or {}).items():
            have.setdefault(f"{engine} {version}", []).append(state.node.name)
    for number, (engine, names) in enumerate(have.items()):
        where = "every node" if len(names) == len(looked_at) else ", ".join(names)
        yield f"{'' if number else chr(10)}{click.style(engine, bold=True)} on {where}"


def rows_of(found: Sequence[NodeState]) -> Result:
    from fleetbench.report.result import Result

    return Result(columns=COLUMNS, rows=tuple(_row(state) for state in found))


def _row(state: NodeState) -> tuple[object, ...]:
    node, facts = state.node, state.facts
    devices = Counter(device.name for device in facts.devices) if facts else {}
    return (
        node.name,
        node.hardware,
        node.gpus,
        node.pool,
        node.use,
        state.address,
        state.verdict,
        state.sentence,
        state.remedy,
        state.note,
        ", ".join(f"{count} x {name}" for name, count in devices.items()) if facts else None,
        facts.driver if facts else None,
        state.gpus_free,
        state.share_free,
        ", ".join(state.launches),
        ", ".join(f"{name} {version}" for name, version in (node.engines or {}).items()) if facts else None,
        ", ".join(f"{name}: {why}" for name, why in facts.unusable.items()) if facts else None,
        facts.cache_free_bytes if facts else None,
        state.clock_offset_s,
        state.version,
        node.node_id,
    )
