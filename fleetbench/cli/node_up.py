"""`fleetbench node up` and `node down`: this machine joins a fleet, and leaves it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fleetbench.cli.options import token_option

if TYPE_CHECKING:
    from fleetbench.fleet.nodes.joining import Joining
    from fleetbench.fleet.nodes.up import Up

WIDTH = 9


@click.command()
@click.option("--head", is_flag=True, help="Start a cluster here; measured on as well where there are GPUs.")
@click.option("--address", metavar="HOST:PORT", help="Of the head to join.")
@click.option("--port", type=click.IntRange(1, 65535), help="Of this head.  [default: 6379]")
@click.option("--node-ip", metavar="IP", help="By which the others reach this machine, where it has several.")
@click.option("--pool", metavar="NAME", help="In place of the settings' pool.")
@click.option("--settings", type=click.Path(path_type=Path), metavar="FILE", help="Settings of this node.")
@token_option
@click.option("--simulate", metavar="KIND[:GPUS]", help="Play GPUs on this CPU, for a trial fleet: h100:8.")
@click.option("--dashboard-host", metavar="IP", help="Where the head's dashboard listens.  [default: 127.0.0.1]")
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
    block: bool,
    dry_run: bool,
) -> None:
    """Join this machine to a fleet, tagged by what it has.

    Finds its GPUs, checks them and its engines, and starts Ray as a node. Its processes know the cluster by a token,
    a private file that `--head` makes: copy it to every machine.

    \b
    fleetbench node up --head                       # on one machine
    fleetbench node up --address HEAD:6379          # on each of the others
    fleetbench node up --address HEAD:6379 --simulate h100:8
    """  # noqa: D301 - click takes the character itself
    _check(head=head, address=address, port=port, dashboard_host=dashboard_host)
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
    )
    if dry_run:
        _show_plan(*would_run(wanted))
        return
    if block:
        _block(lambda: bring_up(wanted, _note))
    else:
        _show(bring_up(wanted, _note))


def _check(*, head: bool, address: str | None, port: int | None, dashboard_host: str | None) -> None:
    if head == (address is not None):
        raise click.UsageError("Give --head on the first machine, and --address HOST:PORT of it on the others.")
    if not head and (port is not None or dashboard_host is not None):
        raise click.UsageError("--port and --dashboard-host are of a head (--address has the port that is joined).")


@click.command()
@click.argument("names", nargs=-1, metavar="[NODE]...")
@click.option("--all", "every", is_flag=True, help="All of this user's nodes on this machine.")
def down(names: tuple[str, ...], *, every: bool) -> None:
    """Take this machine out of its fleet.

    Ends the Ray processes that `node up` started here, and no others. What a launch measures there is lost, and run
    again elsewhere. NODE is a node's name, needed where several are on this machine.
    """
    from fleetbench.errors import InputError
    from fleetbench.fleet.nodes.processes import end, forget, local_nodes

    found = local_nodes()
    known = ", ".join(node.name for node in found)
    if unknown := [name for name in names if name not in {node.name for node in found}]:
        raise InputError((f"no node {', '.join(unknown)} here ({f'there are {known}' if found else 'there is none'})",))
    if not names and not every and len(found) > 1:
        raise InputError((f"there are several nodes here: {known} (name those to end, or --all)",))
    if not found:
        click.echo("no node is up here")
    for node in found:
        if not names or node.name in names:
            count = end(node)
            forget(node)
            click.echo(f"{node.name} is down ({count} processes ended)")


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
    found = up.head.dashboard
    if found is None and find_spec("aiohttp") is None:
        return "from other machines too, once it takes jobs: pip install '.[cluster]' here, in a checkout"
    if found is None:
        return "its dashboard did not start (was its port taken?): it takes no jobs; node down and node up try again"
    if found.startswith(("127.", "localhost")):
        port = found.rpartition(":")[2]
        return f"from elsewhere: ssh -L {port}:{found} {up.joining.facts.host}, then --address http://{found}"
    return f"from elsewhere: --address http://{found}"
