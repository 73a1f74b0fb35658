from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors import sketch, tables

VALUES = st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 1e9)), max_size=300)
Q = st.floats(0, 1)


def of(values: list[float]) -> sketch.Sketch:
    return sketch.build(np.asarray(values, dtype=np.float64))


@given(values=VALUES.filter(bool), q=Q)
def test_a_quantile_is_within_one_percent_of_the_value_of_its_rank(values: list[float], q: float) -> None:
    exact = sorted(values)[int(q * (len(values) - 1))]
    found = sketch.quantile(of(values), q)
    assert found is not None
    assert abs(found - exact) <= exact * sketch.ACCURACY * (1 + 1e-6)


@given(left=VALUES, right=VALUES)
def test_merging_is_the_same_as_building_from_all_values(left: list[float], right: list[float]) -> None:
    assert sketch.merge(of(left), of(right)) == of(left + right)


@given(values=VALUES)
def test_a_sketch_survives_its_arrow_column(values: list[float]) -> None:
    made = of(values)
    column = pa.array([made.row()], type=tables.SKETCH)
    assert sketch.from_row(column[0].as_py()) == made
    assert made.count == len(values)


def test_nothing_has_no_quantile() -> None:
    assert sketch.quantile(of([]), 0.5) is None


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_what_is_no_duration_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        of([1.0, bad])


def test_sketches_of_different_accuracy_do_not_merge() -> None:
    other = sketch.Sketch(gamma=1.1, zero=0, bins=(), counts=())
    with pytest.raises(ValueError, match="do not merge"):
        sketch.merge(of([1.0]), other)


@pytest.mark.parametrize("q", [-0.1, 1.1])
def test_a_quantile_outside_of_0_to_1_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        sketch.quantile(of([1.0]), q)
