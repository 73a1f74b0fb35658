"""Engine adapters, found by entry point so that others can add theirs."""

from __future__ import annotations

from importlib.metadata import entry_points

from fleetbench.engine.protocol import EngineAdapter
from fleetbench.errors import UnusableEnvironmentError

GROUP = "fleetbench.engines"


def names() -> list[str]:
    return sorted(point.name for point in entry_points(group=GROUP))


def engine(name: str) -> EngineAdapter:
    """The adapter of this name; raises UnusableEnvironmentError where none is installed."""
    for point in entry_points(group=GROUP, name=name):
        adapter: EngineAdapter = point.load()()
        return adapter
    raise UnusableEnvironmentError(
        f"no adapter for the engine {name} is installed (there are: {', '.join(names()) or 'none'}); "
        "install the package that brings it, or reinstall fleetbench"
    )
