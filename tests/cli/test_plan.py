"""`fleetbench plan`: what would run, what is refused, as text and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from fleetbench import resources
from fleetbench.fleet.rows import trial_row
from fleetbench.matrix.types import Outcome
from fleetbench.store.commit import Warehouse
from tests.cli.shell import fleetbench
from tests.small import planned, write_matrix

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


def test_an_engine_that_this_version_lacks_is_a_refusal_of_its_cells(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, engines="[vllm, llamacpp]")
    said = fleetbench("plan", str(path), "--format", "json", folder=tmp_path)
    assert said.code == 1
    plan = json.loads(said.out)
    assert {row["engine"] for row in plan["refusals"]} == {"vllm"}
    assert {cell["engine"] for cell in plan["cells"]} == {"llamacpp"}


def test_a_refused_cell_is_named_with_its_load_point(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    path.write_text(path.read_text() + "exclude: [{recipe: q2_k, because: not asked here}]\n")
    said = fleetbench("plan", str(path), folder=tmp_path)
    lines = said.out.splitlines()
    at = lines.index("refused 3 cells, excluded: not asked here")
    points = "batch 1 context 16 output 8, batch 2 context 16 output 8, quality suite embedded"
    assert lines[at + 1] == f"  tiny q2_k: {points}"


def test_many_refused_cells_are_cut_and_counted(tmp_path: Path) -> None:
    load = "{batch: [1, 2, 3, 4, 5, 6, 7], context: 16, output: 8}"
    path = write_matrix(tmp_path, load=load, recipes="[f16, q8_0, q6_k, q5_k, q4_k, q3_k, q2_k]", hardware="[h100]")
    said = fleetbench("plan", str(path), folder=tmp_path).out.splitlines()
    assert "  and 2 more" in said
    assert len([line for line in said if line.startswith("  tiny") and line.endswith(", and 3 more")]) == 5


def test_what_the_run_has_done_already_is_counted(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    assert "already done" not in fleetbench("plan", str(path), folder=tmp_path).out
    plan = planned(tmp_path).plan
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    for trial, outcome in zip(plan.launches[0].trials, (Outcome.OK, Outcome.OOM, Outcome.LOST), strict=False):
        row = trial_row(
            run_id=plan.run_id,
            launch=plan.launches[0],
            launch_attempt=0,
            trial=trial,
            attempt=0,
            node="here",
            outcome=outcome,
            reason=None,
            measured={},
        )
        warehouse.commit_trial(row, {})
    assert f"2 of {len(plan.trials)} trials are already done" in fleetbench("plan", str(path), folder=tmp_path).out
    document = json.loads(fleetbench("plan", str(path), "--format", "json", folder=tmp_path).out)
    assert document["settled_trials"] == 2
