from __future__ import annotations

import numpy as np
import pytest

from fleetbench.judge.parity.power import Truth, draw, items_for, items_simulated, passing, power_at

MARGIN = 0.02


def test_the_formula_gives_the_published_number_of_items() -> None:
    assert items_for(power=0.8, margin=MARGIN, churn=0.04) == 619  # (1.6449 + 0.8416)^2 * 0.04 / 0.02^2
    assert items_for(power=0.9, margin=MARGIN, churn=0.04) == 857
    assert items_for(power=0.8, margin=MARGIN, churn=0.04, drop=0.01) > 4 * 600


def test_a_true_drop_at_the_margin_is_refused_and_passes_one_time_in_twenty() -> None:
    with pytest.raises(ValueError, match="does not pass"):
        items_for(power=0.8, margin=MARGIN, churn=0.04, drop=MARGIN)
    for n in (200, 1000, 5000):
        assert power_at(n, Truth(churn=0.06, drop=MARGIN), MARGIN, replicates=20_000, seed=n) < 0.06


def test_draws_are_as_the_truth_says() -> None:
    found = draw(Truth(churn=0.1, drop=0.04), 1000, 20_000, np.random.default_rng(1)).mean(axis=0)
    assert found == pytest.approx([70, 30], rel=0.01)


def test_the_number_found_by_simulation_has_its_power_and_one_percent_less_has_not() -> None:
    truth = Truth(churn=0.04)
    n = items_simulated(power=0.8, margin=MARGIN, truth=truth, replicates=20_000, seed=3)
    assert n is not None
    assert 600 < n < 720
    assert power_at(n, truth, MARGIN, replicates=20_000, seed=3) >= 0.8
    assert power_at(n, truth, MARGIN, replicates=20_000, seed=4) == pytest.approx(0.8, abs=0.02)
    assert power_at(round(0.97 * n), truth, MARGIN, replicates=20_000, seed=3) < 0.8


def test_what_no_number_of_items_shows_has_none() -> None:
    assert items_simulated(power=0.8, margin=1e-4, truth=Truth(churn=0.5), replicates=10, seed=1) is None


def test_candidates_pass_by_the_same_rule_as_the_gate() -> None:
    assert passing(np.array([[3, 3], [20, 4], [9, 4]]), 400, MARGIN) == pytest.approx(1 / 3)


@pytest.mark.parametrize(("churn", "drop"), [(0.01, 0.02), (1.5, 0), (-0.1, 0)])
def test_a_truth_that_cannot_be_is_refused(churn: float, drop: float) -> None:
    with pytest.raises(ValueError, match="needs a churn"):
        Truth(churn=churn, drop=drop)
