"""Options that several commands share, declared once."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

FORMATS = ("table", "json", "csv", "markdown")

matrix_argument = click.argument("matrix", type=click.Path(path_type=Path), metavar="MATRIX")


class Sql(click.ParamType[str]):
    """A piece of SQL: text, and some of it."""

    name = "sql"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return _given(self, str(value), param, ctx)


class Duration(click.ParamType[float]):
    """`15m`, `90s`, `1h30m`, or a number of seconds: what a matrix takes, though here a number is text as well."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from pydantic import TypeAdapter, ValidationError

        from fleetbench.matrix.fields import Seconds

        try:
            return TypeAdapter(Seconds).validate_python(_number(value))
        except ValidationError as error:
            self.fail(f"{value!r}: {error.errors()[0]['msg']}.", param, ctx)


def _number(value: Any) -> Any:
    """Of text that is one; all else stays as it is."""
    with suppress(TypeError, ValueError):
        return float(value)
    return value


class Folder(click.ParamType[Path]):
    """A folder that need not be there yet; DuckDB wants its name as UTF-8."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        folder = Path(_given(self, str(value), param, ctx))
        try:
            if folder.is_file():
                self.fail(f"{str(folder)!r} is a file.", param, ctx)
            there = folder.is_dir()
        except OSError as error:  # too long a name, or no right to look
            self.fail(f"{str(folder)[:80]!r} cannot be used: {error.strerror}.", param, ctx)
        if there and not os.access(folder, os.R_OK | os.X_OK):
            self.fail(f"{str(folder)!r} cannot be read: see whose it is.", param, ctx)
        return folder


def _given(kind: click.ParamType[Any], text: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
    if not text.strip():
        kind.fail("it is empty (leave it out, or give a value).", param, ctx)
    try:
        text.encode()
    except UnicodeEncodeError:
        kind.fail("it is not UTF-8.", param, ctx)
    return text


def warehouse_option(command: Command) -> Command:
    return click.option(
        "--warehouse",
        type=Folder(),
        envvar="FLEETBENCH_WAREHOUSE",
        default=Path("fleetbench-data"),
        metavar="DIR",
        help="Folder of the results; or set FLEETBENCH_WAREHOUSE.  [default: ./fleetbench-data]",
    )(command)


def address_option(command: Command) -> Command:
    return click.option(
        "--address",
        metavar="HOST:PORT|URL",
        help="Of the cluster's head: HOST:PORT on a machine of the cluster, http://HOST:8265 from anywhere.",
    )(command)


def token_option(command: Command) -> Command:
    return click.option(
        "--token",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Of the cluster, or set RAY_AUTH_TOKEN_PATH.  [default: ~/.config/fleetbench/token]",
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
