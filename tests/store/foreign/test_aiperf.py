"""Exports of AIPerf: summaries as JSON and CSV, records of requests."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import pytest

from fleetbench.store.foreign.aiperf import AiPerf
from fleetbench.store.foreign.figures import recomputed
from fleetbench.store.foreign.record import ForeignError, Request
from tests.store.foreign.files import DATA, only, records, written

OLD_CONFIG = {
    "endpoint": {"model_names": ["Qwen/Qwen3-0.6B"], "type": "chat", "streaming": True},
    "loadgen": {"concurrency": 8, "request_count": 20},
    "input": {"prompt": {"input_tokens": {"mean": 550, "stddev": 0.0}, "output_tokens": {"mean": 100, "stddev": 5}}},
}
NEW_CONFIG = {
    "models": {"items": [{"name": "meta-llama/Llama-3.1-8B-Instruct"}]},
    "endpoint": {"type": "chat", "streaming": True},
    "phases": {"profiling": {"type": "poisson", "rate": 2.5, "concurrency": 40}},
}
SUMMARY: dict[str, Any] = {
    "schema_version": "1.5",
    "start_time": "2026-05-18T17:00:00Z",
    "request_latency": {"unit": "ms", "avg": 2620.71, "p50": 2568.73, "p99": 3371.24, "count": 20, "sum": 52414.29},
    "time_to_first_token": {"unit": "ms", "avg": 255.75, "p50": 250.5, "p90": 300.25, "p99": 310.0},
    "inter_token_latency": {"unit": "ms", "avg": 5.25, "p50": 5.125, "p90": 5.5, "p99": 6.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 290.5},
    "request_throughput": {"unit": "requests/sec", "avg": 1.45},
    "request_count": {"unit": "requests", "avg": 20.0},
    "input_config": OLD_CONFIG,
}
CSV = """Metric,avg,min,max,p99,p95,p90,p75,p50,p25,p10,p5,p1,std
Inter Token Latency (ms),5.25,,,6.00,,5.50,,5.13,,,,,
Request Latency (ms),2620.71,2145.06,3411.10,3371.24,,,,2568.73,,,,,297.93
Time to First Token (ms),255.75,,,310.00,,300.25,,250.50,,,,,

Metric,Value
Output Token Throughput (tokens/sec),290.50
Request Count,20.00
Request Throughput (requests/sec),1.45
"""
START = 1_759_813_207_532_900_363
GOOD: dict[str, Any] = {
    "metadata": {
        "request_start_ns": START,
        "request_end_ns": START + 305_864_401,
        "benchmark_phase": "profiling",
        "was_cancelled": False,
    },
    "metrics": {
        "input_sequence_length": {"value": 550, "unit": "tokens"},
        "time_to_first_token": {"value": 255.886568, "unit": "ms"},
        "request_latency": {"value": 297.525228, "unit": "ms"},
        "inter_chunk_latency": {
            "value": [4.898437, 5.316006, 4.801489, 5.674918, 4.811467, 5.097998, 5.504797, 5.533548],
            "unit": "ms",
        },
        "output_sequence_length": {"value": 9, "unit": "tokens"},
    },
    "error": None,
}
CANCELLED = {
    "metadata": {"request_start_ns": START, "request_end_ns": START + 624_928, "was_cancelled": True},
    "metrics": {"error_isl": {"value": 550, "unit": "tokens"}},
    "error": {"code": 499, "type": "RequestCancellationError", "message": "Request was cancelled after 0.000 seconds"},
}


def summary(folder: Path, **changes: Any) -> Path:
    found = {**copy.deepcopy(SUMMARY), **changes}
    return written(
        folder, {key: value for key, value in found.items() if value is not ...}, "profile_export_aiperf.json"
    )


def lines(folder: Path, *found: object) -> Path:
    return written(folder, "\n".join(json.dumps(one) for one in found), "profile_export.jsonl")


def test_statistics_land_by_their_meaning(tmp_path: Path) -> None:
    figures = only(AiPerf(), summary(tmp_path)).figures
    assert (figures["e2e_mean_ms"], figures["e2e_p50_ms"], figures["e2e_p99_ms"]) == (2620.71, 2568.73, 3371.24)
    assert figures["e2e_p90_ms"] is None
    assert figures["e2e_n"] == 20
    assert figures["tpot_p90_ms"] == 5.5
    assert not any(name.startswith("itl_") for name in figures)
    assert (figures["output_tok_s"], figures["requests_per_s"]) == (290.5, 1.45)
    assert (figures["completed_requests"], figures["failed_requests"]) == (20, 0)


@pytest.mark.parametrize(("unit", "ms"), [("sec", 2500.0), ("us", 0.0025), ("ns", 2.5e-06), ("ms", 2.5)])
def test_the_unit_beside_a_number_is_obeyed(tmp_path: Path, unit: str, ms: float) -> None:
    path = summary(tmp_path, time_to_first_token={"unit": unit, "avg": 2.5})
    assert only(AiPerf(), path).figures["ttft_mean_ms"] == pytest.approx(ms)


def test_configuration_of_the_first_generation(tmp_path: Path) -> None:
    record = only(AiPerf(), summary(tmp_path))
    assert (record.model, record.batch, record.rate_per_s) == ("Qwen/Qwen3-0.6B", 8, None)
    assert (record.context_tok, record.output_tok) == (550, None)


def test_configuration_of_the_second_generation(tmp_path: Path) -> None:
    record = only(AiPerf(), summary(tmp_path, input_config=NEW_CONFIG))
    assert (record.model, record.batch, record.rate_per_s) == ("meta-llama/Llama-3.1-8B-Instruct", None, 2.5)
    assert record.conditions["max_concurrency"] == 40


def test_what_version_0_13_writes() -> None:
    record = only(AiPerf(), DATA / "aiperf/profile_export_aiperf.json")
    assert (record.model, record.batch, record.context_tok, record.output_tok) == ("org/played", 4, 64, 32)
    assert record.figures["ttft_mean_ms"] == 55.4494355
    assert record.figures["gap_n"] == 744
    assert record.figures["window_s"] == 2.287419648
    assert record.figures["total_tok_s"] == 1995.6336667275912
    assert record.started_at is None  # its times have no zone
    assert record.left_out == ("1 of its metrics, which no column holds",)


def test_the_csv_and_the_requests_of_version_0_13_agree_with_its_json() -> None:
    table = only(AiPerf(), DATA / "aiperf/profile_export_aiperf.csv").figures
    assert (table["ttft_mean_ms"], table["gap_p50_ms"], table["requests_per_s"]) == (55.45, 10.0, 10.45)
    record = only(AiPerf(), DATA / "aiperf/profile_export.jsonl")
    assert (record.model, len(record.requests)) == ("org/played", 2)
    ours = recomputed(record)
    assert ours["ttft_mean_ms"] == pytest.approx((62.228626 + ttft_ms_of(record.requests[1])) / 2)


def ttft_ms_of(one: Request) -> float:
    assert one.first_token_ns is not None
    assert one.start_ns is not None
    return (one.first_token_ns - one.start_ns) / 1e6


def test_failed_requests_are_counted(tmp_path: Path) -> None:
    record = only(AiPerf(), summary(tmp_path, error_request_count={"unit": "requests", "avg": 5}))
    assert (record.figures["failed_requests"], record.figures["asked_requests"]) == (5, 25)
    assert record.reason == "5 of 25 requests failed"


def test_a_run_that_was_cancelled_is_not_valid(tmp_path: Path) -> None:
    assert only(AiPerf(), summary(tmp_path, was_cancelled=True)).reason == "it was cancelled before its end"


def test_csv_says_the_same_and_its_model_is_in_the_json_beside(tmp_path: Path) -> None:
    summary(tmp_path)
    record = only(AiPerf(), written(tmp_path, CSV, "profile_export_aiperf.csv"))
    assert (record.model, record.batch) == ("Qwen/Qwen3-0.6B", 8)
    assert (record.figures["e2e_p99_ms"], record.figures["tpot_p50_ms"]) == (3371.24, 5.13)
    assert (record.figures["output_tok_s"], record.figures["completed_requests"]) == (290.5, 20)


def test_requests_have_gaps_and_a_clock(tmp_path: Path) -> None:
    record = only(AiPerf(), lines(tmp_path, GOOD, CANCELLED))
    good, bad = record.requests
    assert (good.start_ns, good.first_token_ns) == (START, START + 255_886_568)
    assert good.gaps_ns is not None
    assert (len(good.gaps_ns), good.gaps_ns[0]) == (8, 4_898_437)
    assert (good.prompt_tok, good.output_tok) == (550, 9)
    assert (bad.outcome, record.figures["cancelled_requests"]) == ("cancelled", 1)
    assert recomputed(record)["ttft_mean_ms"] == pytest.approx(255.886568)


def test_warm_up_requests_are_kept_apart(tmp_path: Path) -> None:
    warm = copy.deepcopy(GOOD)
    warm["metadata"]["benchmark_phase"] = "warmup"
    record = only(AiPerf(), lines(tmp_path, warm, GOOD))
    assert [one.phase for one in record.requests] == ["warmup", "measure"]
    assert record.figures["asked_requests"] == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"request_latency": {"avg": 5}}, r"request_latency\.unit: it is missing"),
        ({"request_latency": {"unit": "parsec", "avg": 5}}, "'parsec' is no unit of time"),
        ({"output_token_throughput": {"unit": "tokens", "avg": 5}}, "'tokens', where tokens/sec"),
        ({"request_latency": 5}, "this is a number"),
        ({"time_to_first_token": {"unit": "ms", "avg": "fast"}}, r"avg: this is text"),
        ({"aggregation_type": "confidence"}, "of several runs"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ForeignError) as caught:
        records(AiPerf(), summary(tmp_path, **given))
    assert re.search(message, str(caught.value)), str(caught.value)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    broken = GOOD | {"metadata": {"request_start_ns": None}}
    with pytest.raises(ForeignError, match=r"record 2: metadata\.request_start_ns: it is missing"):
        records(AiPerf(), lines(tmp_path, GOOD, broken))


def test_a_number_that_is_none_in_csv_is_named(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match="line 2: avg: 'quick' is no number"):
        records(AiPerf(), written(tmp_path, CSV.replace("5.25", "quick"), "a.csv"))
