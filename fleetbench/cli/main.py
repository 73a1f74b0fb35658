"""The commands, and the only place that exits: what went wrong becomes a message and an exit code."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import click

from fleetbench import __version__
from fleetbench.cli.grouped import Lazy
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
    "status": ("fleetbench.cli.status:status", "Say how runs stand that are being measured."),
    "watch": ("fleetbench.cli.watch:watch", "Follow a run that is being measured."),
    "logs": ("fleetbench.cli.logs:logs", "Print a run's log."),
    "cancel": ("fleetbench.cli.cancel:cancel", "Stop a run; what is measured is kept."),
    "plan": ("fleetbench.cli.plan:plan", "Say what a matrix would run, and what is refused."),
    "simulate": ("fleetbench.cli.simulate:simulate", "Run a matrix on a fleet that exists on paper."),
    "fit": ("fleetbench.cli.fit:fit", "Say whether a model fits a GPU, part by part."),
    "prepare": ("fleetbench.cli.prepare:prepare", "Make the checkpoints that a matrix needs."),
    "bench": ("fleetbench.cli.bench:bench", "Measure a server that runs already."),
    "compare": ("fleetbench.cli.results:compare", "Compare recipes over batch and context."),
    "parity": ("fleetbench.cli.parity:parity", "Judge what recipes lose against the reference."),
    "report": ("fleetbench.cli.report:report", "Write runs as one HTML file, and as pictures."),
    "runs": ("fleetbench.cli.results:runs", "List the runs in the warehouse."),
    "sql": ("fleetbench.cli.sql:sql", "Ask the warehouse."),
    "import": ("fleetbench.cli.importing:import_", "Take in what other tools measured."),
    "warehouse": ("fleetbench.cli.warehouse:warehouse", "Compact and verify the warehouse's files."),
    "matrix": ("fleetbench.cli.matrix:matrix", "Check a matrix file; print its JSON Schema."),
    "nodes": ("fleetbench.cli.nodes:nodes", "Show the fleet: what is tagged against what is there."),
    "node": ("fleetbench.cli.node:node", "Join this machine to a fleet; its settings."),
    "doctor": ("fleetbench.cli.doctor:doctor", "Say what this machine has and lacks."),
}


class ReaderGoneError(Exception):
    """Who reads the output has what it wanted; a BrokenPipeError would have click exit with 1."""


class _Commands(Lazy):
    """The whole command line: its reader may leave."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise ReaderGoneError from error


SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


@click.command(cls=_Commands, table=COMMANDS, epilog=EPILOG, context_settings=SETTINGS)
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
        say_error("the standard output is closed: leave it open, or send it to /dev/null")
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
            say_error(f"the standard output cannot be written: {error.strerror}; free some room, or send it elsewhere")
    sys.exit(code)


def _forget_output() -> None:
    """What is left in the buffer goes nowhere, so that Python does not fail on it at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def say_error(sentence: str) -> None:
    click.echo(f"{click.style('error', fg='red', bold=True)}: {sentence}", err=True)


def give_up(why: str) -> None:
    """End this process with a sentence where Ray keeps it from its own end; to be called by a thread."""
    say_error(why)
    sys.stderr.flush()
    os._exit(UNUSABLE)


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
            say_error(line)
        from fleetbench.store.write import StoreError

        kinds = ((InputError, WRONG_INPUT), ((UnusableEnvironmentError, StoreError), UNUSABLE))
        code = next((code for kind, code in kinds if isinstance(error, kind)), FAILED)
    return code
