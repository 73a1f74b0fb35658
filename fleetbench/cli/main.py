"""The commands, and the only place that exits: what went wrong becomes a message and an exit code."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from fleetbench import __version__
from fleetbench.errors import FleetbenchError, InputError, UnusableEnvironmentError

FAILED, WRONG_INPUT, INTERRUPTED, UNUSABLE = 1, 2, 3, 4
EPILOG = """\b
Exit codes:
  0  every cell ok, or refused as planned
  1  some cells failed or are invalid (plan: something
     is refused; fit: it does not fit; prepare: one could not be made)
  2  the input is wrong
  3  interrupted; the same command goes on
  4  the environment is not usable
"""

COMMANDS = {
    "submit": ("fleetbench.cli.submit:submit", "Run a matrix, or go on with one."),
    "plan": ("fleetbench.cli.plan:plan", "Say what a matrix would run, and what is refused."),
    "fit": ("fleetbench.cli.fit:fit", "Say whether a model fits a GPU, part by part."),
    "prepare": ("fleetbench.cli.prepare:prepare", "Make the checkpoints that a matrix needs."),
    "bench": ("fleetbench.cli.bench:bench", "Measure a server that runs already."),
    "compare": ("fleetbench.cli.results:compare", "Compare recipes over batch and context."),
    "runs": ("fleetbench.cli.results:runs", "List the runs in the warehouse."),
    "sql": ("fleetbench.cli.results:sql", "Ask the warehouse."),
    "matrix": ("fleetbench.cli.matrix:matrix", "Check a matrix file; print its JSON Schema."),
    "doctor": ("fleetbench.cli.doctor:doctor", "Say what this machine has and lacks."),
}


class ReaderGoneError(Exception):
    """Who reads the output has what it wanted; a BrokenPipeError would have click exit with 1."""


class Lazy(click.Group):
    """Imports a command's module when it is used, so that help is instant."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error

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
    """Run the command that was typed, and exit with its code."""
    if sys.stderr is None:  # the next file that is opened would be file 2, and get what is said there
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - as long as the process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    code = UNUSABLE
    if sys.stdout is None:
        _say("the standard output is closed: leave it open, or send it to /dev/null")
    else:
        try:
            code = _run()
            sys.stdout.flush()
        except BrokenPipeError:  # the reader has what it wanted
            _forget_output()
        except OSError as error:
            if error.filename is not None:  # not of a stream
                raise
            _forget_output()
            code = UNUSABLE
            _say(f"the standard output cannot be written: {error.strerror}; free some room, or send it elsewhere")
    sys.exit(code)


def _forget_output() -> None:
    """What is left in the buffer goes nowhere, so that Python does not fail on it at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _say(sentence: str) -> None:
    click.echo(f"{click.style('error', fg='red', bold=True)}: {sentence}", err=True)


def _run() -> int:
    """Run the command that was typed; what it refuses is said, and is a code."""
    try:
        result: Any = cli.main(standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except ReaderGoneError:
        code = 0
    except click.exceptions.Exit as done:
        code = done.exit_code
    except click.ClickException as error:
        error.show()
        code = WRONG_INPUT
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        code = INTERRUPTED
    except FleetbenchError as error:
        for line in str(error).splitlines():
            _say(line)
        kinds = ((InputError, WRONG_INPUT), (UnusableEnvironmentError, UNUSABLE))
        code = next((code for kind, code in kinds if isinstance(error, kind)), FAILED)
    return code
