from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fleetbench.artifact.compress_tool import windows


def test_samples_are_spread_over_the_whole_text_and_led_by_the_prefix() -> None:
    rows = windows(range(100, 200), [1], samples=3, length=6)
    assert [row[0] for row in rows] == [1, 1, 1]
    assert [row[1] for row in rows] == [100, 130, 165]


def test_a_short_text_gives_fewer_samples() -> None:
    assert windows(range(10), [], samples=8, length=4) == [[0, 1, 2, 3], [4, 5, 6, 7]]


@given(
    text=st.integers(0, 400), samples=st.integers(1, 20), length=st.integers(2, 40), prefix=st.sampled_from([[], [7]])
)
def test_samples_never_overlap_and_have_the_length_asked(
    text: int, samples: int, length: int, prefix: list[int]
) -> None:
    rows = windows(range(1000, 1000 + text), prefix, samples=samples, length=length)
    bodies = [row[len(prefix) :] for row in rows]
    assert len(rows) == min(samples, text // (length - len(prefix)))
    assert all(len(row) == length for row in rows)
    assert all(left[-1] < right[0] for left, right in pairwise(bodies))
