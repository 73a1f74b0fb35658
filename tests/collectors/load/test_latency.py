from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.store.schema import TRIALS
from fleetbench_collectors import sketch
from fleetbench_collectors.load import latency
from fleetbench_collectors.tables import REQUESTS

MS = 1_000_000


def row(**more: Any) -> dict[str, Any]:
    """A request of 100 prompt and 5 output tokens: first token after 50 ms, then one every 10 ms."""
    values = {
        "run_id": "r",
        "trial_id": "t",
        "attempt": 0,
        "request": 0,
        "phase": "measure",
        "outcome": "ok",
        "intended_ns": 0,
        "start_ns": 0,
        "first_byte_ns": 50 * MS,
        "first_token_ns": 50 * MS,
        "last_token_ns": 90 * MS,
        "end_ns": 100 * MS,
        "asked_prompt_tok": 100,
        "asked_output_tok": 5,
        "prompt_tok": 100,
        "output_tok": 5,
        "cached_tok": 0,
        "chunks": 5,
        "gaps_us": [10_000] * 4,
        "stamp": "user",
    }
    return values | more


def summary(*rows: dict[str, Any]) -> dict[str, Any]:
    return latency.summarise(pa.Table.from_pylist(list(rows), schema=REQUESTS), asked_requests=len(rows))


def test_the_summary_has_the_trial_columns_and_no_others() -> None:
    names = TRIALS.names
    wanted = names[names.index("asked_requests") : names.index("itl_sketch") + 1]
    assert list(summary(row())) == wanted
    pa.Table.from_pylist([summary(row())], schema=pa.schema([TRIALS.field(name) for name in wanted]))


def test_one_request_of_known_timings() -> None:
    found = summary(row())
    assert found["window_s"] == pytest.approx(0.1)
    assert found["output_tok_s"] == pytest.approx(50)
    assert found["total_tok_s"] == pytest.approx(1050)
    assert found["requests_per_s"] == pytest.approx(10)
    assert found["prefill_tok_s"] == pytest.approx(2000)
    assert found["decode_tok_s"] == pytest.approx(100)
    for name, value, n in (("ttft", 50, 1), ("itl", 10, 4), ("tpot", 10, 1), ("e2e", 90, 1)):
        assert found[f"{name}_n"] == n
        for stat in ("mean", "p50", "p90"):
            assert found[f"{name}_{stat}_ms"] == pytest.approx(value)
        assert found[f"{name}_p99_ms"] is None


def test_a_99th_percentile_needs_a_hundred_samples() -> None:
    assert summary(*[row()] * 99)["ttft_p99_ms"] is None
    assert summary(*[row()] * 100)["ttft_p99_ms"] == pytest.approx(50)
    assert summary(*[row()] * 25)["itl_p99_ms"] == pytest.approx(10)


def test_warm_up_and_failures_give_no_numbers() -> None:
    slow = {"first_token_ns": 9_000 * MS, "last_token_ns": 9_001 * MS, "end_ns": 9_002 * MS}
    found = summary(row(), row(phase="warmup", **slow), row(outcome="timeout", error="late", **slow))
    assert (found["asked_requests"], found["completed_requests"], found["failed_requests"]) == (3, 1, 1)
    assert {key: found[key] for key in found if "requests" not in key} == {
        key: value for key, value in summary(row()).items() if "requests" not in key
    }
    assert found["requests_per_s"] == pytest.approx(10)


def test_nothing_measured_is_null_and_never_0() -> None:
    found = summary(row(outcome="transport_error", error="refused"))
    counts = {key for key in found if key.endswith(("_n", "requests"))}
    assert {key: value for key, value in found.items() if key not in counts and value is not None} == {}
    assert found["ttft_n"] == 0
    assert found["completed_requests"] == 0


def test_a_count_that_the_server_withheld_makes_the_rates_null() -> None:
    found = summary(row(), row(output_tok=None))
    assert found["output_tok_s"] is None
    assert found["total_tok_s"] is None
    assert found["requests_per_s"] == pytest.approx(20)
    assert (found["tpot_n"], found["ttft_n"]) == (1, 2)


def test_the_window_spans_the_measured_requests() -> None:
    table = pa.Table.from_pylist(
        [row(phase="warmup", start_ns=-500), row(start_ns=7), row(start_ns=3, end_ns=900 * MS)], schema=REQUESTS
    )
    assert latency.window(table) == (3, 900 * MS)
    assert latency.window(table.slice(0, 1)) is None


def test_one_token_has_no_time_per_token() -> None:
    assert latency.tpot_s(5, 5, 1) is None
    assert latency.tpot_s(None, 5, 9) is None
    assert latency.tpot_s(0, MS, 2) == pytest.approx(1e-3)


def test_stamps_that_run_backwards_are_an_error() -> None:
    with pytest.raises(ValueError, match="backwards"):
        latency.tpot_s(2, 1, 5)


def test_a_gap_is_shared_by_the_tokens_of_its_chunk() -> None:
    np.testing.assert_allclose(latency.itl_ms([40_000] * 7, 32), [10.0] * 28)
    np.testing.assert_allclose(latency.itl_ms([40_000, 10_000], 7, [2, 4, 1]), [10.0] * 5)
    np.testing.assert_allclose(latency.itl_ms([40_000], None), [40.0])
    assert latency.itl_ms([], 1).size == 0


@given(gaps=st.lists(st.integers(0, 10**6), min_size=1, max_size=50), extra=st.integers(0, 500))
def test_sharing_gaps_keeps_their_sum(gaps: list[int], extra: int) -> None:
    output_tok = len(gaps) + 1 + extra
    values = latency.itl_ms(gaps, output_tok)
    assert values.sum() == pytest.approx(sum(gaps) / 1e3)
    assert len(gaps) <= values.size < output_tok


@given(gaps=st.lists(st.integers(0, 10**7), min_size=1, max_size=200))
def test_quantiles_are_exact_and_the_sketch_agrees(gaps: list[int]) -> None:
    found = summary(row(gaps_us=gaps, chunks=len(gaps) + 1, output_tok=len(gaps) + 1))
    exact = np.asarray(gaps) / 1e3
    assert found["itl_p90_ms"] == pytest.approx(np.quantile(exact, 0.9))
    near = sketch.quantile(sketch.from_row(found["itl_sketch"]), 0.5)
    rank = sorted(exact)[(len(gaps) - 1) // 2]
    assert near == pytest.approx(rank, rel=0.0101)
