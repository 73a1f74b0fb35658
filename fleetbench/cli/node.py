"""`fleetbench node`: a machine's settings, and joining it to a fleet."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.grouped import Lazy

if TYPE_CHECKING:
    from fleetbench.engine.settings import NodeSettings

UNUSABLE = 4
CHECK_EXAMPLES = """\b
Examples:
  fleetbench node check
  fleetbench node check node.yaml

\b
Such a file:
  engines:
    vllm: {venv: /opt/vllm, args: [--enforce-eager]}
"""
SCHEMA_EXAMPLE = """\b
Example:
  fleetbench node schema > node.schema.json
"""
COMMANDS = {
    "up": ("fleetbench.cli.node_up:up", "Join this machine to a fleet, tagged by what it has."),
    "down": ("fleetbench.cli.node_up:down", "Take this machine out of its fleet."),
    "check": ("fleetbench.cli.node:check", "Check a node's settings, and say what they mean here."),
    "schema": ("fleetbench.cli.node:schema", "Print the JSON Schema of settings, for editors."),
}


@click.command(cls=Lazy, table=COMMANDS)
def node() -> None:
    """Join this machine to a fleet; its settings.

    Settings are one YAML file for each node or pool: FLEETBENCH_NODE, else ~/.config/fleetbench/node.yaml. Without
    the file a node has the embedded llama.cpp, and a matrix may set no argument and name no path on it.
    """


@click.command(epilog=SCHEMA_EXAMPLE)
def schema() -> None:
    """Print the JSON Schema of a node's settings, for editors.

    In YAML editors: a first line `# yaml-language-server: $schema=FILE`.
    """
    from fleetbench.engine.settings import json_schema

    click.echo(json.dumps(json_schema(), indent=2))


@click.command(epilog=CHECK_EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path), metavar="[FILE]", required=False)
def check(file: Path | None) -> int:
    """Report every mistake in a node's settings, each with its line; then say what they mean on this machine.

    FILE is FLEETBENCH_NODE, else ~/.config/fleetbench/node.yaml, where it is left out. Exit 4 where an engine that it
    names cannot be started here.
    """
    from fleetbench.engine import facts, settings

    found = settings.read_settings(file, look=True)
    named = file or settings.settings_path()
    click.echo(f"{named}: {'ok' if named.exists() else 'no such file: the embedded engine alone'}")
    for key, value in _said(found):
        click.echo(f"{key:<13} {value}")
    usable = True
    for name, engine in found.engines.items():
        version, why = facts.look(name, engine)
        mark = click.style("ok  ", fg="green") if why is None else click.style("lack", fg="red")
        click.echo(
            f"{mark} {name:<13} {f'version {version}' if version else 'not usable'}{_allowed(engine.matrix_args)}"
        )
        if why is not None:
            usable = False
            click.echo(f"{'':<18} → {why}")
    return 0 if usable else UNUSABLE


def _said(found: NodeSettings) -> Iterator[tuple[str, str]]:
    """What the settings say, a line each."""
    from fleetbench.fleet.launch.node_cache import cache_folder
    from fleetbench.fleet.nodes.inspection import free_bytes

    cache = cache_folder(found)
    free = free_bytes(cache)
    yield "pool", found.pool
    yield "use", f"{found.use} ({'one launch at a time' if found.use == 'whole' else 'launches side by side'})"
    yield "cache", f"{cache}{'' if free is None else f', {free / 1e9:.0f} GB free'}"
    yield from (("model", f"{name}: {folder}") for name, folder in found.models.items())
    hub = found.hub
    if hub.offline:
        yield "hub", "offline: nothing is fetched"
    else:
        right = "no token of its own" if hub.token_file is None else f"token in {hub.token_file}"
        yield "hub", f"{hub.endpoint or 'as its library has it'}, {right}"
    yield "matrix paths", ", ".join(str(folder) for folder in found.matrix_paths) or "none"


def _allowed(flags: str | tuple[str, ...]) -> str:
    if not flags:
        return ""
    return f"; a matrix may set {'anything' if flags == 'any' else ', '.join(flags)}"
