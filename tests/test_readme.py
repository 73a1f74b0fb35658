"""What the README shows is true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from fleetbench.cli.main import cli
from fleetbench.fleet.planning import plan_file
from fleetbench.report.query import query
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("fleetbench ")]


def test_its_matrix_runs_as_it_is_printed(tmp_path: Path) -> None:
    (name, text) = re.findall(r"Save it as `(.*?)`.*?```yaml\n(.*?)```", README, re.DOTALL)[0]
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert plan_file(tmp_path / name, "default").plan.launches


def test_its_commands_name_files_that_it_has_saved_or_that_come_with_it() -> None:
    own = [words for words in map(shlex.split, COMMANDS) if words[1] != "import"]  # that takes others' files
    files = {word for words in own for word in words if word.endswith(".yaml")}
    saved = set(re.findall(r"Save it as `(.*?)`", README))
    assert saved < files
    assert [file for file in files - saved if not (ROOT / file).is_file()] == []


def test_its_sql_is_a_question_to_the_warehouse(tmp_path: Path) -> None:
    Warehouse(tmp_path).create()
    asked = [words[2] for words in map(shlex.split, COMMANDS) if words[1] == "sql" and len(words) > 2]
    questions = [question for question in asked if not question.startswith("--")]
    with connect(tmp_path) as connection:
        assert [query(connection, question).columns[0] for question in questions] == ["run", "hardware"]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_parse(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = shlex.split(command)[1:]
    group: click.Command = cli
    context = click.Context(cli)
    while isinstance(group, click.Group):
        found = group.get_command(context, words[0])
        assert found is not None, words[0]
        group, words = found, words[1:]
    group.make_context(group.name or "", words)


def test_its_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
