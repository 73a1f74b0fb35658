"""The commands, and the only place that exits: what went wrong becomes a message and an exit code."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import click

from fleetbench import __version__
from fleetbench.errors import FleetbenchError, InputError, UnusableEnvironmentError

EPILOG = """\b
Exit codes:
  0  every cell ok, or refused as planned
  1  some cells failed or are invalid (plan: something is refused)
  2  the input is wrong
  3  interrupted; the same command goes on
  4  the environment is not usable
"""

COMMANDS = {
    "submit": ("fleetbench.cli.submit:submit", "Run a matrix, or go on with one."),
    "plan": ("fleetbench.cli.plan:plan", "Say what a matrix would run, and what is refused."),
    "compare": ("fleetbench.cli.results:compare", "Compare recipes over batch and context."),
    "runs": ("fleetbench.cli.results:runs", "List the runs in the warehouse."),
    "sql": ("fleetbench.cli.results:sql", "Ask the warehouse."),
    "matrix": ("fleetbench.cli.matrix:matrix", "Check a matrix file; print its JSON Schema."),
    "doctor": ("fleetbench.cli.doctor:doctor", "Say what this machine has and lacks."),
}


class Lazy(click.Group):
    """Imports a command's module when it is used, so that help is instant."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module, name = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from difflib import get_close_matches

        near = get_close_matches(args[0], COMMANDS, n=1) if args else []
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = f" Did you mean {near[0]}?" if near else ""
            ctx.fail(f"No command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


@click.command(cls=Lazy, epilog=EPILOG, context_settings=SETTINGS)
@click.version_option(__version__, "-V", "--version", prog_name="fleetbench")
def cli() -> None:
    """Benchmark LLM inference across a GPU fleet.

    A matrix of models, formats, engines and loads becomes measured cells in Parquet, and tables that compare them.
    """


def main() -> None:
    """Entry point of the `fleetbench` command."""
    try:
        result: Any = cli.main(standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = 2
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = 3
    except BrokenPipeError:
        sys.stderr.close()
        code = 0
    except FleetbenchError as error:
        for line in str(error).splitlines():
            click.echo(f"{click.style('error', fg='red', bold=True)}: {line}", err=True)
        code = 2 if isinstance(error, InputError) else 4 if isinstance(error, UnusableEnvironmentError) else 1
    sys.exit(code)
