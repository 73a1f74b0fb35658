"""`fleetbench simulate`: a matrix on a fleet on paper, as text, JSON, CSV and a picture."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from fleetbench.cli.simulate import EPILOG
from fleetbench.fleet.planning import plan_file
from fleetbench.fleet.simulation.faults import Faults
from fleetbench.store.commit import Warehouse
from tests.cli.inside import inside
from tests.cli.shell import Said
from tests.samples import Lab, trial_row

MATRIX = """
name: ladder
analysis: Which format is fastest where?
models: [llama-3.1-8b]
engines: vllm
hardware: [h100, b200]
reference: bf16
recipes: [bf16, fp8, int4, awq]
parallel: [{tp: 1}, {tp: 2}]
load: {batch: [1, 16], context: 1024, output: 128, requests: 8, warmup: 1}
"""
FLEET = """
nodes:
  - {hardware: h100, gpus: 8, count: 2, use: shared}
  - {hardware: b200, gpus: 8}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "matrix.yaml").write_text(MATRIX)
    (tmp_path / "fleet.yaml").write_text(FLEET)
    return tmp_path


def simulate(folder: Path, *words: str) -> Said:
    return inside("simulate", "matrix.yaml", "--fleet", "fleet.yaml", *words, folder=folder)


def document(folder: Path, *words: str) -> dict[str, Any]:
    said = simulate(folder, "--format", "json", *words)
    assert (said.code, said.err) == (0, "")
    found: dict[str, Any] = json.loads(said.out)
    return found


def test_the_table_says_how_long_how_well_and_for_how_much(files: Path) -> None:
    said = simulate(files, "--faults", "lost=0.2")
    assert said.code == 0
    assert "ladder on fleet.yaml" in said.out
    for word in ("of the bound", "USD", "trials", "idle", "h100", "b200", "busy %", "2 x 8"):
        assert word in said.out
    assert all(len(line) <= 80 for line in said.out.splitlines())
    assert "CPU a cell" in said.err


def test_the_document_agrees_with_itself(files: Path) -> None:
    found = document(files)
    assert found["makespan_s"] == max(kind["makespan_s"] for kind in found["kinds"])
    assert found["makespan_s"] >= found["bound_s"] > 0
    assert found["ratio"] == pytest.approx(found["makespan_s"] / found["bound_s"])
    assert sum(found["outcomes"].values()) == found["trials"]
    assert {node["node"] for node in found["nodes"]} == {"h100-1", "h100-2", "b200-1"}
    assert len(found["schedule"]) == sum(kind["starts"] for kind in found["kinds"])
    assert found["cost_usd"] == pytest.approx(sum(kind["cost_usd"] for kind in found["kinds"]))


def test_the_same_seed_gives_the_same_bytes(files: Path) -> None:
    words = ("--format", "json", "--faults", "lost=0.1,node=0.05", "--svg", "a.svg")
    first = simulate(files, *words, "--seed", "3")
    picture = (files / "a.svg").read_bytes()
    assert simulate(files, *words, "--seed", "3") == first
    assert (files / "a.svg").read_bytes() == picture
    assert simulate(files, *words, "--seed", "4").out != first.out


def test_the_schedule_is_rows(files: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(simulate(files, "--format", "csv").out)))
    assert {row["outcome"] for row in rows} == {"ok"}
    assert all(float(row["start_s"]) < float(row["end_s"]) for row in rows)
    assert {json.loads(row["nodes"])[0] for row in rows} <= {"h100-1", "h100-2", "b200-1"}


def test_markdown_has_both_tables(files: Path) -> None:
    said = simulate(files, "--format", "markdown").out
    assert said.count("### ") == 2
    assert "| kind |" in said


def test_the_picture_shows_every_node_and_launch(files: Path) -> None:
    assert simulate(files, "--svg", "run.svg").code == 0
    picture = ET.fromstring((files / "run.svg").read_text())  # noqa: S314 - our own
    texts = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"h100-1", "h100-2", "b200-1", "fp8"} <= set(texts)
    titles = [one.text for one in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == len(document(files)["schedule"])


def test_another_order_is_another_schedule_of_the_same_work(files: Path) -> None:
    balanced, first = document(files), document(files, "--first-come")
    assert balanced["bound_s"] == pytest.approx(first["bound_s"])
    assert balanced["schedule"] != first["schedule"]


def test_times_come_from_the_warehouse_where_it_has_them(files: Path) -> None:
    plan = plan_file(files / "matrix.yaml", "default", files / "fleet.yaml").plan
    warehouse = Warehouse(files / "warehouse")
    warehouse.create()
    lab = Lab(warehouse)
    lab.run()
    for trial in plan.trials[:1]:
        lab.trial(trial_row(cell_id=trial.cell.cell_id, trial_id=trial.trial_id, wall_s=12_345.0))
    assert document(files, "--unsure", "0")["makespan_s"] > 12_345
    assert document(files, "--unsure", "0", "--warehouse", "none")["makespan_s"] < 12_345


def test_kinds_without_work_are_named_and_left_out(files: Path) -> None:
    (files / "fleet.yaml").write_text(FLEET + "  - {hardware: mi300x}\n")
    said = simulate(files)
    assert "The matrix has no launch for mi300x: left out." in said.out
    assert document(files)["kinds_without_work"] == ["mi300x"]


def test_nothing_to_run_is_said_with_where_to_look(files: Path) -> None:
    (files / "fleet.yaml").write_text("nodes: {hardware: mi300x}")
    said = simulate(files)
    assert said.code == 2
    assert "nothing to simulate, all 32 cells are refused" in said.err
    assert "fleetbench plan matrix.yaml --fleet fleet.yaml" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--faults", "loss=0.1"), "did you mean lost?"),
        (("--faults", "lost=2"), "from 0 to 1"),
        (("--unsure", "-1"), "-1"),
        (("--unsure", "1"), "0.9"),
        (("--unsure", "nan"), "nan is not from 0 to 0.9"),
        (("--seed", "x"), "'x' is not a valid integer"),
        (("--svg", "pipe"), "--svg pipe: is no file that can be written"),
        (("--svg", "none/run.svg"), "--svg none/run.svg: cannot be written: No such file"),
    ],
)
def test_a_wrong_option_is_said(files: Path, words: tuple[str, ...], said: str) -> None:
    os.mkfifo(files / "pipe")
    found = simulate(files, *words)
    (files / "pipe").unlink()
    assert found.code == 2
    assert said in found.err
    assert found.out == ""


def test_a_fleet_is_asked_for(files: Path) -> None:
    said = inside("simulate", "matrix.yaml", folder=files)
    assert said.code == 2
    assert "'--fleet'" in said.err
    assert "infra/fleets/example.yaml" in said.err


def test_every_fault_is_explained() -> None:
    assert [line.split("=")[0].strip() for line in EPILOG.splitlines() if "=P" in line] == list(
        Faults.__dataclass_fields__
    )
