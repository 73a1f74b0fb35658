"""What a controller tells of its run to whoever asks, and the form that it has between two processes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Protocol

from pydantic import TypeAdapter, ValidationError

from fleetbench.errors import FleetbenchError
from fleetbench.fleet.control.status import RunStatus

_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LONGEST = 2000
"""Characters of a line: an engine's complaint may be a whole log."""


class Told(Protocol):
    """Where a controller tells what it does, and hears that it is to stop; none of it may hold it up or fail."""

    def tell(self, status: RunStatus) -> None: ...

    def say(self, line: str) -> None: ...

    def cancel_wanted(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Everywhere:
    """Several places at once: one that asks for a stop is enough."""

    places: tuple[Told, ...]

    def tell(self, status: RunStatus) -> None:
        for place in self.places:
            place.tell(status)

    def say(self, line: str) -> None:
        for place in self.places:
            place.say(line)

    def cancel_wanted(self) -> bool:
        return any(place.cancel_wanted() for place in self.places)


class BrokenStatusError(FleetbenchError):
    """A status that is none; its text is a sentence."""


def encode(status: RunStatus) -> str:
    """The status as JSON, on one line."""
    return _form().dump_json(status).decode()


def decode(text: str | bytes) -> RunStatus:
    """The status that was encoded; keys of a later version are left out.

    Raises:
        BrokenStatusError: it is none.
    """
    try:
        return _form().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BrokenStatusError(f"it is no status of a run ({f'{where}: ' if where else ''}{first['msg']})") from error


@cache
def _form() -> TypeAdapter[RunStatus]:
    return TypeAdapter(RunStatus)


def line_of(text: str, at: datetime | None = None) -> str:
    """One line of a log: when, in UTC, and what, without colours or anything that a terminal would obey."""
    plain = _CONTROLS.sub(" ", _COLOURS.sub("", text)).rstrip()
    if len(plain) > _LONGEST:
        plain = plain[: _LONGEST - 2] + " …"
    return f"{at or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} {plain}"
