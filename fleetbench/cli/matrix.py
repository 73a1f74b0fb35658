"""`fleetbench matrix`: check a file, print the JSON Schema for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fleetbench.cli.options import matrix_argument


@click.group()
def matrix() -> None:
    """Check a matrix file; print its JSON Schema."""


@matrix.command(short_help="Print the JSON Schema, for editors.")
def schema() -> None:
    """Print the JSON Schema of matrix files, for editors.

    In YAML editors: a first line `# yaml-language-server: $schema=FILE`.
    """
    from fleetbench.matrix.form import json_schema

    click.echo(json.dumps(json_schema(), indent=2, sort_keys=True))


@matrix.command(short_help="Report every mistake in a matrix file.")
@matrix_argument
def check(matrix: Path) -> None:
    """Report every mistake in MATRIX, each with its line; nothing is started."""
    from fleetbench.matrix.expand import count
    from fleetbench.matrix.read import read

    checked = read(matrix)
    click.echo(f"{matrix}: ok, {count(checked):,} cells ({checked.name})")
