"""One value as text: for people (an em dash for what is missing) and for programs."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

MISSING = "—"
MOST_DECIMALS = 6
_BREAKS = re.compile(r"\s*[\r\n\t\v\f\u2028\u2029]\s*")


def shown(value: object) -> str:  # noqa: PLR0911 - one line a type
    """For a table: numbers to three or four digits, one line, nothing that a terminal would obey."""
    match value:
        case None:
            return MISSING
        case bool():
            return "yes" if value else "no"
        case int():
            return str(value)
        case decimal.Decimal() if value.is_finite() and value == value.to_integral_value():
            return str(int(value))
        case float() | decimal.Decimal():
            return _number(float(value))
        case dt.datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case tuple() if hasattr(value, "nanoseconds"):  # an interval
            return ", ".join(f"{getattr(value, name)} {name}" for name in ("months", "days", "nanoseconds"))
        case list() | tuple():
            return ", ".join(shown(part) for part in value)
        case bytes():
            return value.hex()
        case _:
            return _plain(str(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How many decimals the numbers of a column have, all the same.

    decimals: so many, but none where no number of the column is below `whole_from`.
    digits: instead, as many decimals as give the smallest number but 0 so many significant digits.
    tied: a table that is split never parts it from the column before it.
    grouped: digits by thousands.
    """

    decimals: int = 0
    whole_from: float = math.inf
    digits: int | None = None
    tied: bool = False
    grouped: bool = False

    def decimals_for(self, values: Sequence[float]) -> int:
        sizes = [abs(value) for value in values if value]
        if self.digits is not None:
            least = math.floor(math.log10(min(sizes, default=1.0)))
            return min(max(self.digits - 1 - least, 0), MOST_DECIMALS)
        return 0 if sizes and min(sizes) >= self.whole_from else self.decimals


def column_shown(values: Sequence[object], form: Form | None) -> list[str]:
    """A whole column for a table: by its form, or without one each number by itself."""
    if form is None:
        return [shown(value) for value in values]
    numbers = [_finite(value) for value in values]
    decimals = form.decimals_for([number for number in numbers if number is not None])
    return [
        shown(value) if number is None else f"{number:{',' if form.grouped else ''}.{decimals}f}"
        for value, number in zip(values, numbers, strict=True)
    ]


def written(value: object) -> object:  # noqa: PLR0911 - one line a type
    """For JSON and CSV: as precise as it is; what is no number is missing."""
    match value:
        case None | bool() | int() | str():
            return value
        case decimal.Decimal():
            whole = value.is_finite() and value == value.to_integral_value()
            return written(int(value) if whole else float(value))
        case float():
            return value if math.isfinite(value) else None
        case dt.date() | dt.time():
            return value.isoformat()
        case tuple() if hasattr(value, "nanoseconds"):
            return shown(value)
        case list() | tuple():
            return [written(part) for part in value]
        case dict():
            return {str(key): written(part) for key, part in value.items()}
        case bytes():
            return value.hex()
        case _:
            return str(value)


def numeric(value: object) -> bool:
    return isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool)


def _finite(value: object) -> float | None:
    if isinstance(value, int | float | decimal.Decimal) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return None


def _number(value: float) -> str:
    if not math.isfinite(value):
        return MISSING
    size = abs(value)
    if size == 0:
        return "0"
    for least, digits in ((999.95, 0), (9.995, 1), (0.9995, 2), (0.1, 3)):
        if size >= least:
            return f"{value:.{digits}f}"
    return f"{value:.2g}"


def _plain(text: str) -> str:
    one_line = _BREAKS.sub(" ", text)
    return "".join(c if unicodedata.category(c)[0] != "C" else "�" for c in one_line)
