"""Reports of inference-perf: of a stage, of all stages, of requests."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from fleetbench.store.foreign.figures import recomputed
from fleetbench.store.foreign.inference_perf import InferencePerf
from fleetbench.store.foreign.record import ForeignError
from tests.store.foreign.files import DATA, changed, only, records, written

STAGE = "inference-perf/plain/stage_3_lifecycle_metrics.json"
SUMMARY = "inference-perf/plain/summary_lifecycle_metrics.json"
FAILED = {"count": 31, "request_latency": None, "prompt_len": None}
TEXT = {"request_metrics": {"text": {"input_tokens": 7}}}
GOOD = {
    "start_time": 100.0,
    "end_time": 100.5,
    "info": {**TEXT, "response_metrics": {"output_tokens": 3, "output_token_times": [100.25, 100.375, 100.5]}},
    "error": None,
}
BAD = {"start_time": 101.0, "end_time": 101.5, "info": None, "error": {"error_type": "Timeout", "error_msg": "late"}}


def test_seconds_become_milliseconds() -> None:
    figures = only(InferencePerf(), DATA / STAGE).figures
    assert figures["ttft_mean_ms"] == pytest.approx(50.548625055568695)
    assert figures["ttft_p50_ms"] == pytest.approx(44.51845702715218)
    assert figures["tpot_p99_ms"] == pytest.approx(9.620544096444148)
    assert figures["e2e_p90_ms"] == pytest.approx(1233.6858640192077)
    assert figures["output_tok_s"] == 5693.884076290361
    assert figures["total_tok_s"] == 24340.07350786478
    assert figures["requests_per_s"] == 91.35730480202015
    assert (figures["asked_requests"], figures["completed_requests"], figures["failed_requests"]) == (5531, 5531, 0)


def test_latency_between_chunks_is_a_gap_and_no_latency_of_tokens() -> None:
    figures = only(InferencePerf(), DATA / STAGE).figures
    assert figures["gap_p50_ms"] == pytest.approx(0.04857999738305807)
    assert "itl_p50_ms" not in figures


def test_the_config_beside_says_model_engine_and_workload() -> None:
    record = only(InferencePerf(), DATA / STAGE)
    assert (record.model, record.engine) == ("meta-llama/Meta-Llama-3-8B-Instruct", "vllm")
    assert (record.rate_per_s, record.batch) == (92.19, None)
    assert record.conditions["data_type"] == "shared_prefix"


def test_without_its_config_the_model_is_unknown(tmp_path: Path) -> None:
    record = only(InferencePerf(), Path(shutil.copy(DATA / STAGE, tmp_path)))
    assert (record.model, record.engine, record.rate_per_s) == ("unknown", None, 92.19)


def test_a_summary_over_stages_has_no_rate_and_says_so() -> None:
    record = only(InferencePerf(), DATA / SUMMARY)
    assert (record.rate_per_s, record.batch) == (None, None)
    assert record.conditions["over"] == "all stages"


def test_a_stage_of_constant_concurrency_holds_requests_in_flight(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        "server: {model_name: m, type: sglang}\nload: {type: concurrent, stages: [{concurrency_level: 4}]}\n"
    )
    found = json.loads((DATA / STAGE).read_text()) | {"load_summary": {"count": 5531}}
    record = only(InferencePerf(), written(tmp_path, found, "stage_0_lifecycle_metrics.json"))
    assert (record.batch, record.rate_per_s, record.engine) == (4, None, "sglang")


def test_failed_requests_are_counted_and_make_it_not_valid(tmp_path: Path) -> None:
    record = only(InferencePerf(), changed(tmp_path, STAGE, {"failures": FAILED, "load_summary": ...}))
    assert record.figures["failed_requests"] == 31
    assert (record.valid, record.reason) == (False, "31 of 5562 requests failed")


def test_requests_become_rows_with_their_gaps(tmp_path: Path) -> None:
    record = only(InferencePerf(), written(tmp_path, [GOOD, BAD]))
    assert [one.outcome for one in record.requests] == ["ok", "transport_error"]
    assert record.requests[0].gaps_ns == (125_000_000, 125_000_000)
    assert (record.requests[0].prompt_tok, record.requests[0].output_tok) == (7, 3)
    assert recomputed(record)["ttft_mean_ms"] == 250.0
    assert record.reason == "1 of 2 requests failed"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"successes": ..., "failures": ...}, "neither successes nor failures"),
        ({"successes": {"count": "many"}}, r"successes\.count: this is text"),
        ({"successes": {"latency": {"request_latency": 3}}}, r"request_latency: this is a number"),
        ({"successes": {"throughput": {"output_tokens_per_sec": -1}}}, "-1 is no measurement"),
        ({"successes": {"count": 5}}, "it has no figure that a column holds"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    path = changed(tmp_path, STAGE, given)
    with pytest.raises(ForeignError) as caught:
        records(InferencePerf(), path)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("server: [")
    with pytest.raises(ForeignError, match=r"config\.yaml"):
        records(InferencePerf(), Path(shutil.copy(DATA / STAGE, tmp_path)))


def test_arrivals_that_run_backwards_are_refused(tmp_path: Path) -> None:
    info = {"input_tokens": 7, "output_tokens": 2, "output_token_times": [100.5, 100.25]}
    with pytest.raises(ForeignError, match="run backwards"):
        records(InferencePerf(), written(tmp_path, [GOOD | {"info": info}]))
