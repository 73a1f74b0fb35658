from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.lengths import parse

TEXTS = st.one_of(
    st.integers(1, 5000).map(str),
    st.tuples(st.integers(1, 500), st.integers(0, 500)).map(lambda pair: f"{pair[0]}..{sum(pair)}"),
    st.tuples(st.sampled_from(["normal", "lognormal"]), st.integers(1, 900), st.sampled_from(["0.1", "1", "2.5"])).map(
        lambda parts: f"{parts[0]}:{parts[1]},{parts[2]}"
    ),
    st.tuples(st.sampled_from(["normal", "lognormal"]), st.integers(1, 90), st.integers(0, 90)).map(
        lambda parts: f"{parts[0]}:90,5,{parts[1]}..{90 + parts[2]}"
    ),
)


def generator(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - no secret


def drawn(text: str, n: int = 4_000) -> list[int]:
    rng = generator(1)
    lengths = parse(text)
    return [lengths.draw(rng) for _ in range(n)]


@given(text=TEXTS, seed=st.integers())
def test_every_length_is_within_its_bounds_and_the_text_comes_back(text: str, seed: int) -> None:
    lengths = parse(text)
    rng = generator(seed)
    found = [lengths.draw(rng) for _ in range(20)]
    assert all(1 <= lengths.shortest <= one <= lengths.longest for one in found)
    assert str(lengths) == text
    if lengths.fixed is not None:
        assert set(found) == {lengths.fixed}


def test_a_fixed_length_takes_nothing_from_the_generator() -> None:
    rng = generator(1)
    state = rng.getstate()
    assert parse("512").draw(rng) == parse("512..512").fixed == 512
    assert rng.getstate() == state


def test_uniform_lengths_take_every_value_with_both_ends_and_no_other() -> None:
    found = drawn("3..6")
    assert set(found) == {3, 4, 5, 6}
    assert all(900 < found.count(length) < 1100 for length in range(3, 7))
    assert (parse("3..6").fixed, parse("3..6").longest) == (None, 6)


def test_normal_lengths_have_the_mean_and_deviation_asked_for() -> None:
    found = drawn("normal:512,64")
    assert statistics.fmean(found) == pytest.approx(512, rel=0.01)
    assert statistics.pstdev(found) == pytest.approx(64, rel=0.05)
    assert parse("normal:512,64").longest == 710


def test_lognormal_lengths_have_the_median_and_sigma_asked_for() -> None:
    found = sorted(drawn("lognormal:512,1.0"))
    assert found[2_000] == pytest.approx(512, rel=0.05)
    assert found[round(0.8413 * 4_000)] == pytest.approx(512 * 2.718, rel=0.06)
    assert found[-1] <= parse("lognormal:512,1.0").longest == 11_255


def test_what_passes_a_bound_becomes_that_bound() -> None:
    found = drawn("normal:512,64,500..520")
    assert (min(found), max(found)) == (500, 520)
    assert found.count(500) > 1_500
    assert parse("normal:512,64,500..520").longest == 520
    assert max(drawn("lognormal:512,10,16..2048")) == 2048


def test_lengths_do_not_change_from_version_to_version() -> None:
    assert drawn("1..1000", 3) == [138, 583, 868]
    assert drawn("normal:512,64", 3) == [551, 511, 591]
    assert drawn("lognormal:512,1", 3) == [940, 505, 1753]


@pytest.mark.parametrize(
    "text",
    [
        *("", "abc", "-5", "1.5", "1...5", "1..", " 512", "512\n", "٣", "9" * 5000, "512,16..20", "normal:512"),
        *("normal:a,b", "normal:512,64,5", "normal:-1,2", "normal:5,1,1..2,3", "lognormal:5,nan", "gamma:1,2"),
    ],
)
def test_what_is_no_length_is_refused_with_the_right_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"a length must be 512, 256\.\.1024, normal:") as caught:
        parse(text)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "lengths must be from 1 to"),
        ("0..5", "lengths must be from 1 to"),
        ("10000001", "lengths must be from 1 to"),
        ("9..5", "wrong way round: 9 is more than 5"),
        ("normal:512,64,20..10", "wrong way round"),
        ("normal:512,64,0..10", "lengths must be from 1 to"),
        ("normal:0.5,1", "the mean of"),
        ("lognormal:0,1", "the median of"),
        ("normal:512,0", "write 512 for"),
        ("lognormal:512,11", "sigma .* at most 10"),
        ("lognormal:512,9", "give it bounds"),
        ("normal:512,64,1000..2000", "middle outside of its bounds"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse(text)
