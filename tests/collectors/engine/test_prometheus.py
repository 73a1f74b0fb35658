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


@given(st.text())
def test_any_text_gives_rows_and_no_error(text: str) -> None:
    assert all(name for name, _ in prometheus.values(text))


@pytest.mark.engine
def test_every_name_of_the_real_engine_is_mapped(tiny_session: Session) -> None:
    names = dict(prometheus.values(tiny_session.metrics_text()))
    assert names["output_tok_total"] > 0
    assert [name for name in names if name.startswith("llamacpp:")] == []
