"""Containers that fleetbench started: how one is ended for good, and what dead owners left."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from fleetbench.engine import around, lease, remove
from fleetbench.engine.runtime import HOME_LABEL, LEASE_LABEL, Container, NodeEngine

LIST_S = 20.0


def ending(tool: str, name: str) -> tuple[str, ...]:
    """The command that the guard runs last: a killed client leaves its container running."""
    return (sys.executable, "-I", "-S", str(Path(remove.__file__)), tool, name)


def sweep(engines: Iterable[NodeEngine]) -> list[str]:
    """Removes every container of this machine whose lease's owner is dead; returns their names.

    A tool that does not answer is passed over: it says so itself where an engine is started with it.
    """
    tools = {engine.runtime.tool for engine in engines if isinstance(engine.runtime, Container)} - {"apptainer"}
    left = [(tool, name) for tool in sorted(tools) for name in _left(tool)]
    return [name for tool, name in left if remove.remove(tool, name)]


def _left(tool: str) -> list[str]:
    shown = f'{{{{.Names}}}}\t{{{{.Label "{LEASE_LABEL}"}}}}'
    listing = [tool, "ps", "--all", "--filter", f"label={HOME_LABEL}={around.home()}", "--format", shown]
    text = ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        text = subprocess.run(listing, capture_output=True, text=True, timeout=LIST_S, check=False).stdout
    found = [line.partition("\t") for line in text.splitlines()]
    return [name for name, _, held in found if lease.owner(held) and not lease.owner_alive(held)]
