from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from tests.cli.inside import inside
from tests.cli.shell import fleetbench


def test_the_group_lists_its_commands_at_once_and_guesses_what_was_meant(tmp_path: Path) -> None:
    said = fleetbench("node", "--help", folder=tmp_path)
    assert said.code == 0
    assert [line.split()[0] for line in said.out.partition("Commands:")[2].splitlines() if line.strip()] == [
        "up",
        "down",
        "check",
        "schema",
    ]
    assert max(map(len, said.out.splitlines())) <= 80
    assert "Did you mean check?" in fleetbench("node", "chekc", folder=tmp_path).err


@pytest.mark.parametrize("verb", ["up", "down", "check", "schema"])
def test_each_command_s_help_ends_with_examples_within_80_columns(verb: str, tmp_path: Path) -> None:
    said = inside("node", verb, "--help", folder=tmp_path)
    assert said.code == 0
    assert f"  fleetbench node {verb}" in said.out.partition("Example")[2]
    assert max(map(len, said.out.splitlines())) <= 80


def test_the_schema_is_one(tmp_path: Path) -> None:
    schema = json.loads(fleetbench("node", "schema", folder=tmp_path).out)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "matrix_args" in json.dumps(schema)


def test_every_mistake_of_a_file_is_said_with_its_line_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("pol: a\nuse: both\nhub: {token_file: /none}\nengines:\n  vlm: {}\n")
    said = fleetbench("node", "check", "node.yaml", folder=tmp_path)
    assert (said.code, said.out) == (2, "")
    lines = ("2: use", "1: pol", "5: engines.vlm")
    assert [
        line.split(": node.yaml:")[1].rpartition(": ")[0][: len(want)]
        for line, want in zip(said.err.splitlines(), lines, strict=True)
    ] == list(lines)


def test_a_token_that_others_can_read_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_right")
    (tmp_path / "token").chmod(0o644)
    (tmp_path / "node.yaml").write_text(f"pool: a\nhub:\n  token_file: {tmp_path}/token\n")
    said = fleetbench("node", "check", "node.yaml", folder=tmp_path)
    assert said.code == 2
    assert "node.yaml:3: hub.token_file: " in said.err
    assert "hf_right" not in said.err


@pytest.mark.engine
def test_settings_are_said_as_they_are_meant_here(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text(
        f"pool: eu\nuse: shared\ncache: {tmp_path}/weights\nmatrix_paths: [/srv]\n"
        "engines:\n  vllm: {venv: /nowhere, matrix_args: [--seed]}\n"
    )
    said = fleetbench("node", "check", "node.yaml", folder=tmp_path)
    assert said.code == 4
    assert "pool          eu\nuse           shared (launches side by side)\n" in said.out
    assert f"{tmp_path}/weights" in said.out
    assert "matrix paths  /srv" in said.out
    assert "ok   llamacpp      version " in said.out
    assert "lack vllm          not usable; a matrix may set --seed\n" in said.out
    assert "→ /nowhere is no virtual environment: python -m venv /nowhere" in said.out
