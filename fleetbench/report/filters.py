"""Which rows an analyst wants, by hardware, recipe and the run's time: one SQL condition over any mart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What is asked for; empty or None where all of it is.

    hardware, recipe: names, any one of them. since: a run that was submitted then or later; until: before it. Both
    without a zone, in UTC, as all times of the warehouse.
    """

    hardware: tuple[str, ...] = ()
    recipe: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def __bool__(self) -> bool:
        return self != Filters()

    @property
    def condition(self) -> str:
        """SQL over a row with hardware, recipe and submitted_at, as all marts have them; `true` where all is asked for.

        Every value stands in it as an escaped literal, so no name ends it.
        """
        parts = [
            f"{column} IN ({', '.join(map(_literal, names))})"
            for column, names in (("hardware", self.hardware), ("recipe", self.recipe))
            if names
        ]
        return " AND ".join([*parts, *self._times]) or "true"

    @property
    def of_runs(self) -> str:
        """SQL over a row with submitted_at: the times alone."""
        return " AND ".join(self._times) or "true"

    @property
    def said(self) -> str:
        """As the options that ask for it: for messages."""
        return " ".join(self._options())

    @property
    def _times(self) -> Sequence[str]:
        bounds = ((self.since, ">="), (self.until, "<"))
        return [f"submitted_at {sign} TIMESTAMP '{at.isoformat(sep=' ')}'" for at, sign in bounds if at]

    def _options(self) -> Iterator[str]:
        yield from (f"--hardware {name}" for name in self.hardware)
        yield from (f"--recipe {name}" for name in self.recipe)
        for option, at in (("since", self.since), ("until", self.until)):
            if at:
                yield f"--{option} {at.isoformat(timespec='seconds')}"


ALL = Filters()


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
