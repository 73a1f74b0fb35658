"""What is set beside each other, and what is not: hardware, engines, recipes, each over equal work alone."""

from __future__ import annotations

import json
import math
from datetime import timedelta
from pathlib import Path

import pytest

from tests.samples import START, Row, refusal_row, run_row
from tests.warehouse.work import Ask, asking, built, cell

SPEC = {"weights": "fp8", "kv": None, "draft": None}
MATRIX = json.dumps({"recipes": [{"name": "fp8", **SPEC}, {"name": "eagle", **SPEC, "draft": "eagle3"}]})


@pytest.fixture(scope="module")
def across(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """Two nightlies on H100, one run on H200 and MI300X, and other people's figures."""
    runs = [
        run_row(run_id="night1", matrix_json=MATRIX, submitted_at=START),
        run_row(run_id="night2", matrix_json=MATRIX, submitted_at=START + timedelta(days=1)),
        run_row(run_id="other", matrix_json=MATRIX, submitted_at=START + timedelta(hours=1)),
        run_row(run_id="theirs", origin="inferencex", source="x", source_sha256="0"),
    ]
    night2 = {"run_id": "night2", "started_at": START + timedelta(days=1)}
    h200, mi300x = ({"run_id": "other", "hardware": name} for name in ("h200", "mi300x"))
    unknown = {"run_id": "theirs", **dict.fromkeys(("model_digest", "kv_k", "kv_v", "method", "seed", "started_at"))}
    trials = [
        *cell("fp8", 100.0, run_id="night1"),
        *cell("fp8", 200.0, 210.0, 190.0, **night2),
        *cell("fp8", 50.0, batch=8, **night2),
        *cell("eagle", 300.0, **night2),
        *cell("fp8", 400.0, 500.0, energy_j_per_tok=2.0, power_status="available", **h200),
        *cell("fp8", 80.0, batch=8, engine_version="0.21", **h200),
        *cell("fp8", 130.0, engine_version="0.20+rocm7", **mi300x),
        *cell("fp8", 100.0, batch=8, outcome="oom", valid=False, **mi300x),
        *cell("fp8", 150.0, **unknown, hardware="b200"),
        *cell("fp8", 75.0, **unknown, hardware="mi355x"),
        *cell("mtp", 99.0, **unknown, hardware="mi355x", batch=2),
        *cell("fp8", 98.0, **unknown, hardware="b200", batch=2),
        *cell("fp8", 1.0, **unknown, hardware="b200", batch=None),
        *cell("fp8", 1.0, **unknown, hardware="mi355x", batch=None),
        *cell("fp8", 1.0, **{**unknown, "weights": None}, hardware="b200", batch=4),
        *cell("fp8", 1.0, **{**unknown, "weights": None}, hardware="mi355x", batch=4),
        *cell("fp8", 1.0, **unknown, hardware="b200", batch=3, engine_version=None),
        *cell("fp8", 1.0, **unknown, hardware="mi355x", batch=3, engine_version=None),
    ]
    return asking(built(tmp_path_factory.mktemp("across"), runs, trials))


def pairs(rows: list[Row], axis: str) -> set[tuple[object, ...]]:
    return {(row["origin"], row["recipe"], row["batch"], row[axis], row[f"other_{axis}"]) for row in rows}


def test_hardware_is_compared_over_equal_work_alone_both_ways_round(across: Ask) -> None:
    own = [("h100", "h200"), ("h100", "mi300x"), ("h200", "mi300x")]
    both_ways = {("fleetbench", "fp8", 1, *pair[::way]) for pair in own for way in (1, -1)}
    theirs = {("inferencex", "fp8", 1, *("b200", "mi355x")[::way]) for way in (1, -1)}
    assert pairs(across("FROM cmp_hardware"), "hardware") == both_ways | theirs


def test_the_cell_that_was_measured_last_stands_for_its_hardware(across: Ask) -> None:
    (row,) = across("FROM cmp_hardware WHERE hardware = 'h200' AND other_hardware = 'h100'")
    assert (row["run_id"], row["other_run_id"]) == ("other", "night2")
    assert (row["superseded_n"], row["other_superseded_n"]) == (0, 1)
    assert row["speed_ratio"] == pytest.approx(450 / 200)
    assert (row["speed_low_ratio"], row["speed_high_ratio"]) == (pytest.approx(400 / 210), pytest.approx(500 / 190))
    assert (row["trials"], row["other_trials"]) == (2, 3)
    assert (row["energy_ratio"], row["energy_n"], row["other_energy_n"]) == (None, 2, 0)
    assert (row["itl_mean_ratio"], row["no_itl_ratio"]) == (1.0, None)


def test_builds_of_one_release_are_one_and_of_one_trial_nobody_knows_the_spread(across: Ask) -> None:
    (row,) = across("FROM cmp_hardware WHERE hardware = 'mi300x' AND other_hardware = 'h100'")
    assert (row["engine_version"], row["other_engine_version"]) == ("0.20+rocm7", "0.20")
    assert (row["speed_ratio"], row["speed_low_ratio"], row["speed_high_ratio"]) == (130 / 200, None, None)


def test_a_summary_is_the_geometric_mean_with_n_spread_and_what_was_left_out(tmp_path: Path) -> None:
    other = {"run_id": "other", "hardware": "h200"}
    trials = [
        *cell("fp8", 100.0),
        *cell("fp8", 100.0, batch=8),
        *cell("fp8", 100.0, batch=64),
        *cell("fp8", 100.0, batch=128, kv_k=None),
        *cell("fp8", 100.0, batch=256, outcome="oom", valid=False),
        *[{**row, "output_tok_s": None} for row in cell("fp8", 1.0, batch=512, ttft_mean_ms=200.0)],
        *cell("fp8", 1.0, batch=512, ttft_mean_ms=100.0, **other),
        *cell("fp8", 200.0, **other),
        *cell("fp8", 800.0, batch=8, **other),
    ]
    runs = [run_row(), run_row(run_id="other")]
    ask = asking(built(tmp_path, runs, trials))
    (row,) = ask("FROM cmp_hardware_summary WHERE hardware = 'h100'")
    assert (row["n"], row["speed_geomean_ratio"]) == (2, pytest.approx(1 / 4))
    assert (row["speed_lowest_ratio"], row["speed_highest_ratio"]) == (100 / 800, 100 / 200)
    assert row["speed_geometric_sd"] == pytest.approx(math.exp(math.sqrt(2) * math.log(2)))
    assert (row["ttft_n"], row["ttft_geomean_ratio"], row["tpot_n"]) == (3, pytest.approx(2 ** (1 / 3)), 0)
    assert row["n_left_out"] == 3
    assert row["left_out"] == "no partner at the same load (2); no rate is stored (1)"
    (row,) = ask("FROM cmp_hardware_summary WHERE hardware = 'h200'")
    assert (row["n"], row["n_left_out"], row["left_out"]) == (2, 1, "no rate is stored (1)")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    """SGLang beside vLLM, each batch with another reason to compare gaps or not."""
    trials: list[Row] = []
    for batch, changes in (
        (1, {"itl_mean_ms": 5.0}),
        (2, {"gap_n": 75}),
        (3, {"gap_n": None}),
        (4, {"tokens_from": "chunks"}),
        (5, {"itl_n": 309}),
        (6, {"hardware": "h200"}),
        (7, {"kv_k": "fp8", "kv_v": "fp8"}),
        (8, {"model_digest": "e" * 64}),
    ):
        trials += cell("fp8", 100.0, batch=batch)
        trials += cell("fp8", 150.0, batch=batch, **{"engine": "sglang", "engine_version": "0.6", **changes})
    return asking(built(tmp_path_factory.mktemp("engines"), [run_row()], trials))


def test_engines_are_compared_over_equal_hardware_model_and_recipe(engines: Ask) -> None:
    rows = engines("FROM cmp_engine WHERE engine = 'sglang' ORDER BY batch")
    assert [row["batch"] for row in rows] == [1, 2, 3, 4, 5]
    assert {row["speed_ratio"] for row in rows} == {1.5}
    assert {(row["other_engine"], row["engine_version"], row["other_engine_version"]) for row in rows} == {
        ("vllm", "0.6", "0.20")
    }


def test_inter_token_latencies_of_other_portions_are_refused_with_the_reason(engines: Ask) -> None:
    rows = engines("SELECT batch, itl_mean_ratio, no_itl_ratio FROM cmp_engine WHERE engine = 'sglang' ORDER BY batch")
    assert [(row["itl_mean_ratio"], row["no_itl_ratio"]) for row in rows] == [
        (0.5, None),
        (None, "tokens an arrival: 4.00 against 1.00"),
        (None, "nobody knows how many tokens an arrival brings"),
        (None, "the server does not count the tokens"),
        (1.0, None),
    ]


def test_an_engine_summary_has_n_and_what_was_left_out(engines: Ask) -> None:
    (row,) = engines("FROM cmp_engine_summary WHERE engine = 'vllm'")
    assert (row["other_engine"], row["n"], row["n_left_out"]) == ("sglang", 5, 3)
    assert row["speed_geomean_ratio"] == pytest.approx(100 / 150)
    assert row["speed_geometric_sd"] == pytest.approx(1)


def test_a_recipe_summary_says_why_cells_have_no_ratio(tmp_path: Path) -> None:
    reference = {"reference": True, "weights": "bf16"}
    trials = [
        *cell("bf16", 100.0, **reference),
        *cell("bf16", 100.0, batch=8, outcome="oom", valid=False, **reference),
        *cell("fp8", 150.0),
        *cell("fp8", 150.0, batch=8),
        *cell("fp8", 150.0, batch=16),
        *cell("fp8", 150.0, batch=32, outcome="crashed", valid=False),
        *cell("fp8", 150.0, batch=64, engine_version=None),
        *cell("bf16", 150.0, batch=64, engine_version=None, **reference),
    ]
    refused = refusal_row("fp8", batch=128, hardware="h100", gpus=1, engine="vllm", engine_version="0.20")
    ask = asking(built(tmp_path, [run_row(reference="bf16")], trials, refusals=[{**refused, "random_weights": False}]))
    rows = ask("FROM cmp_recipe_summary WHERE recipe = 'fp8' AND engine_version = '0.20'")
    (row,) = rows
    assert (row["n"], row["speedup_geomean_ratio"], row["speedup_geometric_sd"]) == (1, 1.5, None)
    assert row["n_left_out"] == 4
    assert row["left_out"] == (
        "no cell of the reference agrees in model, version, place and load (1); "
        "not measured: crashed (1); not measured: refused (1); the reference was not measured: oom (1)"
    )
    (row,) = ask("FROM cmp_recipe WHERE recipe = 'fp8' AND batch = 64")
    assert (row["speedup_ratio"], row["no_ratio"]) == (
        None,
        "no cell of the reference agrees in model, version, place and load",
    )


def test_a_reference_that_is_there_twice_gives_no_ratio(tmp_path: Path) -> None:
    reference = {"reference": True, "weights": "bf16"}
    trials = [
        *cell("bf16", 100.0, **reference),
        *[{**row, "cell_id": "with-other-arguments", "trial_id": "t"} for row in cell("bf16", 120.0, **reference)],
        *cell("fp8", 150.0),
    ]
    ask = asking(built(tmp_path, [run_row(reference="bf16")], trials))
    assert [row["speedup_ratio"] for row in ask("FROM cmp_recipe WHERE recipe = 'fp8'")] == [None]


def test_what_was_measured_under_other_conditions_is_no_equal_work(tmp_path: Path) -> None:
    apart, together = json.dumps({"disagg": "true"}), json.dumps({"disagg": "false"})
    trials = [
        *cell("fp8", 100.0, conditions=apart),
        *cell("fp8", 120.0, hardware="b200", conditions=together),
        *cell("fp8", 150.0, hardware="mi300x", conditions=apart),
    ]
    ask = asking(built(tmp_path, [run_row()], trials))
    pairs = {(row["hardware"], row["other_hardware"]) for row in ask("FROM cmp_hardware")}
    assert pairs == {("h100", "mi300x"), ("mi300x", "h100")}
