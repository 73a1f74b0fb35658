"""Engine adapters, found by entry point so that others can add theirs."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points

from fleetbench.catalog.lookup import nearest
from fleetbench.engine.protocol import EngineAdapter
from fleetbench.errors import UnusableEnvironmentError

GROUP = "fleetbench.engines"


@cache
def names() -> tuple[str, ...]:
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


@cache
def engine(name: str) -> EngineAdapter:
    """The adapter of this name; raises UnusableEnvironmentError where none is installed, or it does not load."""
    for point in entry_points(group=GROUP, name=name):
        try:
            adapter: EngineAdapter = point.load()()
        except (ImportError, AttributeError) as error:
            raise UnusableEnvironmentError(
                f"the adapter of {name}, {point.value}, does not load ({error}): reinstall the package that brings it"
            ) from error
        return adapter
    near = nearest(name, names())
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names()) or 'none'}"
    raise UnusableEnvironmentError(
        f"no adapter for the engine {name} is installed ({hint}); "
        "install the package that brings it, or reinstall fleetbench"
    )
