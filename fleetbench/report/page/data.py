"""Rows as they go into a page: named columns, numbers to four digits, text once."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

from fleetbench.report.cell import written
from fleetbench.report.result import Row

DIGITS = 4


def plain(value: object) -> object:
    """For JSON: floats to so many significant digits, times to the second, no number that JSON lacks."""
    match value:
        case bool():
            return value
        case float():
            return rounded(value)
        case dt.datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case _:
            return written(value)


def rounded(value: float) -> float | None:
    """To the significant digits of a page; None for what is no number."""
    if not math.isfinite(value):
        return None
    if value == 0:
        return 0.0
    short = round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
    return int(short) if short == int(short) else short


def columnar(rows: Sequence[Row], names: Sequence[str]) -> dict[str, object]:
    """These columns: a list of values for each or, where text repeats, each text once and the number of it by row."""
    return {"rows": len(rows), "columns": {name: _column([row.get(name) for row in rows]) for name in names}}


def _column(values: Sequence[object]) -> object:
    short = [plain(value) for value in values]
    if any(isinstance(value, str) for value in short):
        texts: dict[object, int] = {}
        for value in short:
            if isinstance(value, str | None):
                texts.setdefault(value, len(texts))
        if all(isinstance(value, str | None) for value in short):
            return {"texts": list(texts), "at": [texts[value] for value in short]}
    if short and all(value == short[0] for value in short):
        return {"same": short[0]}
    return short
