from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.judge.parity.paired import Pairs, churn, pair


def answers(*runs: str) -> np.ndarray:
    """Runs of answers, x for a right one."""
    return np.array([[sign == "x" for sign in run] for run in runs])


def alone(n: int) -> list[str]:
    return [f"item-{number}" for number in range(n)]


def test_losses_and_gains_of_single_runs_are_counted() -> None:
    found = pair(answers("xxx..x"), answers("x..x.x"), alone(6))
    assert found == Pairs(n=6, lost=2, gained=1, clusters=6, effect=1)
    assert found.drop == pytest.approx(1 / 6)
    assert found.churn == pytest.approx(1 / 2)
    assert found.independent


def test_of_several_runs_every_pair_counts_alike() -> None:
    found = pair(answers("xx..", "x..."), answers("x..x"), alone(4))
    assert (found.lost, found.gained) == (0.5, 1)


def test_items_that_fall_together_count_for_less() -> None:
    """Ten templates of ten items each: where whole templates are lost, there are ten observations and not a hundred."""
    clusters = [f"template-{number // 10}" for number in range(100)]
    reference = np.ones((1, 100), dtype=bool)
    candidate = reference.copy()
    candidate[0, :20] = False
    together = pair(reference, candidate, clusters)
    assert together.effect == pytest.approx(10 * 10 / 9)
    candidate[0] = np.arange(100) % 5 != 0
    assert pair(reference, candidate, clusters).effect == 1  # two of every template: no cluster says more than an item


def test_repeats_take_away_the_noise_of_single_runs_and_no_more() -> None:
    generator = np.random.default_rng(5)
    ability = generator.uniform(0.3, 0.7, 4000)
    reference, candidate = (generator.uniform(size=(4, 4000)) < ability for _ in range(2))
    found = pair(reference, candidate, alone(4000))
    assert found.effect == pytest.approx(0.25, abs=0.02)  # answers are coin tosses: four a side are worth four


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 40), st.integers(0, 10**6))
def test_the_effect_is_never_less_than_that_of_as_many_runs(runs: int, others: int, n: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    reference, candidate = generator.uniform(size=(runs, n)) < 0.6, generator.uniform(size=(others, n)) < 0.5
    found = pair(reference, candidate, [str(number % 7) for number in range(n)])
    assert found.effect >= (1 / runs + 1 / others) / 2
    assert found.drop == pytest.approx(float(reference.mean() - candidate.mean()))


def test_churn_is_pooled_over_all_pairs_of_runs() -> None:
    assert churn(answers("xx..", "xxx.", "xx..")) == pytest.approx((1 + 0 + 1) / 3 / 4)
    assert churn(answers("xx..")) is None


@pytest.mark.parametrize("candidate", [answers("x."), np.ones((0, 3), dtype=bool)])
def test_answers_of_other_items_are_refused(candidate: np.ndarray) -> None:
    with pytest.raises(ValueError, match="do not pair"):
        pair(answers("xx."), candidate, alone(3))
    with pytest.raises(ValueError, match="do not pair"):
        pair(np.ones((1, 0), dtype=bool), np.ones((1, 0), dtype=bool), [])
