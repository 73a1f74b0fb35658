from __future__ import annotations

from pathlib import Path

import pytest

from fleetbench.store.commit import Warehouse
from fleetbench.store.views import connect, failed_checks
from tests.samples import Lab, recipe_axes, request_row, trial_row


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(Warehouse(tmp_path))
    made.run()
    made.speed("f16", 100.0)
    return made


def found(lab: Lab) -> dict[str, int]:
    return failed_checks(connect(lab.warehouse.root))


def test_a_trial_of_no_run_is_found(lab: Lab) -> None:
    lab.speed("f16", 1.0, run_id="stray")
    assert found(lab) == {"trial_without_run": 1}


def test_an_attempt_that_is_there_twice_is_found(lab: Lab) -> None:
    lab.warehouse.commit("trials", [trial_row(output_tok_s=1.0)], run_id="run1", name="again")
    assert found(lab) == {"attempt_twice": 1}


def test_one_cell_id_for_different_work_is_found(lab: Lab) -> None:
    lab.speed("f16", 1.0, 1, cell_id=trial_row()["cell_id"], batch=8)
    assert found(lab) == {"cell_with_two_meanings": 1}


def test_a_good_trial_with_other_token_counts_than_asked_is_found(lab: Lab) -> None:
    requests = [request_row(0, [1, 1], output_tok=5), request_row(1, [1, 1], prompt_tok=63)]
    lab.trial(trial_row("q8_0", output_tok_s=1.0), requests=requests)
    assert found(lab) == {"more_tokens_than_asked": 2}


def test_a_good_trial_without_a_rate_is_found(lab: Lab) -> None:
    lab.trial(trial_row("q8_0"))
    assert found(lab) == {"good_without_numbers": 1}


def test_a_zero_that_stands_for_missing_is_found(lab: Lab) -> None:
    lab.speed("q8_0", 1.0, energy_j=0.0)
    assert found(lab) == {"zero_for_missing": 1}


def test_quantiles_out_of_order_are_found(lab: Lab) -> None:
    lab.speed("q8_0", 1.0, itl_p50_ms=2.0, itl_p90_ms=1.0)
    assert found(lab) == {"quantiles_out_of_order": 1}


def test_time_that_runs_backwards_is_found(lab: Lab) -> None:
    lab.trial(trial_row("q8_0", output_tok_s=1.0), requests=[request_row(0, [1], end_ns=1)])
    assert found(lab) == {"time_runs_backwards": 1}


def test_a_cell_that_was_refused_and_run_is_found(lab: Lab) -> None:
    refusal = {
        **recipe_axes("f16"),
        "run_id": "run1",
        "cell_id": trial_row()["cell_id"],
        "kind": "speed",
        "rule": "fit",
        "sentence": "too big",
        "verdict": "does_not_fit",
        "source": "a test",
    }
    lab.warehouse.commit("refusals", [refusal], run_id="run1", name="r")
    assert found(lab) == {"refused_and_run": 1}
