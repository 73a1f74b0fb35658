from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetbench_collectors.load.arrivals import steady
from fleetbench_collectors.load.spec import LoadSpec, SpecError
from fleetbench_collectors.load.workload import IN_FLIGHT_MAX, Ids, OpenLoop

GOOD: dict[str, Any] = {
    "run_id": "r",
    "trial_id": "t",
    "attempt": 0,
    "base_url": "http://127.0.0.1:8080/prefix/",
    "model": "m",
    "batch": 4,
    "rate_per_s": None,
    "arrivals": None,
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
OPEN: dict[str, Any] = {"batch": None, "rate_per_s": 2.5, "arrivals": "constant"}


def test_a_specification_survives_json() -> None:
    spec = LoadSpec.from_json(GOOD)
    assert LoadSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_an_open_loop_survives_json_too() -> None:
    spec = LoadSpec.from_json({**GOOD, **OPEN})
    assert LoadSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_closed_loop_is_a_workload_of_its_places() -> None:
    load = LoadSpec.from_json(GOOD).workload()
    assert (load.places, load.batch, load.arrivals, load.requests, load.seconds) == (4, 4, None, 8, None)
    assert (load.target.peer, load.target.path) == (("127.0.0.1", 8080), "/prefix")
    assert (load.context.fixed, load.output.fixed) == (64, 32)
    assert load.prompts == Ids(ids=range(3, 98))
    assert (load.warmup.requests, load.warmup.context_tok, load.warmup.output_tok) == (1, 64, 32)


def test_an_open_loop_is_a_workload_of_its_rate() -> None:
    load = LoadSpec.from_json({**GOOD, **OPEN}).workload()
    assert (load.places, load.batch) == (IN_FLIGHT_MAX, None)
    assert load.arrivals == OpenLoop(profile=steady(2.5), process="constant")


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
        ({"model": 3}, "model must be text"),
        ({"request_timeout_s": 0}, "above 0"),
        ({"request_timeout_s": float("nan")}, "above 0"),
        ({"request_timeout_s": True}, "above 0"),
        ({"token_ids": [3, 95]}, "token_ids must be"),
        (
            {"token_ids": {"first": -1, "count": 0}},
            "first must be at least 0, not -1; token_ids.count must be at least 1",
        ),
        ({"base_url": "ftp://127.0.0.1:1"}, "base_url: the URL must be"),
        ({"base_url": "http://127.0.0.1:99999"}, "base_url: the URL must be"),
        ({"base_url": "http://[::1"}, "base_url: the URL must be"),
        ({"base_url": "http://"}, "base_url: the URL must be"),
        ({"batch": None}, "one of batch and rate_per_s is needed"),
        ({"rate_per_s": 2}, "one of batch and rate_per_s is needed"),
        ({"arrivals": "poisson"}, "arrivals must be null in a closed loop"),
        ({**OPEN, "arrivals": None}, "arrivals must be one of constant, poisson, not None"),
        ({**OPEN, "arrivals": "gamma"}, "arrivals must be one of constant, poisson, not 'gamma'"),
        ({**OPEN, "rate_per_s": 0}, "rate_per_s must be a number above 0"),
        ({**OPEN, "rate_per_s": True}, "rate_per_s must be a number above 0"),
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
@example(key="rate_per_s", value=1e300)
def test_any_value_of_any_key_is_taken_or_refused_in_words(key: str, value: Any) -> None:
    try:
        spec = LoadSpec.from_json({**GOOD, key: value})
    except SpecError:
        return
    assert spec.batch is None or spec.requests >= spec.batch >= 1
