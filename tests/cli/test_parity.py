from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from fleetbench.store.commit import Warehouse
from tests.cli.inside import inside
from tests.samples import Lab
from tests.store.test_verdicts import PARITY, ask


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(Warehouse(tmp_path / "warehouse"))
    made.warehouse.create()
    made.run(matrix_json=json.dumps({"parity": PARITY}))
    for repeat in range(2):
        ask(made, "f16", repeat=repeat)
    ask(made, "q8_0")
    return made


@pytest.mark.usefixtures("lab")
def test_a_run_whose_recipes_pass_exits_with_0(tmp_path: Path) -> None:
    said = inside("parity", folder=tmp_path)
    assert said.code == 0
    assert "q8_0    PASS     facts" in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())


@pytest.mark.parametrize(("wrong", "code", "verdict"), [(60, 1, "BLOCK"), (7, 5, "INCONCLUSIVE")])
def test_a_recipe_that_does_not_pass_is_an_exit_code(
    lab: Lab, tmp_path: Path, wrong: int, code: int, verdict: str
) -> None:
    ask(lab, "q2_k", wrong=wrong)
    said = inside("parity", "default", folder=tmp_path)
    assert said.code == code
    assert f"q2_k    {verdict}" in said.out


def test_the_output_folder_has_a_summary_and_the_items_of_each_recipe(lab: Lab, tmp_path: Path) -> None:
    ask(lab, "q2_k", wrong=60)
    inside("parity", "--output", str(tmp_path / "verdicts"), folder=tmp_path)
    found = sorted(path.name for path in (tmp_path / "verdicts").iterdir())
    assert [name.partition("-")[0] for name in found] == ["q2_k", "q8_0", "summary.md"]
    with (tmp_path / "verdicts" / found[0]).open(newline="") as file:
        items = list(csv.DictReader(file))
    assert (len(items), sum(item["correct"] == "false" for item in items)) == (400, 60)
    assert {item["reference_correct"] for item in items} == {"true"}
    summary = (tmp_path / "verdicts/summary.md").read_text()
    assert "q2_k, a hint and no finding: " in summary
    assert summary.partition("right before, wrong now")[2].count("| facts |") == 20
    assert "| q2\\_k | BLOCK |" in (tmp_path / "verdicts/summary.md").read_text()


def test_a_run_without_quality_is_a_mistake(tmp_path: Path) -> None:
    made = Lab(Warehouse(tmp_path / "warehouse"))
    made.warehouse.create()
    made.run()
    made.speed("f16", 100.0)
    said = inside("parity", folder=tmp_path)
    assert said.code == 2
    assert "run1 has no quality to judge" in said.err


def test_planning_says_how_many_items_it_takes_alone_and_jointly(tmp_path: Path) -> None:
    said = inside(
        "parity", "--power", "0.8", "--margin", "0.02", "--churn", "0.04", "--format", "json", folder=tmp_path
    )
    one, six = json.loads(said.out)
    assert (one["categories"], one["items_by_formula"], six["categories"]) == (1, 619, 6)
    assert 640 <= one["items_simulated"] <= 720
    assert six["items_simulated"] > one["items_simulated"]
    assert "With 200 items" in inside("parity", "--margin", "0.02", folder=tmp_path).out


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("run1", "--power", "0.8"), "RUN and --output judge"),
        (("--drop", "0.03"), "does not pass a margin of 0.02 at any number of items"),
        (("--drop", "0.01", "--churn", "0.005"), "needs a churn of at least that"),
        (("--margin", "1.5"), "1.5 is not in the range"),
    ],
)
def test_what_makes_no_sense_is_wrong_input(tmp_path: Path, words: tuple[str, ...], why: str) -> None:
    said = inside("parity", *words, folder=tmp_path)
    assert said.code == 2
    assert why in " ".join(said.err.split())
