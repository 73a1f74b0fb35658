from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.quality.spec import QualitySpec

GOOD: dict[str, Any] = {
    "kind": "quality",
    "base_url": "http://127.0.0.1:1",
    "suite": "embedded",
    "items": 10,
    "seed": 0,
    "run_id": "r",
    "trial_id": "t",
    "attempt": 0,
    "out": "/nowhere",
}


def test_a_whole_specification_is_taken_with_its_defaults() -> None:
    spec = QualitySpec.from_json(GOOD)
    assert (spec.parallel, spec.positions) == (4, 400)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"items": 0}, "items must be 1 to 500"),
        ({"items": "10"}, "items is '10', but must be a whole number"),
        ({"items": True}, "items is True"),
        ({"suite": "mmlu"}, "only embedded and general are known"),
        ({"parallel": 0}, "parallel must be"),
        ({"positions": -1}, "positions must not be negative"),
        ({"request_timeout_s": 0}, "request_timeout_s must be"),
        ({"request_timeout_s": float("nan")}, "request_timeout_s must be"),
        ({"attempt": -1}, "attempt must not be negative"),
        ({"out": None}, "out is None, but must be a path"),
        ({"colour": "red"}, "unknown key 'colour'"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(WorkerFailure, match=said) as failure:
        QualitySpec.from_json(GOOD | change)
    assert failure.value.kind == "bad_spec"


def test_several_mistakes_are_named_at_once() -> None:
    with pytest.raises(WorkerFailure, match=r"run_id is missing.*seed is 'x'"):
        QualitySpec.from_json({k: v for k, v in GOOD.items() if k != "run_id"} | {"seed": "x"})


@given(
    st.dictionaries(
        st.sampled_from(sorted(GOOD)), st.none() | st.integers() | st.text() | st.floats() | st.lists(st.integers())
    )
)
def test_no_specification_raises_anything_else(change: dict[str, Any]) -> None:
    try:
        QualitySpec.from_json(GOOD | change)
    except WorkerFailure as failure:
        assert failure.kind == "bad_spec"  # noqa: PT017 -- passing without a failure is right too
