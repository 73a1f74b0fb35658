"""Writes results as table, JSON, CSV or Markdown; wide tables become panels that repeat their keys."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetbench.report.cell import MISSING, column_shown, numeric, shown, written
from fleetbench.report.result import Panel, Result, narrow, split

Format = Literal["table", "json", "csv", "markdown"]
FORMATS: tuple[Format, ...] = ("table", "json", "csv", "markdown")
GAP = 2


def render(result: Result, fmt: Format, console: Console, *, keys: int = 1) -> None:
    """Write one result to the console; `keys` leading columns are repeated where a table is split."""
    match fmt:
        case "json":
            _raw(console, json.dumps(_records(result), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        case "csv":
            _raw(console, _csv(result))
        case "markdown":
            _raw(console, _markdown(result))
        case "table":
            _table(result, console, keys)


def render_panels(panels: Sequence[Panel], fmt: Format, console: Console) -> None:
    """Write a report; JSON is a list of panels.

    Raises:
        ValueError: several tables are no CSV: `render` a Result of all their rows.
    """
    if fmt == "csv":
        raise ValueError(fmt)
    if fmt == "json":
        said = [
            {"name": panel.name, "title": panel.title, "rows": _records(panel.result), "notes": list(panel.notes)}
            for panel in panels
        ]
        _raw(console, json.dumps(said, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
        return
    for number, panel in enumerate(panel for panel in panels if not panel.programs):
        if number:
            _raw(console, "\n")
        if panel.line is not None:
            console.print(Text(panel.line, style="bold red" if panel.alarm else ""), soft_wrap=fmt == "markdown")
        elif fmt == "markdown":
            notes = "".join(f"\n{_escaped(note)}\n" for note in panel.notes)
            _raw(console, f"### {_escaped(panel.title)}\n\n{_markdown(panel.visible)}{notes}")
        else:
            console.print(Text(panel.title, style="bold"))
            _table(panel.visible, console, panel.keys)
            for note in panel.notes:
                console.print(Text(note, style="dim"))


def _table(result: Result, console: Console, keys: int) -> None:
    if not result.rows:
        if result.columns:
            console.print(Text(f"no rows of {', '.join(shown(label) for label in result.headers)}", style="dim"))
        return
    cells = _texts(result)
    headers = [shown(label) for label in result.headers]
    natural = [
        max([cell_len(header), *(cell_len(row[column]) for row in cells)]) for column, header in enumerate(headers)
    ]
    if sum(natural) + GAP * (len(natural) - 1) <= console.width:
        keys = len(natural)
    widths = narrow(natural, keys=keys, total=console.width, gap=GAP) if keys < len(natural) else natural
    right = [_is_number_column(result, column) for column in range(len(headers))]
    tied = [number for number, form in enumerate(result.forms or ()) if form is not None and form.tied]
    for number, columns in enumerate(split(widths, keys=keys, total=console.width, gap=GAP, tied=tied)):
        if number:
            console.print()
        console.print(_panel(headers, cells, columns, widths, right))


def _panel(
    headers: Sequence[str],
    cells: Sequence[Sequence[str]],
    columns: Sequence[int],
    widths: Sequence[int],
    right: Sequence[bool],
) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_edge=False)
    for column in columns:
        table.add_column(
            Text(headers[column]),
            justify="right" if right[column] else "left",
            width=widths[column],
            overflow="fold",
        )
    for row in cells:
        table.add_row(*(Text(row[column]) for column in columns))
    return table


def _texts(result: Result) -> list[list[str]]:
    """The rows as they are shown, each column by its form."""
    forms = result.forms or (None,) * len(result.columns)
    by_column = [column_shown([row[n] for row in result.rows], form) for n, form in enumerate(forms)]
    return [[texts[number] for texts in by_column] for number in range(len(result.rows))]


def _is_number_column(result: Result, column: int) -> bool:
    values = [row[column] for row in result.rows if row[column] is not None]
    return all(numeric(value) for value in values)


def _records(result: Result) -> list[dict[str, object]]:
    return [dict(zip(result.columns, map(written, row), strict=True)) for row in result.rows]


def _csv(result: Result) -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(result.columns)
    for row in result.rows:
        writer.writerow([_field(written(value)) for value in row])
    return sink.getvalue()


def _field(value: object) -> object:
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value


def _markdown(result: Result) -> str:
    marks = ["--:" if _is_number_column(result, n) else ":--" for n in range(len(result.columns))]
    lines = [[_escaped(header) for header in result.headers], marks]
    lines += [[_escaped(text) for text in row] for row in _texts(result)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _escaped(text: str) -> str:
    for sign in "\\|`*_<[":
        text = text.replace(sign, f"\\{sign}")
    return text or MISSING


def _raw(console: Console, text: str) -> None:
    """Exactly these characters: no markup, no wrapping at the console's width."""
    console.file.write(text)
