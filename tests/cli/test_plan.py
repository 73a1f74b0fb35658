"""`fleetbench plan`: what would run, what is refused, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from fleetbench import resources
from tests.cli.shell import fleetbench
from tests.small import write_matrix

QUICKSTART = resources.root("matrices") / "smoke" / "quickstart.yaml"


def test_the_quickstart_has_twenty_speed_cells_and_one_launch_per_model_and_recipe(tmp_path: Path) -> None:
    said = fleetbench("plan", str(QUICKSTART), "--format", "json", folder=tmp_path)
    assert said.code == 0
    plan = json.loads(said.out)
    assert len([cell for cell in plan["cells"] if cell["kind"] == "speed"]) >= 20
    starts = [(launch["model"], launch["recipe"]) for launch in plan["launches"] if launch["role"] == "measure"]
    assert len(starts) == len(set(starts)) == 10
    assert plan["refusals"] == []


def test_the_same_matrix_has_the_same_ids_each_time(tmp_path: Path) -> None:
    first = fleetbench("plan", str(QUICKSTART), "--format", "json", folder=tmp_path)
    assert fleetbench("plan", str(QUICKSTART), "--format", "json", folder=tmp_path).out == first.out


def test_another_run_has_another_id_and_the_same_cells(tmp_path: Path) -> None:
    plans = [
        json.loads(fleetbench("plan", str(QUICKSTART), "--run", name, "--format", "json", folder=tmp_path).out)
        for name in ("monday", "tuesday")
    ]
    assert plans[0]["run_id"] != plans[1]["run_id"]
    assert plans[0]["cells"] == plans[1]["cells"]


def test_a_refusal_says_why_and_the_exit_code_is_one(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, hardware="[local, h100]")
    said = fleetbench("plan", str(path), folder=tmp_path)
    assert said.code == 1
    assert "refused" in said.out
    assert "h100" in said.out
    rows = json.loads(fleetbench("plan", str(path), "--format", "json", folder=tmp_path).out)["refusals"]
    assert {row["hardware"] for row in rows} == {"h100"}
    assert all(row["rule"] and row["sentence"] for row in rows)


def test_an_exclusion_is_a_refusal_in_the_words_of_its_author(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    path.write_text(path.read_text() + "exclude: [{recipe: q2_k, batch: 2, because: known to be slow}]\n")
    rows = json.loads(fleetbench("plan", str(path), "--format", "json", folder=tmp_path).out)["refusals"]
    assert [(row["recipe"], row["batch"], row["rule"], row["sentence"]) for row in rows] == [
        ("q2_k", 2, "excluded", "known to be slow")
    ]
