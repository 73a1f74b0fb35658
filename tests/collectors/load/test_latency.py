from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.store.schema import EVIDENCE, TRIALS
from fleetbench_collectors.load import columns, latency
from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.parse import Reply
from fleetbench_collectors.load.record import Records

MS = 1_000_000


def add(
    records: Records,
    *,
    phase: str = "measure",
    start_ms: float = 1000,
    intended_ms: float | None = None,
    ttft_ms: float = 50,
    gaps_us: tuple[int, ...] = (10_000,) * 4,
    **changes: Any,
) -> Records:
    """A request of 100 prompt and 5 output tokens: first token after 50 ms, then one every 10 ms."""
    start_ns = int(start_ms * MS)
    stamps = (start_ns + int(ttft_ms * MS) + 1000 * np.cumsum([0, *gaps_us])).tolist()
    values = {
        "first_byte_ns": stamps[0] - 20 * MS,
        "end_ns": stamps[-1] + 10 * MS,
        "chunks": len(stamps),
        "token_ns": array("q", stamps),
        "prompt_tok": 100,
        "output_tok": 5,
        "cached_tok": 0,
    }
    records.add(
        Request(number=len(records), payload=b"", prompt_tok=100, output_tok=5),
        phase,
        intended_ns=start_ns if intended_ms is None else int(intended_ms * MS),
        start_ns=start_ns,
        reply=Reply(**{**values, **changes}),
    )
    return records


def summary(records: Records) -> dict[str, Any]:
    return latency.summarise(records, asked_requests=len(records))


def every(records: Records) -> columns.Mask:
    return np.ones(len(records), dtype=np.bool_)


def test_the_summary_has_the_trial_columns() -> None:
    names = TRIALS.names
    wanted = names[names.index("asked_requests") : names.index("itl_sketch") + 1]
    known_by_plan = {"ttft_floor_ms", "itl_floor_ms"}
    assert set(wanted) - {field.name for field in EVIDENCE} - known_by_plan <= set(summary(add(Records())))


def test_one_request_of_known_timings() -> None:
    found = summary(add(Records(), intended_ms=970))
    wanted: dict[str, float] = {
        "ttft": 50,
        "itl": 10,
        "tpot": 10,
        "e2e": 90,
        "ttfb": 30,
        "ttft_intended": 80,
        "e2e_intended": 120,
    }
    for name, value in {**wanted, "queue": 30, "gap": 10}.items():
        assert found[f"{name}_n"] == (4 if name in {"itl", "gap"} else 1)
        for stat in ("mean", "p50", "p90"):
            assert found[f"{name}_{stat}_ms"] == pytest.approx(value)
        assert found[f"{name}_p99_ms"] is None
    rates: dict[str, float] = {
        "window_s": 0.1,
        "output_tok_s": 50,
        "total_tok_s": 1050,
        "requests_per_s": 10,
        "prefill_tok_s": 2000,
    }
    for name, value in {**rates, "decode_tok_s": 100, "user_tok_s_mean": 100, "concurrency": 1}.items():
        assert found[name] == pytest.approx(value), name


def test_a_99th_percentile_of_a_trial_needs_a_hundred_samples_but_not_its_stats() -> None:
    records = Records()
    for _ in range(99):
        add(records)
    assert summary(records)["ttft_p99_ms"] is None
    found = latency.stats(latency.samples(records).ttft_ms)
    assert found is not None
    assert found.n == 99
    assert found.p99 == pytest.approx(50)
    assert summary(add(records))["ttft_p99_ms"] == pytest.approx(50)
    assert latency.stats(np.empty(0)) is None


def test_warm_up_failures_and_what_was_cancelled_give_no_numbers() -> None:
    records = add(add(Records(), ttft_ms=9_000, phase="warmup"))
    alone = {key: value for key, value in summary(records).items() if "requests" not in key and key != "concurrency"}
    add(records, outcome="timeout", error="late", ttft_ms=9_000)
    add(records, outcome="cancelled", ttft_ms=8_000, end_ns=None, output_tok=None)
    found = summary(records)
    assert {key: found[key] for key in alone} == alone
    counts = [found[f"{what}_requests"] for what in ("asked", "completed", "failed", "cancelled")]
    assert counts == [4, 1, 1, 1]


def test_nothing_measured_is_null_and_never_0() -> None:
    for records in (Records(), add(Records(), outcome="transport_error", token_ns=array("q"), end_ns=None)):
        found = summary(records)
        counts = {key for key in found if key.endswith(("_n", "requests"))} | {"tokens_from"}
        assert {key: value for key, value in found.items() if key not in counts and value is not None} == {}
        assert (found["ttft_n"], found["completed_requests"]) == (0, 0)


def test_a_count_that_the_server_withheld_once_makes_the_rates_null() -> None:
    found = summary(add(add(Records()), output_tok=None))
    assert (found["output_tok_s"], found["total_tok_s"], found["tokens_from"]) == (None, None, "usage")
    assert found["requests_per_s"] == pytest.approx(20)
    assert (found["tpot_n"], found["ttft_n"]) == (1, 2)


def test_chunks_count_as_tokens_where_the_server_never_counts() -> None:
    found = summary(add(add(Records(), output_tok=None), output_tok=None))
    assert (found["tokens_from"], found["tpot_p50_ms"]) == ("chunks", pytest.approx(10))
    assert found["output_tok_s"] == pytest.approx(100)


def test_an_answer_that_came_whole_has_no_time_per_token_and_not_one_of_0() -> None:
    records = add(Records(), gaps_us=(), chunks=5, chunk_tok=array("I", [5]))
    found = summary(records)
    assert (found["tpot_n"], found["user_tok_s_mean"], found["decode_tok_s"]) == (0, None, None)
    assert latency.whole_ratio(records) == 1
    assert latency.whole_ratio(add(add(records), gaps_us=(), output_tok=1)) == 0.5
    assert latency.whole_ratio(Records()) is None
    assert summary(records)["decode_tok_s"] == pytest.approx(100)


def test_one_token_has_no_time_per_token_and_no_rate_of_a_user() -> None:
    records = add(Records(), gaps_us=(), output_tok=1)
    assert (summary(records)["tpot_n"], summary(records)["user_tok_s_mean"]) == (0, None)


def test_stamps_that_run_backwards_are_unknown_and_not_negative() -> None:
    assert np.isnan(latency.ttft_ms(add(Records(), ttft_ms=-1))).all()


def test_a_first_chunk_of_several_tokens_lowers_the_time_per_token_and_not_the_latency_between_tokens() -> None:
    records = add(Records(), gaps_us=(40_000,) * 7, output_tok=32)
    assert latency.tpot_ms(records) == pytest.approx([280 / 31])
    np.testing.assert_allclose(latency.itl_ms(records, every(records)), [10.0] * 28)


def test_a_gap_is_shared_by_the_tokens_that_the_server_says_it_brought() -> None:
    records = add(Records(), gaps_us=(40_000, 10_000), output_tok=7, chunk_tok=array("I", [2, 4, 1]))
    add(records, gaps_us=(30_000,), output_tok=None)
    np.testing.assert_allclose(latency.itl_ms(records, every(records)), [10.0] * 5 + [30.0])
    np.testing.assert_allclose(latency.gap_ms(records, every(records)), [40.0, 10.0, 30.0])


REQUEST = st.fixed_dictionaries(
    {
        "gaps_us": st.lists(st.integers(0, 10**6), max_size=8).map(tuple),
        "extra": st.integers(-2, 20),
        "said": st.booleans(),
        "outcome": st.sampled_from(["ok", "ok", "timeout"]),
    }
)


def even(output_tok: int, arrivals: int) -> list[int]:
    """Whole tokens of each arrival that add up; one each where there are fewer."""
    tok = max(output_tok, arrivals)
    return [(index + 1) * tok // arrivals - index * tok // arrivals for index in range(arrivals)]


def built(requests: list[dict[str, Any]]) -> tuple[Records, list[list[float]]]:
    """Records, and each request's latencies between tokens by the definition, one at a time."""
    records, wanted = Records(), []
    for request in requests:
        gaps = request["gaps_us"]
        output_tok = max(len(gaps) + 1 + request["extra"], 0)
        shares = even(output_tok, len(gaps) + 1)
        if request["said"]:
            shares = [index % 3 + 1 for index in range(len(gaps) + 1)]
        said = array("I", shares) if request["said"] else None
        add(records, gaps_us=gaps, output_tok=output_tok, chunk_tok=said, outcome=request["outcome"])
        wanted.append([gap / 1e3 / tok for gap, tok in zip(gaps, shares[1:], strict=True) for _ in range(tok)])
    return records, wanted


@settings(max_examples=60)
@given(st.lists(REQUEST, max_size=8))
def test_columns_give_what_requests_give_one_by_one(requests: list[dict[str, Any]]) -> None:
    records, wanted = built(requests)
    np.testing.assert_allclose(latency.itl_ms(records, every(records)), [value for row in wanted for value in row])
    for row, p99 in zip(wanted, latency.itl_p99_ms(records), strict=True):
        assert p99 == pytest.approx(np.quantile(row, 0.99) if row else math.nan, nan_ok=True)
    done = [row for row, request in zip(wanted, requests, strict=True) if request["outcome"] == "ok"]
    assert latency.samples(records).itl_ms.sum() == pytest.approx(sum(sum(row) for row in done))


@settings(max_examples=60)
@given(st.lists(REQUEST, max_size=8))
def test_arrivals_bring_every_token_at_its_stamp(requests: list[dict[str, Any]]) -> None:
    records, wanted = built(requests)
    came = columns.arrivals(records, every(records))
    assert came.tok.sum() >= sum(len(row) for row in wanted) + len(requests) * bool(requests)
    last = columns.column(records, "last_token_ns")
    assert came.at_ns.max(initial=0) == last.max(initial=0)
    assert len(came.at_ns) == sum(len(request["gaps_us"]) + 1 for request in requests)


def test_a_window_has_the_requests_that_lie_in_it_and_the_tokens_that_arrive_in_it() -> None:
    records = add(add(add(Records(), start_ms=1000), start_ms=1060), start_ms=1120)
    found = latency.restrict(records, start_ns=1060 * MS, end_ns=1170 * MS)
    assert (found["ttft_n"], found["completed_requests"], found["asked_requests"]) == (1, 1, 2)
    # The first request's last four tokens, the second's five, the third's first.
    assert found["output_tok_s"] == pytest.approx(10 / 0.11)
    assert found["total_tok_s"] == pytest.approx(210 / 0.11)
    assert found["requests_per_s"] == pytest.approx(2 / 0.11)
    assert (found["gap_n"], found["window_s"]) == (7, pytest.approx(0.11))
    assert found["concurrency"] == pytest.approx((40 + 100 + 50) / 110)


def test_tokens_of_a_request_that_was_cancelled_count_where_they_arrive() -> None:
    records = add(add(Records()), outcome="cancelled", output_tok=None, prompt_tok=None, end_ns=None)
    found = latency.restrict(records, start_ns=1000 * MS, end_ns=1100 * MS)
    assert found["output_tok_s"] == pytest.approx(100)
    assert found["total_tok_s"] == pytest.approx(2100)
    assert (found["completed_requests"], found["cancelled_requests"]) == (1, 1)


def test_a_window_without_a_request_has_no_latency() -> None:
    found = latency.restrict(add(Records()), start_ns=0, end_ns=MS)
    assert (found["ttft_n"], found["ttft_mean_ms"], found["output_tok_s"]) == (0, None, 0)
    assert latency.restrict(Records(), start_ns=0, end_ns=MS)["output_tok_s"] is None


def test_in_flight_time_over_the_window_is_the_concurrency() -> None:
    records = add(add(Records(), start_ms=1000), start_ms=1050)
    assert latency.concurrency(records, 1000 * MS, 1150 * MS) == pytest.approx(200 / 150)
    add(records, start_ms=1050, outcome="cancelled", end_ns=None, token_ns=array("q"), first_byte_ns=None)
    assert latency.concurrency(records, 1000 * MS, 1150 * MS) == pytest.approx(300 / 150)
    assert latency.concurrency(records, MS, MS) is None


@pytest.mark.parametrize("outcome", ["timeout", "cancelled"])
def test_a_request_without_an_end_is_in_flight_until_the_client_is_done_with_it(outcome: str) -> None:
    records = add(Records(), outcome=outcome, end_ns=None, token_ns=array("q"), first_byte_ns=None)
    records.numbers["over_ns"][-1] = 1400 * MS
    add(records, start_ms=1400)
    records.numbers["over_ns"][-1] = 1550 * MS
    assert latency.concurrency(records, 1000 * MS, 1550 * MS) == pytest.approx(500 / 550)


def test_the_window_spans_the_measured_requests_that_went_well() -> None:
    records = add(add(Records(), start_ms=7), start_ms=3, end_ns=900 * MS)
    add(add(records, start_ms=1, phase="warmup"), start_ms=2, outcome="timeout")
    assert latency.window(records) == (3 * MS, 900 * MS)
    assert latency.window(add(Records(), phase="warmup")) is None


def test_stamps_that_run_backwards_span_no_window_and_give_no_rate() -> None:
    """A clock that was set back while the trial went on: what it stamps comes before what was sent."""
    records = add(Records(), start_ms=900, end_ns=300 * MS)
    assert latency.window(records) is None
    found = latency.summarise(records, asked_requests=1)
    assert (found["window_s"], found["output_tok_s"], found["concurrency"]) == (None, None, None)
