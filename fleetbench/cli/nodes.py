"""`fleetbench nodes`: the fleet, what is tagged against what is there."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.main import give_up
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
EXAMPLES = """\b
Examples:
  fleetbench nodes                        # of this machine's cluster
  fleetbench nodes --address HEAD:6379 --format json
"""
CLEAR = "\r\x1b[K"
"""Takes a line of a terminal back."""
STYLES = {"ready": "green", "busy": "cyan"}


@click.command(epilog=EXAMPLES)
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

    with connected(_address(address), token, give_up) as head:
        found = _survey()
    from fleetbench.cli.output import show

    if form != "table":
        show(rows_of(found), form)
    elif not found:
        click.echo(f"no node of the cluster at {head.address} is tagged: fleetbench node up --address {head.address}")
    else:
        _show(found, head.address)
    return 0 if found and all(state.measurable for state in found) else FAILED


def _survey() -> list[NodeState]:
    """The nodes, those that are measured on with the names of what runs there."""
    from fleetbench.fleet.control.visiting import runs_on_cluster
    from fleetbench.fleet.nodes.state import KnownRun, with_names
    from fleetbench.fleet.nodes.survey import survey

    def say(count: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"looking at {count} node{'' if count == 1 else 's'} ...", err=True, nl=False)

    try:
        found = survey(watch=say)
        busy = any(state.launches for state in found)
        runs = {
            seen.run_id: KnownRun(
                name=f"{seen.status.matrix}/{seen.status.run}",
                launches={launch.launch_id: launch.label for launch in seen.status.running},
            )
            for seen in (runs_on_cluster() if busy else ())
            if seen.status is not None
        }
    finally:
        if sys.stderr.isatty():
            click.echo(CLEAR, err=True, nl=False)
    return [with_names(state, runs) for state in found]


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
            state.gpus_open,
            *((state.node.pool,) if pools else ()),
            state.node.use,
            state.verdict,
        )
        for state in found
    )
    show(Result(columns=labels, rows=rows), "table")
    for lines in ([line for state in found for line in _explained(state)], list(_engines(found))):
        if lines:
            click.echo("\n" + "\n".join(lines))


def _there(state: NodeState) -> str | None:
    """The devices by kind, those of no kind by name."""
    if state.facts is None:
        return None
    if state.node.hardware.startswith("sim-"):
        return "played by CPU"
    kinds = Counter(device.kind or device.name for device in state.facts.devices)
    return ", ".join(f"{count} x {kind}" for kind, count in kinds.items()) or "no GPU"


def _explained(state: NodeState) -> Iterator[str]:
    """Why it is not simply ready, and what to do."""
    if state.verdict != "ready":
        name = click.style(state.node.name, fg=STYLES.get(state.verdict, "red"))
        yield f"{name}: {state.sentence}"
        if state.remedy:
            yield f"  → {state.remedy}"
    for name, why in (state.facts.unusable if state.facts else {}).items():
        yield f"{click.style(state.node.name, fg='yellow')}: {name} cannot be started: {why}"
    if state.note:
        yield f"{click.style(state.node.name, fg='yellow')}: {state.note}"


def _engines(found: Sequence[NodeState]) -> Iterator[str]:
    """Each engine and version once, with the nodes that have it."""
    have: dict[str, list[str]] = {}
    looked_at = [state for state in found if state.node.engines is not None]
    for state in looked_at:
        for engine, version in (state.node.engines or {}).items():
            have.setdefault(f"{engine} {version}", []).append(state.node.name)
    for engine, names in have.items():
        where = "every node" if len(names) == len(looked_at) else ", ".join(names)
        yield f"{click.style(engine, bold=True)} on {where}"


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
        state.gpus_open,
        state.share_free,
        ", ".join(state.launches),
        ", ".join(f"{name} {version}" for name, version in (node.engines or {}).items()) if facts else None,
        ", ".join(f"{name}: {why}" for name, why in facts.unusable.items()) if facts else None,
        facts.cache_free_bytes if facts else None,
        state.clock_offset_s,
        state.version,
        node.node_id,
    )
