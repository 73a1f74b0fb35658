"""`fleetbench import`: other tools' results into the warehouse, and their lists of what to measure into matrices."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fleetbench.cli.options import format_option, store_option
from fleetbench.cli.values import Parsed
from fleetbench.errors import FleetbenchError, InputError

if TYPE_CHECKING:
    from rich.text import Text

    from fleetbench.report.result import Result
    from fleetbench.store.foreign.landing import Landed
    from fleetbench.store.url import BucketUrl

EPILOG = """\b
Examples:
  fleetbench import --list
  fleetbench import vllm results/*.json --given hardware=mi300x
  fleetbench import --matrix inferencex nvidia-master.yaml > matrix.yaml
"""
_COLUMNS = (
    "file",
    "run_id",
    "run",
    "records",
    "landed",
    "already",
    "unmapped",
    "not_said",
    "left_out",
    "not_valid",
    "error",
)

_COUNT_MOST = 100_000
_NAME_MOST = 32
"""Characters of a file's name beside the other columns of a page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    """What became of a file: it is in the warehouse now, or why not."""

    file: Path
    landed: Landed | None = None
    error: str | None = None


def _fact(text: str) -> tuple[str, str | int]:
    from fleetbench.store.foreign.record import COUNTED, GIVEN

    name, _, value = text.partition("=")
    if name not in GIVEN or not value.strip():
        raise ValueError(f"{text!r} is not NAME=VALUE with a NAME of {', '.join(GIVEN)}")
    if name not in COUNTED:
        return name, value.strip()
    if not value.isdecimal() or not 0 <= int(value) <= _COUNT_MOST:
        raise ValueError(f"{name} is a whole number, not {value!r}")
    return name, int(value)


@click.command(name="import", epilog=EPILOG)
@click.argument("origin", required=False, metavar="[FORMAT]")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False), metavar="[FILE]...")
@click.option("--list", "listed", is_flag=True, help="List the formats, and what each reads.")
@click.option("--matrix", "as_matrix", is_flag=True, help="FILE lists what to measure: print it as a matrix.")
@click.option("--source", metavar="URL", help="Where FILE is from.  [default: its name]")
@click.option("--licence", metavar="TEXT", help="Under which its publisher gives it.  [default: as the format says]")
@click.option(
    "--given",
    multiple=True,
    type=Parsed("given", _fact),
    metavar="NAME=VALUE",
    help="What FILE does not say: hardware=mi300x, engine=vllm, gpus=8, ...; may be repeated.",
)
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="With --matrix: write it there.")
@store_option
@format_option
def import_(
    origin: str | None,
    files: tuple[Path, ...],
    *,
    listed: bool,
    as_matrix: bool,
    source: str | None,
    licence: str | None,
    given: tuple[tuple[str, str | int], ...],
    output: Path | None,
    warehouse: Path | BucketUrl,
    form: str,
) -> None:
    """Take in results that other tools measured, beside your own.

    Each FILE, packed by gzip or not, becomes a run of its own, or nothing where a record is broken; a FILE that is
    there already changes nothing. Names that the catalog does not know stay as they are, counted and listed.
    """
    if listed:
        _list(form)
        return
    _check(origin, files, source=source, output=output, as_matrix=as_matrix)
    if as_matrix:
        _convert(str(origin), files[0], output)
        return
    from fleetbench.matrix.document import printable

    outcomes = _land(str(origin), files, warehouse, source=source, licence=licence, given=dict(given))
    _show(outcomes, form)
    if broken := tuple(printable(f"{one.file}: {one.error}") for one in outcomes if one.error):
        raise InputError(broken)


def _check(
    origin: str | None, files: tuple[Path, ...], *, source: str | None, output: Path | None, as_matrix: bool
) -> None:
    if origin is None:
        raise click.UsageError("Missing argument 'FORMAT': `fleetbench import --list` says which there are.")
    if not files:
        raise click.UsageError("Missing argument 'FILE...': what is to be taken in.")
    if source is not None and len(files) > 1:
        raise click.UsageError("--source is of one file: give each its own call.")
    if output is not None and not as_matrix:
        raise click.UsageError("--output goes with --matrix: results go into the warehouse.")
    if as_matrix and len(files) > 1:
        raise click.UsageError("--matrix takes one FILE: give each its own call.")


def _list(form: str) -> None:
    from fleetbench.cli.output import show
    from fleetbench.report.result import Result
    from fleetbench.store.foreign import registry

    rows = []
    for name in registry.names():
        try:
            rows.append((name, registry.reader(name).about))
        except FleetbenchError as error:
            rows.append((name, str(error)))
    show(Result(columns=("format", "reads"), rows=tuple(rows)), form)


def _land(
    origin: str,
    files: tuple[Path, ...],
    place: Path | BucketUrl,
    *,
    source: str | None,
    licence: str | None,
    given: dict[str, str | int],
) -> list[_Outcome]:
    """Each file by itself: what is wrong with one keeps no other out."""
    from fleetbench.store.commit import Warehouse
    from fleetbench.store.foreign.landing import import_file
    from fleetbench.store.foreign.record import ForeignError
    from fleetbench.store.foreign.registry import reader
    from fleetbench.store.mirror import writing

    found = reader(origin)
    outcomes = []
    with writing(place) as folder:
        warehouse = Warehouse(folder)
        warehouse.create()
        for file in files:
            try:
                landed = import_file(file, found, warehouse, source=source, licence=licence, given=given)
                outcomes.append(_Outcome(file=file, landed=landed))
            except ForeignError as error:
                outcomes.append(_Outcome(file=file, error=str(error)))
    return outcomes


def _show(outcomes: list[_Outcome], form: str) -> None:
    from fleetbench.cli.output import show, show_lines

    result = _result(outcomes)
    if form in ("json", "csv"):
        show(result, form)
        return
    show(_brief(outcomes), form)
    if form == "table":
        show_lines(list(_remarks([one.landed for one in outcomes if one.landed])))


def _result(outcomes: list[_Outcome]) -> Result:
    """All of it, a row a file; names and sentences with the records that have them."""
    from fleetbench.report.result import Result

    rows: list[tuple[object, ...]] = []
    for one in outcomes:
        landed = one.landed
        if landed is None:
            rows.append((str(one.file), None, None, None, 0, False, *[None] * 4, one.error))
            continue
        unmapped = {f"{axis}: {name}": records for (axis, name), records in sorted(landed.unmapped.items())}
        new = 0 if landed.already else landed.records
        counts = (unmapped, dict(landed.not_said), dict(landed.left_out), dict(landed.not_valid))
        rows.append((str(one.file), landed.run_id, landed.run, landed.records, new, landed.already, *counts, None))
    return Result(columns=_COLUMNS, rows=tuple(rows))


def _brief(outcomes: list[_Outcome]) -> Result:
    from fleetbench.report.result import Result

    rows: list[tuple[object, ...]] = []
    for one in outcomes:
        landed = one.landed
        if landed is None:
            rows.append((_shortened(one.file.name), None, 0, 0, None, None))
            continue
        new, there = (0, landed.records) if landed.already else (landed.records, 0)
        rows.append((_shortened(one.file.name), landed.records, new, there, len(landed.unmapped), landed.run_id))
    labels = ("file", "records", "landed", "there", "unmapped", "run_id")
    return Result(columns=labels, rows=tuple(rows))


def _shortened(name: str) -> str:
    """The end of a long name, which tells files of one series apart."""
    return name if len(name) <= _NAME_MOST else f"…{name[1 - _NAME_MOST :]}"


def _remarks(landed: list[Landed]) -> list[Text]:
    """What of all files together is not as it was, by how many records."""
    from rich.text import Text

    from fleetbench.matrix.document import printable

    unmapped: Counter[str] = Counter()
    not_said: Counter[str] = Counter()
    unheard: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    not_valid: Counter[str] = Counter()
    for one in landed:
        unmapped.update({f"{axis} {name}": records for (axis, name), records in one.unmapped.items()})
        not_said.update({str(axis): records for axis, records in one.not_said.items()})
        unheard.update(dict.fromkeys(one.unheard, one.records))
        left_out.update(one.left_out)
        not_valid.update(one.not_valid)
    sections = (
        ("Names that the catalog does not know, kept as they are, by records:", unmapped),
        ("Not said, so unknown, by records:", not_said),
        ("Imported before, so not changed by what is said now, by records:", unheard),
        ("Left out, by records:", left_out),
        ("Not to be compared, by records:", not_valid),
    )
    return [
        line
        for title, counted in sections
        if counted
        for line in (
            Text(f"\n{title}", style="bold"),
            *(Text(f"  {records:>6,}  {printable(what)}") for what, records in counted.most_common()),
        )
    ]


def _convert(origin: str, file: Path, output: Path | None) -> None:
    """The matrix on stdout, what it leaves out in its head; or in a file, and that on stdout."""
    from fleetbench.matrix.document import printable
    from fleetbench.report import place
    from fleetbench.store.foreign.record import ForeignError, Lists
    from fleetbench.store.foreign.registry import reader

    if output is not None and str(output) != "-":
        place.check(output, "--output")
    found = reader(origin)
    if not isinstance(found, Lists):
        raise InputError((f"{origin} has no list of what to measure that could become a matrix: inferencex has",))
    try:
        converted = found.matrix(file)
    except ForeignError as error:
        raise InputError((printable(f"{file}: {error}"),)) from error
    text = converted.text(file.name)
    if output is None or str(output) == "-":
        click.echo(text, nl=False)
        return
    place.replace(output, text.encode(), "--output")
    click.echo(f"{output}: {converted.points:,} points of {file.name}")
    for why, points in converted.left_out.items():
        click.echo(f"left out: {points:>5,} points, {printable(why)}")
