from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.judge.parity.paired import Pairs
from fleetbench.judge.parity.verdict import Judged, Verdict, holm, judge, noise_sigma, overall

MARGIN = 0.02


def pairs(lost: float, gained: float, n: int, *, clusters: int | None = None, effect: float = 1) -> Pairs:
    return Pairs(n=n, lost=lost, gained=gained, clusters=n if clusters is None else clusters, effect=effect)


def judged(one: Pairs, margin: float = MARGIN, *, looks: int = 1) -> Judged:
    return judge({"all": one}, {"all": margin}, looks=looks)["all"]


@pytest.mark.parametrize(
    ("lost", "gained", "n", "verdict"),
    [
        (9, 4, 200, Verdict.INCONCLUSIVE),
        (30, 28, 1500, Verdict.PASS),
        (20, 4, 400, Verdict.BLOCK),
        (0, 0, 100, Verdict.INCONCLUSIVE),
        (0, 0, 500, Verdict.PASS),
        (12, 2, 2000, Verdict.PASS),  # a loss that is shown, and shown to be below the margin
        (100, 80, 1000, Verdict.INCONCLUSIVE),  # at the margin, and not shown
    ],
)
def test_a_drop_is_shown_below_the_margin_or_shown_above_or_neither(
    lost: int, gained: int, n: int, verdict: Verdict
) -> None:
    assert judged(pairs(lost, gained, n)).verdict is verdict


def test_what_is_not_decided_says_what_it_would_take() -> None:
    found = judged(pairs(9, 6, 200))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.wanted is not None
    assert found.wanted > 200
    assert f"{found.wanted:,}" in (found.why or "")
    beyond = judged(pairs(9, 4, 200))
    assert beyond.wanted is None
    assert "not likely" in (beyond.why or "")


def test_more_of_the_same_as_is_said_to_be_wanted_passes() -> None:
    found = judged(pairs(9, 6, 400))
    assert found.wanted is not None
    more = 2 * found.wanted / 400  # power 0.8 is for the mean; twice as many leave no doubt
    assert judged(pairs(9 * more, 6 * more, round(400 * more))).verdict is Verdict.PASS


def test_all_have_to_pass_and_one_blocks() -> None:
    good, open_, bad = pairs(30, 28, 1500), pairs(9, 6, 200), pairs(60, 4, 400)

    def of(**named: Pairs) -> Verdict:
        return overall(judge(named, dict.fromkeys(named, MARGIN)))

    assert of(a=good, b=good) is Verdict.PASS
    assert of(a=good, b=open_) is Verdict.INCONCLUSIVE
    assert of(a=good, b=open_, c=bad) is Verdict.BLOCK
    assert overall({}) is Verdict.INCONCLUSIVE


def test_a_claim_about_one_category_of_many_needs_more_than_alone() -> None:
    slight = pairs(14, 5, 400)
    assert judged(slight).verdict is Verdict.BLOCK
    among = judge({"bad": slight, **{f"good-{n}": pairs(10, 10, 400) for n in range(7)}}, _Same())
    assert among["bad"].verdict is Verdict.INCONCLUSIVE


class _Same(dict[str, float]):
    def __missing__(self, key: str) -> float:
        return MARGIN


def test_few_clusters_decide_nothing() -> None:
    assert judged(pairs(0, 0, 5000, clusters=9)).verdict is Verdict.INCONCLUSIVE
    assert judged(pairs(900, 0, 5000, clusters=9)).verdict is Verdict.INCONCLUSIVE
    assert judged(pairs(10, 10, 5000, clusters=1)).high == 1
    assert judged(pairs(0, 0, 5000, clusters=500)).verdict is Verdict.PASS


def test_items_that_fall_together_are_wanted_in_larger_number() -> None:
    single, double = judged(pairs(9, 6, 400)), judged(pairs(9, 6, 400, clusters=100, effect=2))
    assert double.high > single.high
    assert (double.wanted or 0) == pytest.approx(2 * (single.wanted or 0), abs=2)
    assert double.p_exact is None


def test_each_look_has_its_share_of_the_level() -> None:
    near = pairs(30, 30, 700)
    assert judged(near).verdict is Verdict.PASS
    assert judged(near, looks=4).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("margin", [0, 1, -0.1, 2])
def test_a_margin_out_of_range_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="the margin of all"):
        judged(pairs(1, 1, 10), margin)


def test_noise_is_that_of_pooled_churn_with_a_floor() -> None:
    assert noise_sigma(0.04, 400, floor=0.005) == pytest.approx(0.01)
    assert noise_sigma(None, 200, floor=0.005) == noise_sigma(0.0, 200, floor=0.005) == pytest.approx(0.005)


def test_holm_corrects_the_least_the_most() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03}) == {"a": 0.03, "c": 0.06, "b": 0.06}
    assert holm({}) == {}


@given(st.dictionaries(st.text(max_size=3), st.floats(0, 1), max_size=6))
def test_holm_keeps_the_order_and_lowers_nothing(chances: dict[str, float]) -> None:
    found = holm(chances)
    assert all(min(1, chances[name]) <= found[name] <= 1 for name in chances)
    ordered = sorted(chances, key=lambda name: chances[name])
    assert [found[name] for name in ordered] == sorted(found.values())
