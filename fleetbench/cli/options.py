"""Options that several commands share, declared once."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click

from fleetbench.errors import InputError
from fleetbench.report.filters import Filters
from fleetbench.store.url import BucketUrl, is_bucket, parsed

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


class Moment(click.ParamType[datetime]):
    """A day or a time of one, in UTC unless it names its zone; the value has none and is UTC."""

    name = "time"

    def __init__(self, *, end: bool = False) -> None:
        self._end = end
        """A day without a time means its end: the next one's beginning."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        text = str(value).strip()
        try:
            at = datetime.fromisoformat(text)
            if self._end and len(text) <= _DAY:
                at += timedelta(days=1)
            return at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no time: give a day, as in 2026-11-30, or 2026-11-30T06:00.", param, ctx)


_DAY = len("2026-11-30")


_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:/")


class Folder(click.ParamType[Path]):
    """A folder that need not be there yet; DuckDB wants its name as UTF-8."""

    name = "folder"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        text = _given(self, str(value), param, ctx)
        if is_bucket(text):
            self.fail(
                "this command works in a folder; bench and import write to s3://, and all that reads does.", param, ctx
            )
        if _URL.match(text):
            self.fail(
                f"{text!r} is no folder: give a path, or s3://BUCKET/PREFIX where a bucket may stand.", param, ctx
            )
        folder = Path(text)
        try:
            if folder.is_file():
                self.fail(f"{str(folder)!r} is a file.", param, ctx)
            there = folder.is_dir()
        except OSError as error:  # too long a name, or no right to look
            self.fail(f"{str(folder)[:80]!r} cannot be used: {error.strerror}.", param, ctx)
        if there and not os.access(folder, os.R_OK | os.X_OK):
            self.fail(f"{str(folder)!r} cannot be read: see whose it is.", param, ctx)
        return folder


class Store(click.ParamType["Path | BucketUrl"]):
    """A folder, or s3://BUCKET/PREFIX; nobody is asked yet whether there is such a bucket."""

    name = "store"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | BucketUrl:
        if isinstance(value, BucketUrl):
            return value
        text = _given(self, str(value), param, ctx)
        try:
            found = parsed(text)
        except InputError as error:
            self.fail(f"{error}.", param, ctx)
        return Folder().convert(found, param, ctx) if isinstance(found, Path) else found


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


def store_option(command: Command) -> Command:
    """--warehouse of commands for which it may be a bucket too."""
    return click.option(
        "--warehouse",
        type=Store(),
        envvar="FLEETBENCH_WAREHOUSE",
        default=Path("fleetbench-data"),
        metavar="DIR|s3://...",
        help="Folder or bucket of the results; or set FLEETBENCH_WAREHOUSE.  [default: ./fleetbench-data]",
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


def filter_options(command: Command) -> Command:
    """--hardware, --recipe, --since, --until; the command gets them as one `filters`."""

    @functools.wraps(command)
    def with_filters(
        *args: Any,
        hardware: tuple[str, ...],
        recipe: tuple[str, ...],
        since: datetime | None,
        until: datetime | None,
        **others: Any,
    ) -> Any:
        asked = Filters(hardware=hardware, recipe=recipe, since=since, until=until)
        return command(*args, filters=asked, **others)

    options = (
        click.option(
            "--hardware", multiple=True, type=Sql(), metavar="TAG", help="Only cells of this hardware; may be repeated."
        ),
        click.option(
            "--recipe", multiple=True, type=Sql(), metavar="NAME", help="Only cells of this recipe; likewise."
        ),
        click.option(
            "--since", type=Moment(), metavar="TIME", help="Only runs that were submitted then or later, UTC."
        ),
        click.option(
            "--until", type=Moment(end=True), metavar="TIME", help="Only runs submitted before; a day counts whole."
        ),
    )
    for option in reversed(options):
        with_filters = option(with_filters)
    return with_filters  # type: ignore[return-value]  # functools.wraps: the same command with other parameters
