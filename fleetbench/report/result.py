"""What a report is made of: rows under named columns, and how columns share a narrow page."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len

from fleetbench.report.cell import Form

PAGE = 80
"""Characters of a line that a report is made for."""


Row = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Rows of a query; by column, `labels` are the short names in tables and `forms` how its numbers look there."""

    columns: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    labels: tuple[str, ...] | None = None
    forms: tuple[Form | None, ...] | None = None

    @property
    def headers(self) -> tuple[str, ...]:
        return self.labels or self.columns


def grouped(result: Result, names: Sequence[str]) -> list[list[Row]]:
    """The rows by column, those together that stand beside each other and agree in `names`."""
    rows: list[Row] = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    groups = itertools.groupby(rows, key=lambda row: [row[name] for name in names])
    return [list(group) for _, group in groups]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One table of a report.

    name: what it is, for programs: it stays the same where a title changes.
    keys: the leading columns that say what a row is, repeated wherever the table is split.
    notes: sentences below it. line: said in place of the table where a person reads it.
    alarm: the line is a warning. hidden: columns for programs only. programs: all of it is, for it holds no number.
    """

    name: str
    title: str
    result: Result
    keys: int
    notes: tuple[str, ...] = ()
    line: str | None = None
    alarm: bool = False
    hidden: tuple[str, ...] = ()
    programs: bool = False

    @property
    def visible(self) -> Result:
        shown = [n for n, column in enumerate(self.result.columns) if column not in self.hidden]
        return Result(
            columns=tuple(self.result.columns[n] for n in shown),
            labels=tuple(self.result.headers[n] for n in shown),
            forms=self.result.forms and tuple(self.result.forms[n] for n in shown),
            rows=tuple(tuple(row[n] for n in shown) for row in self.result.rows),
        )


def titled(what: str, *subject: str, row: Mapping[str, object]) -> tuple[str, tuple[str, ...]]:
    """A panel's title, and its notes: the engine's version moves there where the title is wider than a page.

    Args:
        what: the panel shows.
        subject: and of what.
        row: names engine, hardware, and engine_version, which is None where nobody said it.
    """
    engine, version, hardware = (row[name] for name in ("engine", "engine_version", "hardware"))
    named = f"{engine} {version}" if version else str(engine)
    whole = f"{what}: {', '.join((*subject, named, str(hardware)))}"
    if cell_len(whole) <= PAGE:
        return whole, ()
    return f"{what}: {', '.join((*subject, str(engine), str(hardware)))}", (f"{named}.",) if version else ()


def split(widths: Sequence[int], *, keys: int, total: int, gap: int, tied: Collection[int] = ()) -> list[list[int]]:
    """Columns of each panel so that it is at most `total` wide; the first `keys` are in every one.

    Args:
        widths: of every column, in characters.
        keys: leading columns to repeat.
        total: of the page.
        gap: characters between two columns.
        tied: columns that stay beside the one before them, where a page has room for both.

    Returns:
        Column numbers by panel; every column that is no key is in exactly one. A column that does not fit
        beside the keys stands beside them all the same: the caller has to narrow it.
    """
    lead = list(range(min(keys, len(widths))))
    room = total - max(0, sum(widths[column] + gap for column in lead) - gap)
    panels: list[list[int]] = []
    used = 0
    for column in range(len(lead), len(widths)):
        need = widths[column] + (gap if lead or used else 0)
        together = need + sum(gap + widths[after] for after in _tied_after(column, tied, len(widths)))
        if not panels or used + (together if together <= room else need) > room:
            panels.append([*lead])
            used, need = 0, widths[column] + (gap if lead else 0)
        panels[-1].append(column)
        used += need
    return panels or ([lead] if lead else [])


def _tied_after(column: int, tied: Collection[int], columns: int) -> Iterator[int]:
    return itertools.takewhile(lambda after: after in tied, range(column + 1, columns))


def narrow(widths: Sequence[int], *, keys: int, total: int, gap: int, least: int = 6) -> list[int]:
    """Widths at which the keys and any one other column fit on the page, the widest cut first.

    Nothing gets narrower than `least`, or than it is.
    """
    cut = list(widths)
    lead = range(min(keys, len(cut)))
    others = range(len(lead), len(cut))
    need = min(max((cut[column] for column in others), default=-gap), total // 3)
    while lead and sum(cut[column] + gap for column in lead) + need > total:
        widest = max(lead, key=lambda column: cut[column])
        if cut[widest] <= least:
            break
        cut[widest] -= 1
    room = total - sum(cut[column] + gap for column in lead)
    for column in others:
        cut[column] = min(cut[column], max(room, min(least, cut[column])))
    return cut
