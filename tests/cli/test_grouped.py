from __future__ import annotations

import click
from click.testing import CliRunner

from fleetbench.cli.grouped import Grouped, under
from fleetbench.cli.main import cli

load, client = under("The load"), under("The client")


@click.command(cls=Grouped)
@load("--batch", type=click.IntRange(1), metavar="N", help="In flight.")
@client("--timeout", metavar="S", help="Of a request.")
@load("--rate", metavar="R", help="Per second.")
@click.option("--plain", is_flag=True, help="Without a heading.")
def command(**_: object) -> None:
    """Does something."""


def test_options_stand_under_their_headings_in_the_order_of_their_declaration() -> None:
    lines = CliRunner().invoke(command, ["--help"]).output.split("\n\n")[2:]
    shown = [[line.split()[0] for line in part.splitlines() if line.strip()] for part in lines]
    assert shown == [["The", "--batch", "--rate"], ["The", "--timeout"], ["Other:", "--plain", "--help"]]
    assert [part.splitlines()[0] for part in lines] == ["The load:", "The client:", "Other:"]


def test_a_range_is_told_by_the_mistake_and_not_by_the_help() -> None:
    assert "x>=1" not in CliRunner().invoke(command, ["--help"]).output
    assert "x>=1" in CliRunner().invoke(command, ["--batch", "0"]).output


def test_the_help_of_bench_fits_80_columns_and_shows_every_option() -> None:
    text = CliRunner().invoke(cli, ["bench", "--help"], terminal_width=80, max_content_width=80).output
    assert max(map(len, text.splitlines())) <= 80
    bench = cli.get_command(click.Context(cli), "bench")
    assert bench is not None
    names = [option for param in bench.params if isinstance(param, click.Option) for option in param.opts]
    assert [name for name in names if name not in text] == []
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["The load:", "What is asked:", "The client:", "The result:", "Other:"]
