"""Output that cannot be shown or written: no traceback, and an exit code that is true."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.shell import Said
from tests.small import write_matrix

PLAN = "plan small.yaml"


def shell(line: str, folder: Path, **environment: str) -> Said:
    """A line for bash, in which `fleetbench` is ours."""
    write_matrix(folder)
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f'fleetbench() {{ "{sys.executable}" -m fleetbench "$@"; }}; {line}'],
        env={**os.environ, "FLEETBENCH_WAREHOUSE": str(folder / "warehouse"), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", [PLAN, f"{PLAN} --format json", "--help"])
@pytest.mark.parametrize(("where", "why"), [(">/dev/full", "No space left"), (">&-", "output is closed")])
def test_output_that_cannot_be_written_is_an_unusable_environment(
    command: str, where: str, why: str, tmp_path: Path
) -> None:
    said = shell(f"fleetbench {command} {where}", tmp_path)
    assert said.code == 4
    assert "the standard output" in said.err
    assert why in said.err


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_a_closed_stderr_changes_nothing(where: str, tmp_path: Path) -> None:
    said = shell(f"fleetbench {PLAN} {where}", tmp_path)
    assert said.code == 0
    assert "launches" in said.out


@pytest.mark.parametrize(
    "command", ["matrix schema", PLAN, f"{PLAN} --format json", "sql \"SELECT repeat('x', 70) FROM range(1999)\""]
)
def test_a_reader_that_leaves_is_no_error(command: str, tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    said = shell(f"fleetbench {command} | head -1", tmp_path)
    assert said.code == 0
    assert said.err == ""
    assert len(said.out.splitlines()) == 1


@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_what_a_terminal_cannot_show_becomes_a_question_mark(form: str, tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    command = f"fleetbench sql \"SELECT 'a \u2014 b' AS dash\" --format {form}"
    said = shell(command, tmp_path, PYTHONIOENCODING="ascii", LC_ALL="C.UTF-8")
    assert said.code == 0
    assert "a ? b" in said.out


@pytest.mark.parametrize(
    "command", ["sql $'select \\xff'", "submit small.yaml --only $'\\xff'", "compare --where $'\\xff'"]
)
def test_sql_that_is_not_utf_8_is_wrong_input(command: str, tmp_path: Path) -> None:
    (tmp_path / "warehouse").mkdir()
    said = shell(f"fleetbench {command}", tmp_path)
    assert said.code == 2
    assert "it is not UTF-8" in said.err
