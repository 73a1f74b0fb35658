from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load import lag
from fleetbench_collectors.load.lag import Lag

BATCHES = st.lists(st.integers(min_value=1, max_value=512), max_size=300)


@given(BATCHES)
def test_every_batch_is_sampled_at_first(batches: list[int]) -> None:
    found = Lag()
    assert all(found.due(reads) for reads in batches)


def test_a_sample_is_never_below_nothing() -> None:
    found = Lag()
    found.add(-5)
    found.add(7)
    assert list(found.samples_ns) == [0, 7]


def test_many_samples_are_thinned_evenly_and_taken_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "_SAMPLES_MAX", 8)
    found = Lag()
    for number in range(8):
        assert found.due(1)
        found.add(number)
    assert list(found.samples_ns) == [0, 2, 4, 6]
    assert sum(found.due(1) for _ in range(100)) in (50, 51)


def test_samples_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "_SAMPLES_MAX", 64)
    found, taken = Lag(), 0
    for _ in range(10_000):
        if found.due(1):
            found.add(1)
            taken += 1
        assert len(found.samples_ns) < 64
    assert len(found.samples_ns) >= 32
    assert taken < 400
