"""What the README shows is true."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from fleetbench.cli.main import cli
from fleetbench.matrix.expand import count
from fleetbench.matrix.read import read_text

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("fleetbench ")]


def test_its_matrix_is_valid() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    matrix = read_text(text, "README.md")
    assert count(matrix) > 0


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
    makefile = (Path(__file__).parent.parent / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make (\w+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile
