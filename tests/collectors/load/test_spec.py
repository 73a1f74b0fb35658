from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.load.spec import LoadSpec, SpecError

GOOD: dict[str, Any] = {
    "run_id": "r",
    "trial_id": "t",
    "attempt": 0,
    "base_url": "http://127.0.0.1:8080/prefix/",
    "model": "m",
    "batch": 4,
    "context_tok": 64,
    "output_tok": 32,
    "requests": 8,
    "warmup": 1,
    "warmup_context_tok": 64,
    "warmup_output_tok": 32,
    "seed": -1,
    "nonce": "n",
    "token_ids": {"first": 3, "count": 95},
    "request_timeout_s": 30,
    "out": "/somewhere",
}


def test_a_specification_survives_json() -> None:
    spec = LoadSpec.from_json(GOOD)
    assert LoadSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert (spec.address, spec.path) == (("127.0.0.1", 8080), "/prefix")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"colour": 1}, "colour is unknown"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"batch": True}, "batch must be a whole number"),
        ({"batch": 2.0}, "batch must be a whole number"),
        ({"batch": 9}, "never keep 9 in flight"),
        ({"warmup": -1}, "warmup must be at least 0"),
        ({"warmup_context_tok": 0}, "warmup_context_tok must be at least 1"),
        ({"warmup_output_tok": None}, "warmup_output_tok must be a whole number"),
        ({"warmup_context_tok": 65}, "warmup_context_tok must be at most context_tok, 64, not 65"),
        ({"warmup_output_tok": 33}, "warmup_output_tok must be at most output_tok, 32, not 33"),
        ({"warmup": 88, "warmup_context_tok": 1}, "96 prompts of 1 tokens out of 95 cannot all differ"),
        ({"model": 3}, "model must be text"),
        ({"request_timeout_s": 0}, "above 0"),
        ({"request_timeout_s": float("nan")}, "above 0"),
        ({"request_timeout_s": True}, "above 0"),
        ({"token_ids": [3, 95]}, "token_ids must be"),
        (
            {"token_ids": {"first": -1, "count": 0}},
            "first must be at least 0, not -1; token_ids.count must be at least 1",
        ),
        ({"token_ids": {"first": 1, "count": 2}, "context_tok": 3}, "cannot all differ"),
        ({"base_url": "https://127.0.0.1:1"}, "base_url must be"),
        ({"base_url": "http://127.0.0.1:99999"}, "base_url must be"),
        ({"base_url": "http://[::1"}, "base_url must be"),
        ({"base_url": "http://"}, "base_url must be"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        LoadSpec.from_json({**GOOD, **change})
    assert words in str(caught.value)


def test_all_mistakes_are_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        LoadSpec.from_json({"batch": "4", "seed": None, "colour": "red"})
    for words in ("colour is unknown", "nonce is missing", "batch must be", "seed must be"):
        assert words in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(key=st.sampled_from(sorted(GOOD)), value=JSON)
def test_any_value_of_any_key_is_taken_or_refused_in_words(key: str, value: Any) -> None:
    try:
        spec = LoadSpec.from_json({**GOOD, key: value})
    except SpecError:
        return
    assert spec.requests >= spec.batch >= 1
