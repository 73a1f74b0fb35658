"""`fleetbench node up` and `node down`: this machine joins a fleet, and leaves it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetbench.cli.options import token_option

if TYPE_CHECKING:
    from fleetbench.fleet.nodes.joining import Joining
    from fleetbench.fleet.nodes.processes import LocalNode
    from fleetbench.fleet.nodes.up import Up

WIDTH = 9
UP_EXAMPLES = """\b
Examples:
  fleetbench node up --head                         # on one machine
  fleetbench node up --address HEAD:6379            # on each of the others
  fleetbench node up --address HEAD:6379 --simulate h100:8
"""
DOWN_EXAMPLES = """\b
Examples:
  fleetbench node down                              # the only one here
  fleetbench node down gpu01-2 --address HEAD:6379  # the one of that cluster
  fleetbench node down --all --address HEAD:6379    # all of it that is here
"""


@click.command(epilog=UP_EXAMPLES)
@click.option("--head", is_flag=True, help="Start a cluster here; measured on as well where there are GPUs.")
@click.option("--address", metavar="HOST:PORT", help="Of the head to join.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="PORT", help="Of this head.  [default: 6379]")
@click.option("--node-ip", metavar="IP", help="By which the others reach this machine, where it has several.")
@click.option("--pool", metavar="NAME", help="In place of the settings' pool.")
@click.option("--settings", type=click.Path(path_type=Path), metavar="FILE", help="Settings of this node.")
@token_option
@click.option("--simulate", metavar="KIND[:GPUS]", help="Play GPUs on this CPU, for a trial fleet: h100:8.")
@click.option("--dashboard-host", metavar="IP", help="Where the head's dashboard listens.  [default: 127.0.0.1]")
@click.option(
    "--dashboard-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Of the dashboard.  [default: 8265, or the next that is free]",
)
@click.option("--block", is_flag=True, help="Stay in the foreground, and end the node with it (for systemd).")
@click.option("--dry-run", is_flag=True, help="Only print the labels and the command.")
def up(
    *,
    head: bool,
    address: str | None,
    port: int | None,
    node_ip: str | None,
    pool: str | None,
    settings: Path | None,
    token: Path | None,
    simulate: str | None,
    dashboard_host: str | None,
    dashboard_port: int | None,
    block: bool,
    dry_run: bool,
) -> None:
    """Join this machine to a fleet, tagged by what it has.

    Finds its GPUs, checks them and its engines, and starts Ray as a node. Its processes know the cluster by a token,
    a private file that `--head` makes: copy it to every machine.
    """
    of_head = {"--port": port, "--dashboard-host": dashboard_host, "--dashboard-port": dashboard_port}
    _check(head=head, address=address, of_head=[name for name, value in of_head.items() if value is not None])
    from fleetbench.fleet.nodes.head import PORT, split_address
    from fleetbench.fleet.nodes.up import Wanted, bring_up, would_run

    if address is not None:
        split_address(address)
    wanted = Wanted(
        address=address,
        port=port or PORT,
        node_ip=node_ip,
        pool=pool,
        settings=settings,
        token=token,
        simulate=simulate,
        dashboard_host=dashboard_host or "127.0.0.1",
        dashboard_port=dashboard_port,
    )
    if dry_run:
        _show_plan(*would_run(wanted))
        return
    if block:
        _block(lambda: bring_up(wanted, _note))
    else:
        _show(bring_up(wanted, _note))


def _check(*, head: bool, address: str | None, of_head: list[str]) -> None:
    if head == (address is not None):
        raise click.UsageError("Give --head on the first machine, and --address HOST:PORT of it on the others.")
    if not head and of_head:
        verb = "is" if len(of_head) == 1 else "are"
        raise click.UsageError(f"{' and '.join(of_head)} {verb} of a head (--address has the port that is joined).")


@click.command(epilog=DOWN_EXAMPLES)
@click.argument("names", nargs=-1, metavar="[NODE]...")
@click.option("--all", "every", is_flag=True, help="All of this user's nodes on this machine.")
@click.option("--address", metavar="HOST:PORT", help="Only nodes of the cluster with this head.")
def down(names: tuple[str, ...], *, every: bool, address: str | None) -> None:
    """Take this machine out of its fleet.

    Ends the Ray processes that `node up` started here, and no others. What a launch measures there is lost, and run
    again elsewhere. NODE is a node's name, needed where several are on this machine.
    """
    if names and every:
        raise click.UsageError("NODE names some, --all means every one: keep one of them")
    from fleetbench.fleet.nodes.processes import end, forget, local_nodes

    found = local_nodes()
    chosen = _chosen(found, names, address, every=every)
    if not found:
        click.echo("no node is up here")
    for node in chosen:
        count = end(node)
        forget(node)
        click.echo(f"{node.name} is down ({count} processes ended)")


def _chosen(found: list[LocalNode], names: tuple[str, ...], address: str | None, *, every: bool) -> list[LocalNode]:
    """The nodes to be ended.

    Raises:
        InputError: others than these nodes, or more, may be meant.
    """
    from fleetbench.errors import InputError
    from fleetbench.fleet.nodes.processes import of_cluster

    there = f"there {'are' if len(found) > 1 else 'is'} {_listed(found)}" if found else "there is none"
    nodes = found if address is None else of_cluster(found, address)
    if address is not None and not nodes:
        raise InputError((f"no node of the cluster at {address} is here ({there})",))
    if unknown := [name for name in names if name not in {node.name for node in nodes}]:
        raise InputError((f"no node {', '.join(unknown)} here ({there})",))
    if not names and not every and len(nodes) > 1:
        several = "name those to end, or --all; --address HOST:PORT for those of one cluster"
        raise InputError((f"there are several nodes here: {_listed(nodes)} ({several})",))
    for name in names:
        meant = [node for node in nodes if node.name == name]
        if len(meant) > 1:
            heads = sorted({node.address for node in meant if node.address})
            choose = f"name its cluster too: --address {heads[0]}" if len(heads) > 1 else "--all ends them all"
            raise InputError((f"several nodes here are called {name}: {_listed(meant)} ({choose})",))
    return [node for node in nodes if not names or node.name in names]


def _listed(nodes: list[LocalNode]) -> str:
    """By cluster."""
    clusters: dict[str, list[str]] = {}
    for node in nodes:
        where = f"head at {node.address}" if node.address else "head unknown"
        clusters.setdefault(where, []).append(f"{node.name}, its head" if node.head else node.name)
    return "; ".join(f"{', '.join(sorted(names))} ({where})" for where, names in sorted(clusters.items()))


def _block(bring_up: Callable[[], Up]) -> None:
    """Show the node, and stay until a signal."""
    from fleetbench.fleet.nodes.processes import end
    from fleetbench.fleet.nodes.start import signals_held, stay

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    done = bring_up()
    try:
        with signals_held():
            _show(done)
            stay(done.node)
    except BaseException:
        end(done.node)
        raise
    click.echo(f"{done.node.name} is down")


def _note(sentence: str) -> None:
    click.echo(click.style(sentence, dim=True), err=True)


def _show_plan(joining: Joining, command: list[str]) -> None:
    for key, value in joining.labels.items():
        click.echo(f"{key:<26} {value}")
    click.echo()
    click.echo(shlex.join(command))


def _show(up: Up) -> None:
    what = "head" if up.joining.address is None else "node"
    tag = up.joining.tag
    click.secho(
        f"{what} {up.node.name} is up, {f'tagged {tag}' if tag else 'not measured on: it has no GPU'}", bold=True
    )
    for subject, said in (*_found(up.joining), *_next(up)):
        click.echo(f"  {click.style(f'{subject:<{WIDTH}}', fg='cyan')} {said}")
    if up.no_jobs is not None:
        again = f"fleetbench node down {up.node.name}, then node up --head --dashboard-port PORT"
        why = f"the head is up, but its dashboard takes no jobs: {up.no_jobs}; to try again: {again}"
        click.echo(f"{click.style('warning', fg='yellow')}: {why}", err=True)


def _found(joining: Joining) -> Iterator[tuple[str, str]]:
    """What the machine has."""
    facts, tag = joining.facts, joining.tag
    if tag is None:
        return
    if joining.simulated:
        yield "GPUs", f"{joining.gpus}, played by this CPU"
    else:
        names = ", ".join(sorted({device.name for device in facts.devices}))
        yield "GPUs", f"{joining.gpus} x {names}, driver {facts.driver or 'unknown'}"
    use = "one launch at a time" if facts.use == "whole" else "launches side by side"
    yield "pool", f"{facts.pool}, {use}"
    yield "engines", ", ".join(f"{name} {version}" for name, version in facts.engines.items())
    for name, why in facts.unusable.items():
        yield "", f"{name} cannot be started: {why}"


def _next(up: Up) -> Iterator[tuple[str, str]]:
    """What to do now."""
    address = up.node.address
    if up.joining.address is None:
        if up.token is not None:
            yield "token", f"{up.token}{' (made now)' if up.made else ''}: copy it to every machine, mode 600"
        yield "join", f"fleetbench node up --address {address}"
        yield "submit", f"fleetbench submit MATRIX --address {address}"
        yield "", _from_anywhere(up)
    yield "see", f"fleetbench nodes --address {address}"
    yield "leave", f"fleetbench node down {up.node.name}"


def _from_anywhere(up: Up) -> str:
    """How to submit from a machine that is no node."""
    from fleetbench.fleet.nodes.dashboard import installed

    found = up.head.dashboard
    if up.no_jobs is not None:
        return "from other machines not: see the warning"
    if found is None or not installed():
        return "from other machines too, once it takes jobs: pip install '.[cluster]' here, in a checkout"
    if found.startswith(("127.", "localhost")):
        port = found.rpartition(":")[2]
        return f"from elsewhere: ssh -L {port}:{found} {up.joining.facts.host}, then --address http://{found}"
    return f"from elsewhere: --address http://{found}"
