"""Readers of other tools' files, found by entry point so that others can add theirs."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from fleetbench.catalog.lookup import nearest
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.store.foreign.record import Reader

GROUP = "fleetbench.imports"


def names() -> tuple[str, ...]:
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def reader(name: str) -> Reader:
    """The reader of a format.

    Raises:
        InputError: there is no such format.
        UnusableEnvironmentError: its reader does not load.
    """
    for point in entry_points(group=GROUP, name=name):
        return _loaded(point)
    near = nearest(name, names())
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(names()) or 'none'}"
    raise InputError((f"no format {name} is known ({hint}); `fleetbench import --list` says what each is",))


def _loaded(point: EntryPoint) -> Reader:
    try:
        found: Reader = point.load()()
    except (ImportError, AttributeError) as error:
        raise UnusableEnvironmentError(
            f"the reader of {point.name}, {point.value}, does not load ({error}): reinstall the package that brings it"
        ) from error
    return found
