"""What every power source is: present, forbidden, unable or not there, and what it reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import entry_points
from typing import Protocol

ENTRY_POINTS = "fleetbench.power"


class Status(StrEnum):
    """Three ways of having no number, which have three remedies."""

    AVAILABLE = "available"
    UNAVAILABLE = "unavailable"
    NO_PERMISSION = "no_permission"
    UNSUPPORTED = "unsupported"


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """`detail` says why it is not available, and the remedy."""

    status: Status
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One device at one monotonic instant; None is what the device does not say.

    `energy_j` counts since some unknown start and does not run backwards; it is the device's own, not wall power.
    """

    device: str
    at_ns: int
    power_w: float | None = None
    energy_j: float | None = None
    temperature_c: float | None = None
    clock_mhz: float | None = None
    throttle: str | None = None


class ReadFailedError(Exception):
    """An open source stopped answering; its text says why."""


class Source(Protocol):
    """A vendor's interface; the constructor does nothing, `open` may be called again after `close`."""

    name: str

    def open(self) -> Availability: ...

    def read(self) -> list[Reading]:
        """Every device once; ReadFailedError when the source is lost."""
        ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Unloadable:
    """Stands for an entry point whose module does not load."""

    name: str
    detail: str

    def open(self) -> Availability:
        return Availability(status=Status.UNSUPPORTED, detail=self.detail)

    def read(self) -> list[Reading]:
        return []

    def close(self) -> None: ...


def sources() -> list[Source]:
    """A new source of every installed kind, by name."""
    out: list[Source] = []
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            out.append(point.load()())
        except (ImportError, AttributeError) as error:
            out.append(Unloadable(point.name, f"{point.value} does not load: {error}"))
    return out


def best_word(statuses: Sequence[Status]) -> Status:
    """One status for a machine: available if anything is, else the one that a person can mend soonest."""
    order = (Status.AVAILABLE, Status.NO_PERMISSION, Status.UNSUPPORTED)
    return next((status for status in order if status in statuses), Status.UNAVAILABLE)
