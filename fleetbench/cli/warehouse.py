"""`fleetbench warehouse`: the files behind the tables."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from fleetbench.cli.grouped import Lazy
from fleetbench.cli.options import Duration, format_option, store_option
from fleetbench.store.url import BucketUrl

FAILED = 1
DAY_S = 86_400.0
COMPACT_EXAMPLES = """\b
Examples:
  fleetbench warehouse compact
  fleetbench warehouse compact --drop-raw-after 365
"""
VERIFY_EXAMPLES = """\b
Example:
  fleetbench warehouse verify --warehouse /srv/results
"""
OPEN_EXAMPLES = """\b
Examples:
  fleetbench warehouse open
  fleetbench warehouse open --output init.sql && duckdb -init init.sql
"""
NO_DUCKDB = "there is no duckdb command here: pip install duckdb-cli, or write the script with --output FILE"
COMMANDS = {
    "open": ("fleetbench.cli.warehouse:open_", "Open it in DuckDB's own command line."),
    "compact": ("fleetbench.cli.warehouse:compact", "Make few large files of many small ones."),
    "verify": ("fleetbench.cli.warehouse:verify", "Read every byte, and say what is not as it was."),
}


@click.command(cls=Lazy, table=COMMANDS)
def warehouse() -> None:
    """Look after the files of a warehouse.

    Every trial lands as small files of its own; a compaction, say once a night, makes queries quick again.
    """


@click.command(epilog=COMPACT_EXAMPLES)
@click.option(
    "--grace",
    "grace_s",
    type=Duration(),
    default="1h",
    show_default=True,
    metavar="TIME",
    help="How long files stay that a reader may still hold.",
)
@click.option(
    "--drop-raw-after",
    "drop_days",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="Of runs older than that keep trials and tables, and no rows of single requests, readings and metrics.",
)
@store_option
@format_option
def compact(grace_s: float, drop_days: float | None, warehouse: Path | BucketUrl, form: str) -> None:
    """Make few large files of the many that landed.

    Safe while others write and read; killed at any moment it leaves everything as it was. A second time there is
    nothing to do.
    """
    from fleetbench.cli.output import show
    from fleetbench.report.result import Result
    from fleetbench.store.compact import compact as make
    from fleetbench.store.connection import existing
    from fleetbench.store.mirror import writing

    drop_raw_after_s = None if drop_days is None else drop_days * DAY_S
    with writing(warehouse) as folder:
        done = make(existing(folder), grace_s=grace_s, drop_raw_after_s=drop_raw_after_s)
    if form != "table":
        names = ("manifest", "absorbed", "written", "removed", "left", "dropped")
        row = (done.number, done.absorbed, done.written, done.removed, done.left, list(done.dropped))
        show(Result(columns=names, rows=(row,)), form)
        return
    if done.absorbed:
        click.echo(f"{warehouse}: {done.absorbed:,} landed files are {done.written} now (manifest {done.number})")
    else:
        click.echo(f"{warehouse}: nothing new to take up")
    for count, text in (
        (done.removed, "files that were left out before, and no reader holds any more, are removed"),
        (len(done.dropped), "runs have no rows of single requests any more"),
        (done.left, "files stay as they landed: damaged, or of trials that are not committed"),
    ):
        if count:
            click.echo(f"  {count:,} {text}")


@click.command(epilog=VERIFY_EXAMPLES)
@store_option
@format_option
def verify(warehouse: Path | BucketUrl, form: str) -> int:
    """Read every byte, and say what is not as it was written.

    Hashes, footers, types and checksums of every file, rows that belong together, and the checks in SQL. Exit 1 where
    something is wrong.
    """
    from fleetbench.cli.output import show
    from fleetbench.report.result import Result
    from fleetbench.store.mirror import local
    from fleetbench.store.verify import verify as look

    found = look(local(warehouse, anew=True))
    rows = tuple((one.kind, one.where, one.why) for one in found.findings)
    wrong = Result(columns=("kind", "where", "why"), rows=rows)
    if form != "table":
        show(wrong, form)
        return FAILED if rows else 0
    click.echo(f"{warehouse}: {found.files:,} files, {found.bytes / 1e6:,.1f} MB, every byte read")
    if found.uncommitted:
        click.echo(f"  {found.uncommitted:,} of them belong to trials that were never committed, and count nowhere")
    if not rows:
        click.echo("  all as it was written")
        return 0
    for one in found.findings:
        click.echo(f"  {click.style(one.kind, fg='red')} {one.where}\n    {one.why}")
    return FAILED


@click.command(name="open", epilog=OPEN_EXAMPLES)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the script there, and start nothing; `-` is stdout.",
)
@store_option
def open_(output: Path | None, warehouse: Path | BucketUrl) -> None:
    """Open the warehouse in DuckDB's own command line.

    A script of SQL makes the same views there, over the same files as they are now, without Python.
    """
    import os
    import shutil
    import tempfile

    from fleetbench.errors import UnusableEnvironmentError
    from fleetbench.report import place
    from fleetbench.store.mirror import local
    from fleetbench.store.script import script

    if output is not None and str(output) != "-":
        place.check(output, "--output")
    text = script(local(warehouse))
    if str(output) == "-":
        click.echo(text, nl=False)
        return
    if output is not None:
        place.replace(output, text.encode(), "--output")
        click.echo(f"{output}: duckdb -init {shlex.quote(str(output))}")
        return
    duckdb = shutil.which("duckdb") or shutil.which("duckdb", path=str(Path(sys.executable).parent))
    if duckdb is None:
        raise UnusableEnvironmentError(NO_DUCKDB)
    with tempfile.NamedTemporaryFile("w", prefix="fleetbench-", suffix=".sql", encoding="utf-8", delete=False) as file:
        file.write(text)
        file.write(f".shell rm -f {shlex.quote(file.name)}\n")
    sys.stdout.flush()
    os.execv(duckdb, [duckdb, "-init", file.name])  # noqa: S606 - a program of the user's, no shell
