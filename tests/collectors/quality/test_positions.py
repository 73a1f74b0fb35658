from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.quality import positions, suite

ITEMS = suite.embedded(60, 0)


def reply(logprobs: dict[int, float]) -> dict[str, Any]:
    return {"completion_probabilities": [{"top_logprobs": [{"id": i, "logprob": p} for i, p in logprobs.items()]}]}


def test_positions_are_spread_equally_over_the_short_categories() -> None:
    chosen = positions.choose(ITEMS, 400, 0)
    drawn = Counter({c: sum(len(p) for i, p in chosen if i.category == c) for c in suite.CATEGORIES})
    assert drawn == {"facts": 80, "addition": 80, "json": 80, "tool_call": 80, "copy": 80, "needle": 0}


def test_the_choice_depends_on_the_seed_alone() -> None:
    assert positions.choose(ITEMS, 100, 1) == positions.choose(ITEMS, 100, 1)
    assert positions.choose(ITEMS, 100, 1) != positions.choose(ITEMS, 100, 2)


@given(n=st.integers(0, 5000))
def test_positions_lie_in_the_answer_ascending_and_once(n: int) -> None:
    for item, chosen in positions.choose(ITEMS, n, 0):
        assert list(chosen) == sorted(set(chosen))
        assert 0 <= chosen[0] <= chosen[-1] < len(item.answer_ids)


@given(st.lists(st.floats(0.001, 1.0), min_size=2, max_size=128))
def test_a_distribution_is_read_with_ids_ascending(weights: list[float]) -> None:
    total = math.fsum(weights)
    found = positions.parse(reply({i: math.log(w / total) for i, w in reversed(list(enumerate(weights)))}))
    assert found.ids == tuple(range(len(weights)))
    assert found.mass == pytest.approx(1.0)


@pytest.mark.parametrize(
    "broken",
    [
        reply({0: math.log(0.5), 1: math.log(0.4)}),
        reply({0: 5.0}),
        reply({0: math.nan}),
        reply({}),
        {},
        {"completion_probabilities": []},
        {"completion_probabilities": [{"top_logprobs": [{"id": 1, "logprob": None}]}]},
        {"completion_probabilities": [{"top_logprobs": [{"id": 1, "logprob": math.log(0.5)}] * 2}]},
        [],
        None,
    ],
)
def test_probabilities_that_are_no_distribution_are_refused(broken: object) -> None:
    with pytest.raises(positions.PositionsRefusedError):
        positions.parse(broken)
