"""Options that several commands share, declared once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

FORMATS = ("table", "json", "csv", "markdown")

matrix_argument = click.argument("matrix", type=click.Path(path_type=Path), metavar="MATRIX")


def warehouse_option(command: Command) -> Command:
    return click.option(
        "--warehouse",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="FLEETBENCH_WAREHOUSE",
        default=Path("fleetbench-data"),
        show_default="./fleetbench-data",
        metavar="DIR",
        help="Folder of the results; or set FLEETBENCH_WAREHOUSE.",
    )(command)


def format_option(command: Command) -> Command:
    return click.option(
        "--format",
        "form",
        type=click.Choice(FORMATS),
        default="table",
        show_default=True,
        help="How rows are printed on stdout.",
    )(command)


def run_options(command: Command) -> Command:
    name = click.option("--run", "run", default="default", show_default=True, metavar="NAME", help="Name of the run.")
    new = click.option("--new", is_flag=True, help="Take a fresh run name and measure everything anew.")
    return name(new(command))
