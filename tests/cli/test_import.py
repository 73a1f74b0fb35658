"""`fleetbench import`, as a user sees it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from tests.cli.inside import inside
from tests.cli.shell import fleetbench
from tests.store.foreign.files import DATA

POWER = str(DATA / "inferencex/agg-power.json")
THIRD = """
from fleetbench.store.foreign.record import Record

class Third:
    name, about, licence, words = "third", "one number", None, {}

    def read(self, path):
        speed = float(path.read_text())
        yield Record(where="it", model="m", hardware="h200", engine="vllm", figures={"output_tok_s": speed})
"""
SILICON = str(DATA / "aiconfigurator/silicon.csv")


def test_what_it_took_in_is_told_with_what_is_not_as_it_was(tmp_path: Path) -> None:
    said = inside("import", "aiconfigurator", SILICON, folder=tmp_path)
    assert said.code == 0, said.err
    assert "silicon.csv       11      11      0         2" in said.out
    assert "2  hardware gb300" in said.out
    assert "1  model Qwen/Qwen3.5-397B-A17B" in said.out
    assert "11  id: a row's own name, made of the rest" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())


def test_importing_twice_says_that_it_was_there(tmp_path: Path) -> None:
    inside("import", "inferencex", POWER, folder=tmp_path)
    said = inside("import", "inferencex", POWER, "--format", "json", folder=tmp_path)
    (row,) = json.loads(said.out)
    assert (row["already"], row["landed"], row["records"]) == (True, 0, 1)


def test_what_is_said_of_a_file_that_is_there_is_told_to_change_nothing(tmp_path: Path) -> None:
    inside("import", "inferencex", POWER, folder=tmp_path)
    said = inside("import", "inferencex", POWER, "--licence", "MIT", "--given", "gpus=8", folder=tmp_path)
    assert "Imported before, so not changed by what is said now, by records:" in said.out
    assert "1  licence=MIT" in said.out
    assert "1  gpus=8" in said.out


def test_a_broken_file_is_told_with_its_place_and_keeps_no_other_out(tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text('{"model": "m", "median_ttft": -2}', encoding="utf-8")
    said = inside("import", "inferencex", str(broken), POWER, "--format", "json", folder=tmp_path)
    assert said.code == 2
    assert "broken.json: median_ttft: -2 is no measurement" in said.err
    first, second = json.loads(said.out)
    assert first["error"] == "median_ttft: -2 is no measurement"
    assert second["landed"] == 1


def test_words_of_a_file_move_no_terminal(tmp_path: Path) -> None:
    sly = tmp_path / "sly.json"
    sly.write_text(json.dumps({"model": "m\x1b[31m\nerror: no", "median_ttft": 1}), encoding="utf-8")
    said = inside("import", "inferencex", str(sly), folder=tmp_path)
    assert "model m?[31m?error: no" in said.out
    sly.write_text(json.dumps({"model": "m", "median_ttft": {"\x1b": 1}, "\x1b[31m": float("nan")}), encoding="utf-8")
    assert "\x1b" not in inside("import", "inferencex", str(sly), folder=tmp_path).err


def test_it_can_be_asked_for_afterwards(tmp_path: Path) -> None:
    inside("import", "aiconfigurator", SILICON, "--licence", "CC0-1.0", folder=tmp_path)
    asked = "hardware = 'gb200' AND batch = 4"
    query = f"SELECT licence, ttft_mean_ms FROM trials JOIN runs USING (run_id) WHERE {asked}"  # noqa: S608 - a test's own
    said = inside("sql", query, "--format", "json", folder=tmp_path)
    assert json.loads(said.out) == [{"licence": "CC0-1.0", "ttft_mean_ms": 195.51323120103916}], said.err


def test_formats_are_listed_with_what_they_read(tmp_path: Path) -> None:
    said = inside("import", "--list", "--format", "csv", folder=tmp_path)
    listed = {row["format"]: row["reads"] for row in csv.DictReader(io.StringIO(said.out))}
    assert {"aiconfigurator", "inferencex", "llama-bench", "vllm"} <= listed.keys()
    assert listed["vllm"].startswith("vllm bench serve")


def test_a_package_of_someone_else_adds_a_format(tmp_path: Path) -> None:
    info = tmp_path / "third-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[fleetbench.imports]\nthird = third:Third\n", encoding="utf-8")
    (tmp_path / "third.py").write_text(THIRD, encoding="utf-8")
    (tmp_path / "one.txt").write_text("12.5", encoding="utf-8")
    said = fleetbench("import", "third", "one.txt", "--format", "json", folder=tmp_path, PYTHONPATH=str(tmp_path))
    assert said.code == 0, said.err
    (row,) = json.loads(said.out)
    assert (row["landed"], row["unmapped"]) == (1, {"model: m": 1})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Missing argument 'FORMAT'"),
        (("vllm",), "Missing argument 'FILE...'"),
        (("vlm", "x.json"), "no format vlm is known (did you mean vllm"),
        (("vllm", "a", "b", "--source", "https://x"), "--source is of one file"),
        (("vllm", "a", "--output", "m.yaml"), "--output goes with --matrix"),
        (("--matrix", "inferencex", "a", "b"), "--matrix takes one FILE"),
        (("--matrix", "vllm", "a"), "vllm has no list of what to measure"),
        (("--matrix", "inferencex", "none.yaml"), "none.yaml: it cannot be read: No such file"),
        (("vllm", "a", "--given", "hardware"), "'hardware' is not NAME=VALUE with a NAME of model, hardware,"),
        (("vllm", "a", "--given", "gpus=many"), "gpus is a whole number, not 'many'"),
        (("vllm", "none.json"), "none.json: it cannot be read: No such file"),
    ],
)
def test_what_is_asked_wrongly_is_said(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    said = inside("import", *arguments, folder=tmp_path)
    assert said.code == 2
    assert message in " ".join(said.err.split())


def test_a_matrix_goes_to_stdout_where_no_file_is_named(tmp_path: Path) -> None:
    master = str(DATA / "inferencex/nvidia-master.yaml")
    said = fleetbench("import", "--matrix", "inferencex", master, folder=tmp_path)
    assert said.code == 0, said.err
    assert said.out.startswith("# From nvidia-master.yaml")
    (tmp_path / "matrix.yaml").write_text(said.out, encoding="utf-8")
    checked = fleetbench("matrix", "check", "matrix.yaml", folder=tmp_path)
    assert checked.code == 0, checked.err
