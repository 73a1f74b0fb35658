"""Rows on stdout: the console that results are printed to."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

from rich.console import Console
from rich.text import Text

from fleetbench.report.bench import render as render_bench
from fleetbench.report.result import PAGE, Panel, Result
from fleetbench.report.table import Format, render, render_panels


def show(result: Result, form: str, *, keys: int = 1) -> None:
    render(result, cast("Format", form), _console(), keys=keys)


def show_lines(lines: Sequence[Text]) -> None:
    """Sentences and what is laid out already: wrapped at a page's width where it must be."""
    console = _console()
    for line in lines:
        console.print(line)


def show_panels(panels: Sequence[Panel], form: str) -> None:
    render_panels(panels, cast("Format", form), _console())


def show_bench(found: Mapping[str, Any], form: str) -> None:
    render_bench(found, cast("Literal['table', 'csv', 'markdown']", form), _console())


class _Results(Console):
    """A console whose reader may leave: rich by itself would exit with 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console() -> Console:
    return _Results(highlight=False, width=None if sys.stdout.isatty() else PAGE)
