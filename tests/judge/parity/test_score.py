from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.judge.parity.score import bounds, critical, mcnemar, tango

COUNTS = st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(1, 300)).map(
    lambda drawn: (drawn[0], drawn[1], drawn[0] + drawn[1] + drawn[2])
)


@pytest.mark.parametrize(
    ("lost", "gained", "n", "low", "high"),
    [
        (1, 7, 21, -0.517, -0.026),  # Fagerland, Lydersen and Laake, Statistics in Medicine 33 (2014), airway data
        (12, 2, 50, 0.061, 0.345),  # Tango, Statistics in Medicine 18 (1999)
    ],
)
def test_bounds_are_those_of_the_literature(lost: int, gained: int, n: int, low: float, high: float) -> None:
    assert list(bounds(lost, gained, n, at=critical(0.025))) == pytest.approx([low, high], abs=5e-4)


@pytest.mark.parametrize(
    ("alpha", "clusters", "value"),
    [(0.05, None, 1.64485), (0.05, 10, 1.83311), (0.025, 10, 2.26216), (0.05, 31, 1.69726), (0.0125, None, 2.24140)],
)
def test_critical_values_are_those_of_the_tables(alpha: float, clusters: int | None, value: float) -> None:
    assert critical(alpha, clusters) == pytest.approx(value, abs=1e-3)


def test_the_share_of_gains_is_the_most_likely_one_under_the_drop() -> None:
    """The statistic's variance rests on it; here it is found by search instead of by the formula."""
    lost, gained, n, drop = 9, 4, 200, 0.02
    shares = np.linspace(1e-6, (1 - drop) / 2 - 1e-6, 400_000)
    likely = (
        lost * np.log(shares + drop) + gained * np.log(shares) + (n - lost - gained) * np.log(1 - 2 * shares - drop)
    )
    share = float(shares[likely.argmax()])
    wanted = (lost - gained - n * drop) / math.sqrt(n * (2 * share + drop * (1 - drop)))
    assert tango(lost, gained, n, drop) == pytest.approx(wanted, rel=1e-4)


@given(COUNTS)
def test_bounds_hold_the_estimate_and_are_where_the_score_turns(counts: tuple[int, int, int]) -> None:
    lost, gained, n = counts
    low, high = bounds(lost, gained, n, at=1.6)
    assert -1 <= low <= (lost - gained) / n <= high <= 1
    assert tango(lost, gained, n, high) == pytest.approx(-1.6, rel=1e-6)
    assert tango(lost, gained, n, low) == pytest.approx(1.6, rel=1e-6)


@given(COUNTS)
def test_losses_and_gains_change_sides_with_the_sign(counts: tuple[int, int, int]) -> None:
    lost, gained, n = counts
    low, high = bounds(lost, gained, n, at=1.6)
    assert list(bounds(gained, lost, n, at=1.6)) == pytest.approx([-high, -low], abs=1e-9)


def test_without_a_drop_the_score_is_mcnemar_s() -> None:
    assert tango(20, 4, 400, 0) == pytest.approx((20 - 4) / math.sqrt(24))
    assert tango(0, 0, 400, 0) == 0


def test_the_exact_chance_counts_every_way_to_differ() -> None:
    ways = sum(sum(signs) >= 7 for signs in product((0, 1), repeat=8))
    assert mcnemar(7, 1) == pytest.approx(ways / 2**8)
    assert mcnemar(0, 0) == 1


def test_no_difference_in_few_items_shows_little() -> None:
    assert bounds(0, 0, 130, at=critical(0.05))[1] > 0.02
    assert bounds(0, 0, 140, at=critical(0.05))[1] < 0.02
