"""`fleetbench plan`: what would run, what is refused, as text and as JSON."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from fleetbench import resources
from fleetbench.fleet.rows import trial_row
from fleetbench.matrix.types import Outcome
from fleetbench.store.commit import Warehouse
from tests.artifact.folders import QWEN, write
from tests.cli.inside import inside
from tests.cli.shell import fleetbench
from tests.small import planned, write_matrix

CURATED = resources.root("matrices") / "curated"
QUICKSTART = resources.root("matrices") / "smoke" / "quickstart.yaml"


def test_the_quickstart_has_twenty_speed_cells_and_one_launch_per_model_and_recipe(tmp_path: Path) -> None:
    said = inside("plan", str(QUICKSTART), "--format", "json", folder=tmp_path)
    assert said.code == 0
    plan = json.loads(said.out)
    assert len([cell for cell in plan["cells"] if cell["kind"] == "speed"]) >= 20
    starts = [(launch["model"], launch["recipe"]) for launch in plan["launches"] if launch["role"] == "measure"]
    assert len(starts) == len(set(starts)) == 10
    assert plan["refusals"] == []


def test_the_same_matrix_has_the_same_ids_each_time(tmp_path: Path) -> None:
    first = inside("plan", str(QUICKSTART), "--format", "json", folder=tmp_path)
    assert inside("plan", str(QUICKSTART), "--format", "json", folder=tmp_path).out == first.out


def test_another_run_has_another_id_and_the_same_cells(tmp_path: Path) -> None:
    plans = [
        json.loads(inside("plan", str(QUICKSTART), "--run", name, "--format", "json", folder=tmp_path).out)
        for name in ("monday", "tuesday")
    ]
    assert plans[0]["run_id"] != plans[1]["run_id"]
    ids = [[cell["cell_id"] for cell in plan["cells"]] for plan in plans]
    assert ids[0] == ids[1]


def test_a_refusal_says_why_and_the_exit_code_is_one(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, hardware="[local, h100]")
    said = inside("plan", str(path), folder=tmp_path)
    assert said.code == 1
    assert "refused" in said.out
    assert "h100" in said.out
    rows = json.loads(inside("plan", str(path), "--format", "json", folder=tmp_path).out)["refusals"]
    assert {row["hardware"] for row in rows} == {"h100"}
    assert all(row["rule"] and row["sentence"] for row in rows)


def test_an_exclusion_is_a_refusal_in_the_words_of_its_author(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    path.write_text(path.read_text() + "exclude: [{recipe: q2_k, batch: 2, because: known to be slow}]\n")
    said = inside("plan", str(path), "--format", "json", folder=tmp_path)
    assert said.code == 0
    rows = json.loads(said.out)["refusals"]
    assert [(row["recipe"], row["batch"], row["rule"], row["sentence"]) for row in rows] == [
        ("q2_k", 2, "excluded", "known to be slow")
    ]


def test_a_format_that_an_engine_lacks_is_a_refusal_of_its_cells_and_the_others_run(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, engines="[vllm, llamacpp]")
    said = inside("plan", str(path), "--format", "json", folder=tmp_path)
    assert said.code == 1
    plan = json.loads(said.out)
    assert {(row["engine"], row["recipe"], row["rule"]) for row in plan["refusals"]} == {("vllm", "q2_k", "weights")}
    assert {cell["engine"] for cell in plan["cells"]} == {"llamacpp", "vllm"}


def test_a_refused_cell_is_named_with_its_load_point(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    path.write_text(path.read_text() + "exclude: [{recipe: q2_k, because: not asked here}]\n")
    said = inside("plan", str(path), folder=tmp_path)
    lines = said.out.splitlines()
    at = lines.index("refused 3 cells, excluded: not asked here")
    points = "batch 1 context 16 output 8, batch 2 context 16 output 8, quality suite embedded"
    assert " ".join(line.strip() for line in lines[at + 1 : at + 3]) == f"tiny q2_k: {points}"


def test_many_refused_cells_are_cut_and_counted(tmp_path: Path) -> None:
    load = "{batch: [1, 2, 3, 4, 5, 6, 7], context: 16, output: 8}"
    path = write_matrix(tmp_path, load=load, recipes="[f16, q8_0, q6_k, q5_k, q4_k, q3_k, q2_k]", hardware="[h100]")
    said = inside("plan", str(path), folder=tmp_path).out.splitlines()
    assert "  and 2 more" in said
    assert len([line for line in said if line.startswith("  tiny")]) == 5
    assert len([line for line in said if line.endswith(", and 3 more")]) == 5


def test_what_the_run_has_done_already_is_counted(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    assert "already done" not in inside("plan", str(path), folder=tmp_path).out
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
    assert f"2 of {len(plan.trials)} trials are already done" in inside("plan", str(path), folder=tmp_path).out
    document = json.loads(inside("plan", str(path), "--format", "json", folder=tmp_path).out)
    assert document["settled_trials"] == 2


KEYS = ("hardware", "recipe", "verdict", "rule", "sentence", "source")


def document(path: Path, *words: str, folder: Path, code: int | None = None) -> dict[str, Any]:
    said = inside("plan", str(path), *words, "--format", "json", folder=folder)
    assert said.err == ""
    found: dict[str, Any] = json.loads(said.out)
    assert said.code == (code if code is not None else bool(found["refusals"]))
    return found


def fleet_file(folder: Path, text: str) -> str:
    (folder / "fleet.yaml").write_text(text)
    return str(folder / "fleet.yaml")


@pytest.mark.parametrize(
    ("changes", "verdict", "rule", "said"),
    [
        ({"hardware": "[h100]"}, "engine_cannot", "engine-hardware", "does not run on h100"),
        ({"engines": "vllm==0.1.0"}, "engine_cannot", "engine-version", "not 0.1.0 (looked at: 0.33.0"),
        ({"engines": "[llamacpp]", "parallel": "{tp: 2}"}, "engine_cannot", "parallel", "no tp: leave it at 1"),
        ({"recipes": "[f16, {name: k, weights: f16, kv: fp8}]"}, "engine_cannot", "kv", "no KV cache format fp8"),
        ({"recipes": "[f16, {name: a, weights: q4_k, method: awq}]"}, "contradictory", "method-format", "AWQ makes"),
    ],
)
def test_every_refusal_says_what_kind_of_no_it_is_by_which_rule_and_whose_word_that_is(
    changes: dict[str, str], verdict: str, rule: str, said: str, tmp_path: Path
) -> None:
    parallel = changes.pop("parallel", None)
    path = write_matrix(tmp_path, **changes)
    if parallel is not None:
        path.write_text(path.read_text() + f"parallel: {parallel}\n")
    refusals = document(path, folder=tmp_path, code=1)["refusals"]
    assert {(row["verdict"], row["rule"]) for row in refusals} == {(verdict, rule)}
    assert all(said in row["sentence"] for row in refusals)
    assert all(row[key] for row in refusals for key in KEYS)


def test_a_fleet_has_its_own_nodes_engines_and_versions(tmp_path: Path) -> None:
    fleet = fleet_file(tmp_path, "nodes: [{hardware: h100, gpus: 2, engines: [vllm==0.32.0]}, {hardware: h200}]")
    found = document(CURATED / "tp-scaling.yaml", "--fleet", fleet, folder=tmp_path)
    assert {cell["engine_version"] for cell in found["cells"]} == {"0.32.0"}
    h100 = [cell for cell in found["cells"] if cell["hardware"] == "h100"]
    assert max(cell["tp"] for cell in h100) == 2
    narrow = [row for row in found["refusals"] if (row["hardware"], row["tp"]) == ("h100", 4)]
    assert {row["rule"] for row in narrow} == {"node-gpus"}


def test_an_engine_that_the_fleet_lacks_and_hardware_that_it_lacks_are_told_apart(tmp_path: Path) -> None:
    fleet = fleet_file(tmp_path, "nodes: {hardware: h200, engines: [vllm==0.33.0]}")
    found = document(CURATED / "fp4-adoption.yaml", "--fleet", fleet, folder=tmp_path, code=1)
    assert {(cell["engine"], cell["hardware"]) for cell in found["cells"]} == {("vllm", "h200")}
    rules = {(row["hardware"], row["engine"]): (row["verdict"], row["rule"]) for row in found["refusals"]}
    assert rules["h200", "sglang"] == ("not_here", "engine-not-here")
    assert rules["b200", "vllm"] == ("not_here", "no-node")
    sentences = {row["sentence"] for row in found["refusals"] if row["rule"] == "no-node"}
    assert sentences == {"no node of kind b200 is joined; the fleet of fleet.yaml has h200"}


def test_nodes_with_another_version_are_told_by_which_word_they_are_planned_with(tmp_path: Path) -> None:
    nodes = "[{hardware: h200, engines: [vllm==0.33.0]}, {hardware: h100, engines: [vllm==0.32.0]}]"
    fleet = fleet_file(tmp_path, f"nodes: {nodes}")
    found = document(CURATED / "tp-scaling.yaml", "--fleet", fleet, folder=tmp_path, code=1)
    assert {cell["hardware"] for cell in found["cells"]} == {"h200"}
    sentences = {row["sentence"] for row in found["refusals"] if row["rule"] == "engine-version"}
    assert len(sentences) == 1
    assert "vllm==0.32.0" in sentences.pop()


@pytest.mark.parametrize("text", ["nodes: {hardware: h1000}", "nodes: [", ""])
def test_a_wrong_fleet_is_wrong_input(text: str, tmp_path: Path) -> None:
    fleet = fleet_file(tmp_path, text)
    said = inside("plan", str(QUICKSTART), "--fleet", fleet, folder=tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err.startswith(f"error: {fleet}: ")
    for word in (str(tmp_path), "none.yaml"):
        assert inside("plan", str(QUICKSTART), "--fleet", word, folder=tmp_path).code == 2


def test_degrees_of_data_parallelism_share_the_batch(tmp_path: Path) -> None:
    path = write_matrix(
        tmp_path, models="[llama-3.1-8b]", engines="vllm", hardware="h100", reference="bf16", recipes="[bf16]",
        quality=None, load="{batch: [256, 512], context: 2000, output: 48}",
    )  # fmt: skip
    path.write_text(path.read_text() + "parallel: {dp: [1, 2]}\n")
    fleet = fleet_file(tmp_path, "nodes: {hardware: h100, gpus: 2}")
    found = document(path, "--fleet", fleet, folder=tmp_path, code=1)
    assert {(cell["batch"], cell["dp"]) for cell in found["cells"]} == {(256, 2)}
    (most,) = {row["sentence"].split(": ")[-1] for row in found["refusals"] if (row["batch"], row["dp"]) == (512, 2)}
    number = int(most.split("batch ")[1].split()[0])
    assert 256 <= number < 512


def test_cells_are_rows_in_csv_refused_ones_with_their_reason(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, engines="[vllm, llamacpp]")
    rows = list(csv.DictReader(inside("plan", str(path), "--format", "csv", folder=tmp_path).out.splitlines()))
    assert len(rows) == 12
    assert {(row["recipe"], row["verdict"]) for row in rows if row["sentence"]} == {("q2_k", "engine_cannot")}


def own_catalog(folder: Path, kind: str, **figures: float) -> str:
    """A folder of the user's own, with other figures for one kind of hardware."""
    (folder / "own" / "gpus").mkdir(parents=True)
    said = {name: {"value": value, "source": "this test", "date": "2026-11-24"} for name, value in figures.items()}
    (folder / "own" / "gpus" / f"{kind}.yaml").write_text(json.dumps(said))
    return str(folder / "own")


def test_a_limit_in_usd_names_the_kinds_that_it_does_not_limit(tmp_path: Path) -> None:
    limits = "{launch: 60s, trial: 60s, cost_usd: 5}"
    vllm = {"models": "[llama-3.1-8b]", "engines": "vllm", "reference": "bf16", "recipes": "[bf16]", "quality": None}
    path = write_matrix(tmp_path, **vllm, hardware="[h100, sim-h100]", limits=limits)
    text = inside("plan", str(path), folder=tmp_path).out
    assert "limits: cost_usd 5 does not limit what runs on sim-h100: no price of it is known" in lines(text)
    assert "not all prices known" in lines(text)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert document(path, folder=tmp_path)["estimate"]["unpriced"] == ["sim-h100"]
    path = write_matrix(tmp_path, **vllm, hardware="[h100]", limits=limits)
    assert "does not limit" not in inside("plan", str(path), folder=tmp_path).out
    assert "does not limit" not in inside("plan", str(write_matrix(tmp_path)), folder=tmp_path).out


def test_a_price_of_ones_own_changes_what_a_plan_costs_and_nothing_else(tmp_path: Path) -> None:
    words = ("plan", str(CURATED / "format-ladder.yaml"), "--format", "json")
    catalog = own_catalog(tmp_path, "h100", price_usd_h=100.0)
    shipped = json.loads(inside(*words, folder=tmp_path).out)
    said = fleetbench(*words, folder=tmp_path, FLEETBENCH_CATALOG=catalog)
    own = json.loads(said.out)
    hours = own["estimate"]["seconds"] / 3600
    assert own["estimate"].pop("cost_usd") == pytest.approx(100.0 * hours, rel=1e-4)
    assert shipped["estimate"].pop("cost_usd") == pytest.approx(3.2 * hours, rel=1e-4)
    assert own == shipped


def test_this_machine_has_floors_once_its_bandwidth_is_said(tmp_path: Path) -> None:
    path = write_matrix(tmp_path)
    bare = document(path, folder=tmp_path)["cells"]
    assert {(cell["ttft_floor_ms"], cell["itl_floor_ms"]) for cell in bare} == {(None, None)}
    catalog = own_catalog(tmp_path, "local", bandwidth_bytes_s=1e9)
    said = fleetbench("plan", str(path), "--format", "json", folder=tmp_path, FLEETBENCH_CATALOG=catalog)
    cells = json.loads(said.out)["cells"]
    speed = {cell["recipe"]: cell for cell in cells if (cell["kind"], cell["batch"]) == ("speed", 1)}
    assert speed["f16"]["itl_floor_ms"] > speed["q2_k"]["itl_floor_ms"] > 0
    assert speed["f16"]["itl_floor_ms"] == pytest.approx(2 * 2.03e6 / 1e9 * 1e3, rel=0.1)
    assert [cell["itl_floor_ms"] for cell in cells if cell["kind"] == "quality"] == [None, None]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("gpus/h100.yaml", "price_usd_h: much", "catalog gpus/h100.yaml: price_usd_h"),
        ("gpus/h100.yaml", "prize: 3", "catalog gpus/h100.yaml: prize"),
        ("gpus/h100.yaml", "[", "h100.yaml: cannot be read"),
        ("gpus/new.yaml", "title: A new one", "catalog gpus/new.yaml: "),
    ],
)
def test_a_mistake_in_a_catalog_of_ones_own_is_said_by_its_file(
    name: str, text: str, said: str, tmp_path: Path
) -> None:
    place = tmp_path / "own" / name
    place.parent.mkdir(parents=True)
    place.write_text(text)
    own = str(tmp_path / "own")
    found = fleetbench("plan", str(CURATED / "format-ladder.yaml"), folder=tmp_path, FLEETBENCH_CATALOG=own)
    assert found.code == 2
    assert said in found.err
    assert "Traceback" not in found.err


def lines(text: str) -> str:
    """As one line, however it was folded."""
    return " ".join(text.split())


def test_every_cell_says_what_it_needs_of_a_gpu_and_what_there_is(tmp_path: Path) -> None:
    path = write_matrix(
        tmp_path, models="[llama-3.1-8b]", engines="vllm", hardware="h100", reference="bf16", recipes="[bf16, fp8]",
        quality=None, load="{batch: [4, 8], context: 2000, output: 48}",
    )  # fmt: skip
    cells = document(path, folder=tmp_path)["cells"]
    assert {cell["usable_bytes"] for cell in cells} == {int(0.92 * 85_520_809_984)}
    needed = {(cell["recipe"], cell["batch"]): cell["needed_bytes"] for cell in cells}
    for recipe in ("bf16", "fp8"):
        words = ("llama-3.1-8b", "--gpu", "h100", "--recipe", recipe, "--context", "2048", "--batch", "8")
        fit = json.loads(inside("fit", *words, "--format", "json", folder=tmp_path).out)
        assert needed[recipe, 8] == fit["total_bytes"]
        assert needed[recipe, 4] < needed[recipe, 8]


def test_bytes_that_nobody_knows_are_null(tmp_path: Path) -> None:
    cells = document(write_matrix(tmp_path), folder=tmp_path)["cells"]
    assert {cell["usable_bytes"] for cell in cells} == {None}
    assert {cell["kind"] for cell in cells if cell["needed_bytes"] is None} == {"quality"}


def test_an_engine_that_nothing_here_starts_is_said_to_be_planned_only(tmp_path: Path) -> None:
    path = write_matrix(
        tmp_path, models="[llama-3.1-8b]", engines="[vllm, tgi]", hardware="h100", reference="bf16", recipes="[bf16]",
        quality=None, load="{batch: 1, context: 100, output: 10}",
    )  # fmt: skip
    launches = document(path, folder=tmp_path)["launches"]
    assert {(one["engine"], one["adapter"]) for one in launches} == {("vllm", True), ("tgi", False)}
    said = lines(inside("plan", str(path), folder=tmp_path).out)
    assert "planned only, no adapter is here to start them: tgi" in said
    assert "no adapter" not in inside("plan", str(QUICKSTART), folder=tmp_path).out


def test_what_sums_leave_out_or_guess_is_said_of_each_model(tmp_path: Path) -> None:
    write(tmp_path / "ours", {"config.json": {**QWEN, "model_type": "ours", "architectures": ["OursForCausalLM"]}})
    path = write_matrix(
        tmp_path, models=f"[gemma-3-27b, {{name: ours, path: {tmp_path / 'ours'}}}]", engines="vllm", hardware="h100",
        reference="bf16", recipes="[bf16]", quality=None, load="{batch: 1, context: 16, output: 8}",
    )  # fmt: skip
    found = {one["model"]: one for one in document(path, folder=tmp_path)["launches"]}
    assert (found["gemma-3-27b"]["guessed"], found["gemma-3-27b"]["uncounted"]) == (False, ["vision_config"])
    assert (found["ours"]["guessed"], found["ours"]["uncounted"]) == (True, [])
    said = lines(inside("plan", str(path), folder=tmp_path).out)
    assert "gemma-3-27b: not counted: vision tower" in said
    assert "ours: its architecture is not known here: read as Llama's" in said


def test_a_published_format_speaks_in_a_plan_for_any_fleet(tmp_path: Path) -> None:
    path = write_matrix(
        tmp_path, models="[gpt-oss-120b]", engines="vllm", hardware="h100", reference="mxfp4", recipes="[mxfp4, fp8]",
        quality=None, load="{batch: 1, context: 100, output: 10}",
    )  # fmt: skip
    refusals = document(path, folder=tmp_path, code=1)["refusals"]
    assert [(row["recipe"], row["verdict"], row["rule"]) for row in refusals] == [
        ("fp8", "contradictory", "published-format")
    ]
