from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine.protocol import Session
from fleetbench_collectors.engine import prometheus

TEXT = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 16
llamacpp:prompt_seconds_total 0.045603
llamacpp:something_new{slot="0",why="a } and a \\" in it"} 3 1795262619000
llamacpp:prompt_tokens_seconds nan
vllm:unmapped 1e3

broken line here
llamacpp:requests_processing
"""


def test_mapped_names_are_canonical_and_others_stay_the_engines_own() -> None:
    assert prometheus.values(TEXT) == [
        ("prompt_tok_total", 16.0),
        ("prefill_s_total", 0.045603),
        ('llamacpp:something_new{slot="0",why="a } and a \\" in it"}', 3.0),
        ("vllm:unmapped", 1000.0),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('vllm:prefix_cache_hits_total{engine="0"} 8\nvllm:prefix_cache_hits_total{engine="1"} 4\n', 12.0),
        ('sglang:cached_tokens_total{cache_source="device"} 32\n', 32.0),
        ("llamacpp:prompt_tokens_cached_total 0\n", 0.0),
        ("vllm:prefix_cache_queries_total 7\n", None),
    ],
)
def test_the_cached_tokens_of_all_labels_add_up(text: str, expected: float | None) -> None:
    assert prometheus.total(prometheus.values(text), prometheus.CACHED) == expected


VLLM = """\
vllm:request_prefill_kv_computed_tokens_bucket{engine="0",le="1.0",model_name="tiny"} 0.0
vllm:request_prefill_kv_computed_tokens_sum{engine="0",model_name="tiny"} 205.0
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 205.0
vllm:request_prefill_time_seconds_sum{engine="0",model_name="tiny"} 0.5
vllm:request_decode_time_seconds_sum{engine="0",model_name="tiny"} 0.25
vllm:iteration_tokens_total_count{engine="0",model_name="tiny"} 15.0
vllm:num_preemptions_total{engine="0",model_name="tiny"} 0.0
vllm:spec_decode_num_drafts_total{engine="0",model_name="tiny"} 2.0
vllm:spec_decode_num_draft_tokens_total{engine="0",model_name="tiny"} 6.0
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="tiny"} 4.0
"""


def test_what_vllm_serves_is_told_under_the_shared_names() -> None:
    told = {name.partition("{")[0]: value for name, value in prometheus.values(VLLM)}
    assert told == {
        "vllm:request_prefill_kv_computed_tokens_bucket": 0.0,
        "prompt_tok_total": 205.0,
        "vllm:prompt_tokens_total": 205.0,
        "prefill_s_total": 0.5,
        "decode_s_total": 0.25,
        "decode_steps_total": 15.0,
        "preemptions_total": 0.0,
        "draft_steps_total": 2.0,
        "draft_tok_total": 6.0,
        "draft_accepted_tok_total": 4.0,
    }


@given(st.text())
def test_any_text_gives_rows_and_no_error(text: str) -> None:
    assert all(name for name, _ in prometheus.values(text))


@pytest.mark.engine
def test_every_name_of_the_real_engine_is_mapped(tiny_session: Session) -> None:
    names = dict(prometheus.values(tiny_session.metrics_text()))
    assert names["output_tok_total"] > 0
    assert [name for name in names if name.startswith("llamacpp:")] == []
