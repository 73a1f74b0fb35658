"""What is best: fronts, the throughput that keeps to an SLO, how throughput scales, and where a format stops paying."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.samples import START, Row, refusal_row, run_row
from tests.warehouse.work import Ask, asking, built, cell


def point(name: str, user_tok_s: float, tok_s: float, **axes: Any) -> list[Row]:
    return cell("fp8", tok_s, cell_id=name, user_tok_s_p50=user_tok_s, **axes)


@pytest.fixture(scope="module")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    later = {"run_id": "night2", "started_at": START + timedelta(days=1)}
    trials = [
        *point("quick", 100.0, 100.0),
        *point("middle", 50.0, 800.0, gpus=2, tp=2),
        *point("dominated", 50.0, 399.0),
        *point("as good", 50.0, 400.0, batch=2),
        *point("full", 10.0, 900.0),
        *point("other shape", 1.0, 1.0, context_tok=4096),
        *point("random", 1.0, 1.0, random_weights=True, model_digest="e" * 64),
        *point("other model", 1.0, 1.0, model_digest="e" * 64),
        *point("how many?", 500.0, 5000.0, gpus=None),
        *point("no lengths", 500.0, 5000.0, output_tok=None),
        *point("no TPOT", 0.0, 5000.0, tpot_p50_ms=None),
        *cell("fp8", 30.0, cell_id="by TPOT", tpot_p50_ms=5.0),
        *point("on a CPU", 300.0, 20.0, gpus=0, hardware="local"),
        *point("failed", 900.0, 9000.0, outcome="oom", valid=False),
        *point("nightly", 1000.0, 9.0),
        *point("nightly", 9.0, 1.0, **later),
        *point("lone", 8.0, 2.0, **later),
    ]
    for row in trials:
        if row["cell_id"] == "no TPOT":
            row["user_tok_s_p50"] = None
    return asking(built(tmp_path_factory.mktemp("fronts"), [run_row(), run_row(run_id="night2")], trials))


def named(rows: list[Row], flag: str) -> set[str]:
    return {row["cell_id"] for row in rows if row[flag]}


def test_the_front_is_what_no_equal_work_beats_in_both(fronts: Ask) -> None:
    alone = {"other shape", "random", "other model"}
    best = {"quick", "middle", "as good", "full", "by TPOT", "on a CPU"}
    assert named(fronts("FROM pareto"), "on_front") == best | alone


def test_of_the_same_cell_the_last_one_counts_and_within_a_run_each_its_own(fronts: Ask) -> None:
    rows = fronts("FROM pareto WHERE cell_id IN ('nightly', 'lone') ORDER BY run_id, cell_id DESC")
    assert [(row["cell_id"], row["latest"], row["on_front"], row["on_front_of_run"]) for row in rows] == [
        ("nightly", True, False, True),
        ("lone", True, False, True),
        ("nightly", False, False, True),
    ]
    assert rows[2]["left_out"] == "a later run has the same cell"


def test_what_is_in_no_front_says_why_and_bounds_no_other(fronts: Ask) -> None:
    rows = {row["cell_id"]: row for row in fronts("FROM pareto WHERE on_front IS NULL")}
    assert {name: row["left_out"] for name, row in rows.items()} == {
        "how many?": "the number of GPUs is unknown",
        "no lengths": "the load shape is unknown",
        "no TPOT": "no time per output token is stored",
    }
    (row,) = fronts("FROM pareto WHERE cell_id = 'middle'")
    assert (row["tok_s_per_gpu"], row["tok_s_per_user"], row["trials"]) == (400.0, 50.0, 1)
    (row,) = fronts("FROM pareto WHERE cell_id = 'how many?'")
    assert row["tok_s_per_gpu"] is None
    (row,) = fronts("FROM pareto WHERE cell_id = 'on a CPU'")
    assert row["tok_s_per_gpu"] == 20.0
    (row,) = fronts("FROM pareto WHERE cell_id = 'by TPOT'")
    assert row["tok_s_per_user"] == 200.0
    assert fronts("FROM pareto WHERE cell_id = 'failed'") == []


def test_the_front_is_that_of_the_definition(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    groups = {context: random.integers(1, 7, (int(random.integers(1, 26)), 2)).tolist() for context in range(100, 160)}
    trials: list[Row] = []
    wanted: set[str] = set()
    for context, points in groups.items():
        for n, (x, y) in enumerate(points):
            trials += point(f"{context}-{n}", float(x), float(y), context_tok=context)
            if not any(u >= x and v >= y and (u, v) != (x, y) for u, v in points):
                wanted.add(f"{context}-{n}")
    rows = asking(built(tmp_path, [run_row()], trials))("FROM pareto")
    assert named(rows, "on_front") == wanted == named(rows, "on_front_of_run")


def kept(tok_s: float, ttft: float | None, itl: float | None, **axes: Any) -> list[Row]:
    return cell("fp8", tok_s, tok_s, ttft_p99_ms=ttft, itl_p99_ms=itl, **axes)


@pytest.fixture(scope="module")
def slo(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    runs = [
        run_row(matrix_json=json.dumps({"slo": {"ttft_p99_ms": 500.0, "itl_p99_ms": 50.0}})),
        run_row(run_id="half", matrix_json=json.dumps({"slo": {"ttft_p99_ms": None, "itl_p99_ms": 12.5}})),
        run_row(run_id="none", matrix_json=json.dumps({"slo": {"ttft_p99_ms": None, "itl_p99_ms": None}})),
        run_row(run_id="bench"),
    ]
    asked = {"run_id": "bench", "slo": "ttft:500,itl:50"}
    trials = [
        *kept(100.0, 400.0, 50.0, batch=1),
        *kept(300.0, 500.0, 50.0, batch=8),
        *kept(590.0, 499.0, 49.0, batch=16, tp=2, gpus=2),
        *kept(700.0, 501.0, 40.0, batch=32),
        *kept(900.0, None, 40.0, batch=64),
        *kept(950.0, None, 51.0, batch=128),
        *kept(999.0, 1.0, 1.0, batch=256, outcome="oom", valid=False),
        *kept(999.0, 1.0, 1.0, batch=512, gpus=None),
        *kept(10.0, None, 12.0, run_id="half"),
        *kept(10.0, 1.0, 1.0, run_id="none"),
        *cell("fp8", 40.0, batch=1, goodput_ratio=1.0, goodput_per_s=2.0, **asked),
        *cell("fp8", 80.0, batch=8, goodput_ratio=0.98, goodput_per_s=3.0, **asked),
        *cell("fp8", 90.0, batch=16, goodput_ratio=None, **asked),
    ]
    return asking(built(tmp_path_factory.mktemp("slo"), runs, trials))


def test_the_best_throughput_within_the_slo_says_what_was_left_out(slo: Ask) -> None:
    (row,) = slo("FROM frontier_by_slo WHERE run_id = 'run1'")
    assert row["slo"] == "ttft_p99:500,itl_p99:50"
    assert (row["batch"], row["output_tok_s"], row["tok_s_per_gpu"]) == (8, 300.0, 300.0)
    assert (row["trials"], row["output_tok_s_spread_ratio"]) == (2, 0.0)
    assert [row[name] for name in ("n", "n_within", "n_outside", "n_left_out")] == [8, 3, 2, 3]
    assert row["left_out"] == "no p99 (1); not measured: oom (1); rate or number of GPUs unknown (1)"


def test_a_target_that_was_not_asked_for_needs_no_number_and_no_slo_gives_no_row(slo: Ask) -> None:
    (row,) = slo("FROM frontier_by_slo WHERE run_id = 'half'")
    assert (row["slo"], row["n_within"], row["output_tok_s"]) == ("itl_p99:12.5", 1, 10.0)
    assert slo("FROM frontier_by_slo WHERE run_id = 'none'") == []


def test_a_bench_keeps_to_its_slo_where_its_requests_did(slo: Ask) -> None:
    (row,) = slo("FROM frontier_by_slo WHERE run_id = 'bench'")
    assert (row["slo"], row["batch"], row["goodput_per_s"]) == ("ttft:500,itl:50", 1, 2.0)
    assert [row[name] for name in ("n", "n_within", "n_outside", "n_left_out")] == [3, 1, 1, 1]


@pytest.fixture(scope="module")
def scaling(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    trials = [
        *cell("fp8", 100.0, 110.0, batch=2),
        *cell("fp8", 300.0, 330.0, batch=8),
        *cell("fp8", 60.0, batch=8, context_tok=1024),
        *cell("fp8", 500.0, batch=8, tp=2, gpus=2),
        *cell("fp8", 1.0, batch=64, outcome="oom", valid=False),
        *cell("fp8", 1.0, batch=1, outcome="oom", valid=False),
        *cell("fp8", 1.0, batch=4, engine_version=None),
        *cell("fp8", 777.0, batch=16, seed=9),
        *cell("fp8", 777.0, batch=16, run_id="other"),
        *cell("fp8", 777.0, batch=32, engine_version="0.21"),
        *cell("fp8", 777.0, batch=32, engine="sglang"),
        *cell("fp8", 777.0, batch=32, hardware="h200"),
        *cell("fp8", 777.0, batch=32, kv_k="fp8", kv_v="fp8", cell_id="kv"),
        *cell("int4", 777.0, batch=32, weights="int4"),
        *cell("fp8", 777.0, batch=32, model_digest="e" * 64, cell_id="model"),
        *cell("fp8", 777.0, batch=32, output_tok=9, cell_id="output"),
        *cell("fp8", 777.0, batch=32, dp=2, cell_id="dp"),
    ]
    return asking(built(tmp_path_factory.mktemp("scaling"), [run_row(), run_row(run_id="other")], trials))


def test_throughput_scales_over_batch_against_the_smallest_that_was_measured(scaling: Ask) -> None:
    rows = scaling("FROM scaling WHERE axis = 'batch' ORDER BY value")
    assert [row["value"] for row in rows] == [2, 8]
    assert [row["throughput_ratio"] for row in rows] == [1.0, 3.0]
    assert [row["efficiency_ratio"] for row in rows] == [1.0, 0.75]
    big = rows[1]
    assert (big["throughput_low_ratio"], big["throughput_high_ratio"]) == (pytest.approx(300 / 110), 3.3)
    assert (big["smallest"], big["smallest_asked"], big["smallest_trials"]) == (2, 1, 2)
    assert (big["n"], big["n_left_out"], big["left_out"]) == (2, 2, "oom (2)")


def test_throughput_scales_over_context_and_degree_all_else_equal(scaling: Ask) -> None:
    (short, long) = scaling("FROM scaling WHERE axis = 'context' ORDER BY value")
    assert (short["value"], long["value"]) == (64, 1024)
    assert long["throughput_ratio"] == long["efficiency_ratio"] == pytest.approx(60 / 315)
    assert long["throughput_low_ratio"] is None
    (one, two) = scaling("FROM scaling WHERE axis = 'tp' ORDER BY value")
    assert (one["efficiency_ratio"], two["smallest_cell_id"]) == (1.0, one["cell_id"])
    assert (two["throughput_ratio"], two["efficiency_ratio"]) == (pytest.approx(500 / 315), pytest.approx(250 / 315))


@pytest.fixture(scope="module")
def by_batch(tmp_path_factory: pytest.TempPathFactory) -> Ask:
    reference = {"reference": True, "weights": "bf16"}
    trials: list[Row] = []
    for batch, int4, fp8, awq in ((1, 250.0, 110.0, 80.0), (8, 120.0, 120.0, 90.0), (32, 90.0, 130.0, 101.0)):
        trials += cell("bf16", 100.0, batch=batch, **reference)
        for recipe, tok_s in (("int4", int4), ("fp8", fp8), ("awq", awq)):
            trials += cell(recipe, tok_s, batch=batch, weights=recipe)
    trials += cell("int4", 1.0, batch=16, weights="int4")
    trials += cell("int4", 0.0, batch=128, weights="int4", outcome="oom", valid=False)
    refused = {**refusal_row("fp8", batch=64), **{name: trials[0][name] for name in ("hardware", "gpus", "engine")}}
    refused |= {"engine_version": "0.20", "random_weights": False}
    root = built(tmp_path_factory.mktemp("by-batch"), [run_row(reference="bf16")], trials, refusals=[refused])
    return asking(root)


@pytest.mark.parametrize(
    ("recipe", "turns", "after", "at"),
    [("int4", "below", 8, 32), ("awq", "above", 8, 32), ("fp8", None, None, None)],
)
def test_a_series_says_at_which_batch_the_speed_up_turns(
    by_batch: Ask, recipe: str, turns: str | None, after: int | None, at: int | None
) -> None:
    rows = by_batch(f"FROM speedup_by_batch WHERE recipe = '{recipe}'")
    assert {(row["turns"], row["turns_after_batch"], row["turns_at_batch"]) for row in rows} == {(turns, after, at)}


def test_batches_without_a_ratio_stay_and_are_counted(by_batch: Ask) -> None:
    rows = by_batch("FROM speedup_by_batch WHERE recipe = 'int4' ORDER BY batch")
    assert [(row["batch"], row["speedup_ratio"]) for row in rows] == [
        (1, 2.5),
        (8, 1.2),
        (16, None),
        (32, 0.9),
        (128, None),
    ]
    assert {(row["n"], row["n_left_out"]) for row in rows} == {(3, 2)}
    assert rows[0]["left_out"] == (
        "no cell of the reference agrees in model, version, place and load (1); not measured: oom (1)"
    )
    assert by_batch("SELECT DISTINCT left_out FROM speedup_by_batch WHERE recipe = 'awq'") == [{"left_out": None}]


def test_what_is_not_shown_to_keep_its_quality_is_on_no_front_and_within_no_slo_unless_asked(tmp_path: Path) -> None:
    slo = json.dumps({"slo": {"ttft_p99_ms": None, "itl_p99_ms": 100.0}})
    root = built(tmp_path, [run_row(matrix_json=slo)], point("fast", 10.0, 100.0, itl_p99_ms=5.0))
    proven, asked = asking(root, unproven=False), asking(root)
    (row,) = proven("FROM pareto")
    assert (row["on_front"], row["left_out"]) == (None, "quality not shown: nobody judged it")
    assert asked("FROM pareto")[0]["on_front"]
    (row,) = proven("FROM frontier_by_slo")
    assert (row["cell_id"], row["n_left_out"], row["left_out"]) == (None, 1, "quality not shown: nobody judged it (1)")
    assert asked("FROM frontier_by_slo")[0]["cell_id"] == "fast"
