"""Help, typing mistakes and exit codes of every command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleetbench.cli.main import COMMANDS
from tests.cli.inside import inside
from tests.cli.shell import fleetbench
from tests.small import write_matrix

HEAVY = ("ray", "duckdb", "pyarrow", "numpy", "pydantic", "rich", "yaml")


@pytest.mark.parametrize("command", [[], *[[name] for name in COMMANDS], ["matrix", "schema"], ["matrix", "check"]])
def test_every_command_has_help_within_80_columns(command: list[str], tmp_path: Path) -> None:
    said = inside(*command, "--help", folder=tmp_path)
    assert said.code == 0
    assert said.out.startswith("Usage: ")
    assert max(len(line) for line in said.out.splitlines()) <= 80


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['fleetbench', '--help']\n"
        "from fleetbench.cli.main import main\n"
        "try: main()\n"
        f"except SystemExit: print(sorted(set(sys.modules) & set({HEAVY!r})), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_a_mistyped_command_is_named_with_the_nearest(tmp_path: Path) -> None:
    said = fleetbench("sumbit", folder=tmp_path)
    assert said.code == 2
    assert "Did you mean submit?" in said.err


def test_a_mistyped_option_is_named(tmp_path: Path) -> None:
    said = inside("submit", "m.yaml", "--runn", "x", folder=tmp_path)
    assert said.code == 2
    assert "--run" in said.err


@pytest.mark.parametrize("command", ["submit", "plan"])
def test_a_broken_matrix_says_every_mistake_with_its_line_and_starts_nothing(command: str, tmp_path: Path) -> None:
    path = write_matrix(tmp_path, models="[tiny, tiny]", recipes="[f16, q9_k]", repeats="0")
    said = fleetbench(command, str(path), folder=tmp_path)
    assert said.code == 2
    assert said.out == ""
    for place in ("small.yaml:3: models", "small.yaml:7: recipes[1]", "small.yaml:9: repeats"):
        assert place in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "warehouse").exists()


@pytest.mark.parametrize(
    ("arguments", "said_so"),
    [
        (["submit", "none.yaml"], "none.yaml"),
        (["submit", "small.yaml", "--run", "a/b"], "--run 'a/b'"),
        (["submit", "small.yaml", "--only", "nope = 1"], "it can use the columns"),
        (["submit", "small.yaml", "--only", "batch = 77"], "none of the"),
        (["submit", "small.yaml", "--only", "1); DROP TABLE x; --"], "syntax error"),
        (["submit", "small.yaml", "--only", "batch = 1; SELECT 1"], "Parser Error"),
        (["submit", "small.yaml", "--only", "1) OR (1"], "syntax error"),
        (["submit", "small.yaml", "--only", ""], "'--only': it is empty"),
        (["submit", "small.yaml", "--only", " "], "'--only': it is empty"),
        (["submit", "small.yaml", "--warehouse", ""], "'--warehouse': it is empty"),
        (["submit", "small.yaml", "--warehouse", "small.yaml"], "is a file"),
        (["compare", "--warehouse", "x" * 300], "too long"),
        (["submit", "small.yaml", "--new", "--run", "x"], "keep one"),
        (["submit", "small.yaml", "--new", "--run", "default"], "keep one"),
        (["compare", "--where", ""], "'--where': it is empty"),
        (["compare"], "no warehouse"),
        (["sql", "SELECT 1"], "no warehouse"),
        (["runs"], "no warehouse"),
    ],
)
def test_wrong_input_is_said_in_a_sentence(arguments: list[str], said_so: str, tmp_path: Path) -> None:
    write_matrix(tmp_path)
    said = inside(*arguments, folder=tmp_path)
    assert said.code == 2
    assert said_so in said.err
    assert "Traceback" not in said.err
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]


def test_a_broken_model_folder_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    os.mkfifo(tmp_path / "ours" / "config.json")
    models = "[tiny, {name: ours, path: ours}, {name: etc, path: /etc}, /proc]"
    path = write_matrix(tmp_path, models=models)
    for command in ("plan", "submit"):
        said = inside(command, path.name, folder=tmp_path)
        assert said.code == 2
        assert "small.yaml:3: models[1].path: ours/config.json: not a regular file" in said.err
        assert "small.yaml:3: models[2].path: /etc/config.json: No such file" in said.err
        assert "small.yaml:3: models[3]: /proc/config.json: No such file" in said.err
        assert all(line.startswith("error: small.yaml:3: models[") for line in said.err.splitlines())


@pytest.mark.parametrize("cache", ["small.yaml", "loop", "/proc/cache"])
def test_a_cache_that_cannot_be_used_is_said_before_anything_starts(cache: str, tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    said = inside("submit", str(path), folder=tmp_path, FLEETBENCH_CACHE=cache)
    assert said.code == 4
    assert "set FLEETBENCH_CACHE" in said.err
    assert not (tmp_path / "warehouse").exists()
    said = inside("doctor", folder=tmp_path, FLEETBENCH_CACHE=cache)
    assert said.code == 4
    assert f"{cache} cannot be written" in said.out


def test_help_says_the_default_warehouse_plainly_and_cuts_no_sentence(tmp_path: Path) -> None:
    said = inside("submit", "--help", folder=tmp_path)
    assert "[default: ./fleetbench-data]" in " ".join(said.out.split())
    assert "..." not in inside("matrix", "--help", folder=tmp_path).out.replace("COMMAND [ARGS]...", "")


def test_a_warehouse_that_cannot_be_written_is_an_unusable_environment(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    said = fleetbench("submit", str(path), "--warehouse", "/proc/warehouse", folder=tmp_path)
    assert said.code == 4
    assert "cannot be used" in said.err
    said = inside("doctor", "--warehouse", "/proc/warehouse", folder=tmp_path)
    assert said.code == 4
    assert "cannot be written" in said.out


def test_doctor_names_a_remedy_for_each_lack(tmp_path: Path) -> None:
    said = fleetbench("doctor", "--format", "json", folder=tmp_path)
    assert said.code == 0
    findings = json.loads(said.out)
    assert {"python", "llamacpp", "Ray", "warehouse", "cache"} <= {finding["subject"] for finding in findings}
    assert all(finding["remedy"] for finding in findings if finding["verdict"] != "ok")


def test_output_into_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m fleetbench matrix schema | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=dict(os.environ),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.startswith("{")
    assert "Traceback" not in done.stderr
