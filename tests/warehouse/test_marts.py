from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.store.commit import Warehouse, best
from fleetbench.store.connection import connect
from fleetbench.store.rows import conform
from fleetbench.store.views import definitions
from fleetbench_collectors.load import latency
from tests.samples import (
    START,
    Lab,
    Row,
    item_row,
    keyed,
    launch_row,
    position_row,
    records_of,
    refusal_row,
    request_row,
    trial_row,
)

Ask = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    warehouse = Warehouse(tmp_path)
    warehouse.create()
    return Lab(warehouse)


@pytest.fixture
def ask(lab: Lab) -> Ask:
    return lambda sql: connect(lab.warehouse.root).sql(sql).to_arrow_table().to_pylist()


def quality_trial(recipe: str, **changes: Any) -> Row:
    tiny = {"model": "tiny", "random_weights": False, "suite": "embedded/1"}
    load = {"batch": None, "context_tok": None, "output_tok": None}
    return trial_row(recipe, **{"kind": "quality", **tiny, **load, **changes})


def test_a_run_is_one_row_as_it_was_submitted_last(lab: Lab, ask: Ask) -> None:
    lab.run(cells=3)
    lab.run(cells=4, submitted_at=START.replace(hour=13))
    (row,) = ask("FROM runs")
    assert (row["cells"], row["submissions"]) == (4, 2)
    assert (row["first_submitted_at"].hour, row["last_submitted_at"].hour) == (12, 13)


def test_of_several_attempts_the_best_counts_then_the_last_as_in_python(lab: Lab, ask: Ask) -> None:
    outcomes = ["ok", "invalid", "crashed", "lost", "cancelled", "not_applied", "oom", "unjudged"]
    asked: list[Row] = []
    for number, tried in enumerate(itertools.permutations(outcomes, 2)):
        for attempt, outcome in enumerate(tried):
            word, valid = ("ok", False) if outcome == "unjudged" else (outcome, outcome == "ok")
            asked.append(trial_row(trial_id=f"t{number}", cell_id="c", attempt=attempt, outcome=word, valid=valid))
    lab.rows("trials", asked)
    counted = {row["trial_id"]: row["attempt"] for row in ask("FROM trials")}
    chosen = best(lab.warehouse.committed("run1"))
    assert counted == {trial: row.attempt for trial, row in chosen.items()}
    assert len(counted) == len(outcomes) * (len(outcomes) - 1)


def test_a_cell_is_the_median_of_its_good_trials_with_n_and_spread(lab: Lab, ask: Ask) -> None:
    for repeat, tok_s in enumerate((100.0, 120.0, 110.0)):
        lab.speed("f16", tok_s, repeat)
    lab.speed("f16", 10.0, role="control")
    (cell,) = ask("FROM cells")
    assert (cell["trials"], cell["output_tok_s"], cell["outcome"], cell["valid"]) == (3, 110.0, "ok", True)
    assert cell["output_tok_s_spread_ratio"] == pytest.approx(20 / 110)
    assert (cell["energy_j_per_tok"], cell["power_status"]) == (None, "unavailable")


def test_one_trial_has_no_spread(lab: Lab, ask: Ask) -> None:
    lab.speed("f16", 100.0, ttft_mean_ms=1.0, itl_mean_ms=1.0)
    (cell,) = ask("SELECT columns('.*_spread_ratio') FROM cells")
    assert len(cell) == 5
    assert set(cell.values()) == {None}


def test_the_spread_of_a_latency_is_that_of_the_good_trials_means(lab: Lab, ask: Ask) -> None:
    for repeat, mean in enumerate((10.0, 12.0, 11.0)):
        lab.speed("f16", 100.0, repeat, ttft_mean_ms=mean, itl_mean_ms=mean / 10)
    lab.speed("f16", 1.0, 3, ttft_mean_ms=99.0, itl_mean_ms=99.0, outcome="invalid", valid=False)
    (cell,) = ask("FROM cells")
    assert cell["ttft_mean_ms_spread_ratio"] == pytest.approx(2 / 11)
    assert cell["itl_mean_ms_spread_ratio"] == pytest.approx(2 / 11)


def test_a_bad_trial_gives_its_cell_a_reason_and_no_number(lab: Lab, ask: Ask) -> None:
    lab.speed("f16", 100.0)
    lab.speed("f16", 5.0, 1, outcome="invalid", valid=False, reason="asked for 4 tokens, got 3")
    (cell,) = ask("FROM cells")
    assert (cell["output_tok_s"], cell["trials"], cell["trials_not_ok"]) == (100.0, 1, 1)
    assert (cell["outcome"], cell["reason"]) == ("invalid", "asked for 4 tokens, got 3")
    assert cell["ttft_n"] == 2


def test_cells_that_failed_or_were_refused_stay_visible(lab: Lab, ask: Ask) -> None:
    lab.run(cells=3, refusals=1, trials=3)
    lab.speed("f16", 100.0)
    lab.trial(trial_row("q8_0", outcome="oom", valid=False, reason="out of memory"))
    refusal = refusal_row("f16", cell_id="big", batch=64, context_tok=9999, rule="context", sentence="too long")
    for name in ("a", "b"):
        lab.warehouse.commit("refusals", [refusal], run_id="run1", name=name)
    cells = {row["cell_id"]: row for row in ask("FROM cells")}
    said = sorted((row["outcome"], row["reason"], row["trials"]) for row in cells.values() if row["reason"])
    assert said == [("oom", "out of memory", 0), ("refused", "too long", 0)]
    assert (cells["big"]["batch"], cells["big"]["output_tok_s"]) == (64, None)
    (row,) = ask("FROM coverage")
    numbers = [row[f"cells_{word}"] for word in ("ok", "failed", "invalid", "refused", "missing")]
    assert (numbers, row["trials_committed"]) == ([1, 1, 0, 1, 1], 2)


def test_latencies_of_a_cell_are_pooled_by_n_and_medians_of_the_trials_quantiles(lab: Lab, ask: Ask) -> None:
    told = [  # n, mean, p50, p90, p99
        (100, 10.0, 9.0, 14.0, 20.0),
        (300, 14.0, 13.0, 18.0, 30.0),
        (200, 11.0, 10.0, 15.0, 24.0),
    ]
    for repeat, (n, mean, p50, p90, p99) in enumerate(told):
        of_trial = {"itl_n": n, "itl_mean_ms": mean, "itl_p50_ms": p50, "itl_p90_ms": p90, "itl_p99_ms": p99}
        lab.speed("f16", 100.0, repeat, **of_trial)
    (cell,) = ask("SELECT columns('^itl_(n|mean_ms|p.._ms)$') FROM cells")
    assert cell == {
        "itl_n": 600,
        "itl_mean_ms": pytest.approx((100 * 10 + 300 * 14 + 200 * 11) / 600),
        "itl_p50_ms": 10.0,
        "itl_p90_ms": 15.0,
        "itl_p99_ms": 24.0,
    }


def test_a_mean_without_its_n_counts_like_the_others_and_a_p99_is_of_the_trials_that_have_one(
    lab: Lab, ask: Ask
) -> None:
    lab.trial(trial_row(repeat=0, output_tok_s=1.0, ttft_n=50, ttft_mean_ms=10.0, e2e_n=50, e2e_p99_ms=None))
    lab.trial(trial_row(repeat=1, output_tok_s=1.0, ttft_n=None, ttft_mean_ms=30.0, e2e_n=150, e2e_p99_ms=7.0))
    (cell,) = ask("SELECT ttft_n, ttft_mean_ms, ttft_p99_ms, e2e_n, e2e_p99_ms, e2e_mean_ms FROM cells")
    assert cell == {
        "ttft_n": 50,
        "ttft_mean_ms": 20.0,
        "ttft_p99_ms": None,
        "e2e_n": 200,
        "e2e_p99_ms": 7.0,
        "e2e_mean_ms": None,
    }


REQUEST = st.builds(
    lambda gaps, extra, known, ttft: request_row(
        0,
        gaps,
        ttft_us=ttft,
        output_tok=len(gaps) + 1 + extra,
        chunk_tok=[1 + extra] + [1] * len(gaps) if known else None,
    ),
    st.lists(st.integers(0, 5_000_000), max_size=12),
    st.integers(0, 30),
    st.booleans(),
    st.integers(1, 10_000_000),
)


@settings(max_examples=15, deadline=None)
@given(requests=st.lists(REQUEST, min_size=1, max_size=12))
def test_raw_latencies_are_those_of_the_collector(requests: list[Row]) -> None:
    rows = [{**row, "request": number} for number, row in enumerate(requests)]
    rows += [
        request_row(90, [7], phase="warmup"),
        {**request_row(91, []), "outcome": "timeout", "first_token_ns": None},
    ]
    trial = trial_row()
    with duckdb.connect(":memory:") as connection:
        connection.register("requests", conform("requests", keyed(trial, rows)))
        connection.register("good_trials", conform("trials", [trial]))
        raw = connection.sql(definitions()["request_latencies"]).to_arrow_table()
    wanted = latency.samples(records_of(rows))
    for what in ("ttft", "tpot", "e2e"):
        found = [value for value in raw[f"{what}_ms"].to_pylist() if value is not None]
        assert sorted(found) == pytest.approx(sorted(getattr(wanted, f"{what}_ms"))), what
    gaps = [value for of_request in raw["itl_ms"].to_pylist() for value in of_request]
    assert sorted(gaps) == pytest.approx(sorted(wanted.itl_ms))


def test_a_speed_up_is_over_the_reference_at_the_same_load(lab: Lab, ask: Ask) -> None:
    for repeat, (slow, fast) in enumerate(((100.0, 150.0), (110.0, 170.0))):
        lab.speed("f16", slow, repeat)
        lab.speed("q4_k", fast, repeat)
        lab.speed("q4_k", fast, repeat, batch=4)
    rows = {(row["recipe"], row["batch"]): row for row in ask("FROM cmp_recipe")}
    assert rows["f16", 1]["speedup_ratio"] == 1
    assert rows["q4_k", 1]["speedup_ratio"] == pytest.approx(160 / 105)
    assert rows["q4_k", 1]["speedup_low_ratio"] == pytest.approx(150 / 110)
    assert rows["q4_k", 1]["speedup_high_ratio"] == pytest.approx(170 / 100)
    assert rows["q4_k", 4]["speedup_ratio"] is None


@pytest.mark.parametrize(("references", "others"), [(1, 2), (2, 1)])
def test_a_speed_up_of_a_single_trial_has_no_low_and_high(lab: Lab, ask: Ask, references: int, others: int) -> None:
    for repeat in range(references):
        lab.speed("f16", 100.0, repeat)
    for repeat in range(others):
        lab.speed("q4_k", 150.0, repeat)
    (row,) = ask("FROM cmp_recipe WHERE recipe = 'q4_k'")
    assert (row["speedup_ratio"], row["speedup_low_ratio"], row["speedup_high_ratio"]) == (1.5, None, None)


def test_a_cell_that_was_cancelled_or_lost_is_neither_failed_nor_missing(lab: Lab, ask: Ask) -> None:
    lab.run(cells=6, trials=7)
    lab.speed("f16", 100.0)
    lab.speed("q5_k", 100.0)
    lab.trial(trial_row("q5_k", 1, outcome="cancelled", valid=False))
    for recipe, outcome in (("q8_0", "cancelled"), ("q6_k", "lost"), ("q4_k", "crashed")):
        lab.trial(trial_row(recipe, outcome=outcome, valid=False))
    (row,) = ask("FROM coverage")
    words = ("ok", "failed", "cancelled", "lost", "missing")
    assert [row[f"cells_{word}"] for word in words] == [1, 1, 2, 1, 1]
    assert (row["trials_ok"], row["trials_committed"]) == (2, 6)


def test_drift_is_the_control_over_the_first_launch(lab: Lab, ask: Ask) -> None:
    lab.speed("f16", 100.0)
    lab.speed("q8_0", 100.0)
    lab.speed("f16", 90.0, role="control")
    (row,) = ask("FROM drift")
    assert (row["recipe"], row["ratio"], row["first_n"], row["control_n"]) == ("f16", 0.9, 1, 1)
    assert row["same_node"]


def test_drift_compares_a_node_with_itself_where_it_gave_both(lab: Lab, ask: Ask) -> None:
    lab.speed("f16", 100.0, node="one")
    lab.speed("f16", 200.0, 1, node="other")
    lab.speed("f16", 190.0, role="control", node="other")
    (row,) = ask("FROM drift")
    assert (row["ratio"], row["first_n"], row["same_node"]) == (0.95, 1, True)
    assert (row["first_nodes"], row["control_nodes"]) == (["other"], ["other"])


def test_drift_says_where_no_node_gave_both(lab: Lab, ask: Ask) -> None:
    lab.speed("f16", 100.0, node="one")
    lab.speed("f16", 120.0, 1, node="other")
    lab.speed("f16", 55.0, role="control", node="third")
    (row,) = ask("FROM drift")
    assert (row["ratio"], row["first_n"], row["same_node"]) == (0.5, 2, False)
    assert (row["first_nodes"], row["control_nodes"]) == (["one", "other"], ["third"])


def test_quality_counts_answers_with_their_interval(lab: Lab, ask: Ask) -> None:
    items = [item_row(n, correct=n < 90) for n in range(100)] + [item_row(100, correct=None)]
    lab.trial(quality_trial("f16"), quality_items=items)
    lab.trial(quality_trial("f16", repeat=1), quality_items=items)
    (row,) = ask("FROM quality")
    assert (row["n"], row["correct"], row["unanswered"], row["accuracy"]) == (100, 90, 1, 0.9)
    assert (row["low"], row["high"]) == (pytest.approx(0.8256343), pytest.approx(0.9447708))


def test_models_of_random_weights_have_no_quality(lab: Lab, ask: Ask) -> None:
    lab.trial(
        quality_trial("f16", random_weights=True),
        quality_items=[item_row(0, correct=True)],
        quality_positions=[position_row(0, [0.0])],
    )
    assert ask("SELECT run_id FROM quality UNION ALL SELECT run_id FROM kl") == []


def test_divergence_is_from_the_reference_of_the_same_run(lab: Lab, ask: Ask) -> None:
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.4, 0.4, 0.2])
    for recipe, probabilities in (("f16", p), ("q2_k", q)):
        positions = [position_row(n, np.log(probabilities).tolist()) for n in range(4)]
        positions.append(position_row(9, [-math.inf, 0.0, -1.0], ids=[4, 5, 6 if recipe == "f16" else 7]))
        positions.append(position_row(10, np.log(probabilities).tolist()[: 3 if recipe == "f16" else 2]))
        lab.trial(quality_trial(recipe), quality_positions=positions)
    lab.trial(quality_trial("f16", run_id="run2"), quality_positions=[position_row(0, [0.0])])
    rows = {(row["run_id"], row["recipe"]): row for row in ask("FROM kl")}
    wanted = float((p * np.log(p / q)).sum())
    row = rows["run1", "q2_k"]
    assert row["kl_mean_nat"] == pytest.approx(wanted, rel=1e-5)
    assert (row["positions"], row["skipped"]) == (4, 2)
    assert rows["run1", "f16"]["kl_mean_nat"] == 0
    assert rows["run2", "f16"]["positions"] == 1


def test_every_failed_attempt_is_listed_and_says_whether_it_was_made_good(lab: Lab, ask: Ask) -> None:
    lab.trial(trial_row(outcome="crashed", valid=False, reason="signal 9", log_tail="bye"))
    lab.speed("f16", 100.0, attempt=1)
    lab.trial(trial_row("q8_0", outcome="timeout", valid=False))
    launch = launch_row("q2_k", outcome="launch_failed", reason="no file")
    lab.warehouse.commit("launches", [launch], run_id="run1", name="l-0")
    said = {(row["what"], row["recipe"]): (row["outcome"], row["superseded"]) for row in ask("FROM failures")}
    assert said == {
        ("trial", "f16"): ("crashed", True),
        ("trial", "q8_0"): ("timeout", False),
        ("launch", "q2_k"): ("launch_failed", False),
    }
