"""Reports of GuideLLM, of the layouts of 0.3, 0.4 to 0.6, and 0.7 on."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fleetbench.store.foreign.guidellm import GuideLlm
from fleetbench.store.foreign.record import ForeignError
from tests.store.foreign.files import DATA, document, only, records, written

REPORT = "guidellm/benchmarks-0.8.json"


def benchmark() -> dict[str, Any]:
    found: dict[str, Any] = document(REPORT)["benchmarks"][0]
    return found


def test_each_benchmark_is_a_record_with_its_own_rate() -> None:
    found = records(GuideLlm(), DATA / REPORT)
    assert [record.where for record in found] == ["benchmarks[0]", "benchmarks[1]"]
    assert [record.rate_per_s for record in found] == [2.0, 4.0]
    assert {record.model for record in found} == {"e2e-mock-model"}


def test_names_say_the_unit_and_a_latency_without_one_is_seconds() -> None:
    figures = records(GuideLlm(), DATA / REPORT)[0].figures
    assert figures["ttft_mean_ms"] == 11.481165885925293
    assert figures["e2e_mean_ms"] == pytest.approx(19.78909969329834)
    assert figures["e2e_p50_ms"] == pytest.approx(19.269227981567383)
    assert figures["output_tok_s"] == 3.1950675815128577
    assert figures["requests_per_s"] == 0.39843430656414264
    assert figures["window_s"] == 5.01964807510376
    assert (figures["completed_requests"], figures["failed_requests"], figures["cancelled_requests"]) == (2, 0, 0)


def test_latency_between_tokens_is_tpot_where_answers_have_one_length() -> None:
    figures = records(GuideLlm(), DATA / REPORT)[0].figures
    assert figures["itl_mean_ms"] == figures["tpot_mean_ms"] == 1.1508464813232422
    assert figures["itl_n"] == 14
    assert figures["tpot_p90_ms"] == 1.2557165963309151


def test_its_quantiles_weigh_long_answers_more_and_stay_beside(tmp_path: Path) -> None:
    one = benchmark()
    one["metrics"]["output_token_count"]["successful"]["max"] = 9.0
    record = only(GuideLlm(), written(tmp_path, document(REPORT) | {"benchmarks": [one]}))
    assert record.figures["itl_mean_ms"] == 1.1508464813232422
    assert not any(name.startswith("tpot_") for name in record.figures)
    assert record.reported["inter_token_latency_p90_ms"] == 1.2557165963309151


def test_time_per_token_from_the_start_of_a_request_is_not_ours() -> None:
    reported = records(GuideLlm(), DATA / REPORT)[0].reported
    theirs = benchmark()["metrics"]["time_per_output_token_ms"]["successful"]["mean"]
    assert reported["time_per_output_token_mean_ms"] == theirs


def test_lengths_that_are_spread_are_not_of_every_request(tmp_path: Path) -> None:
    assert records(GuideLlm(), DATA / REPORT)[0].context_tok is None
    spec = {"data": [{"kind": "synthetic_text", "prompt_tokens": 32, "output_tokens": 8}]}
    record = only(GuideLlm(), written(tmp_path, {"config": {"spec": spec}, "benchmarks": [benchmark()]}))
    assert (record.context_tok, record.output_tok) == (32, 8)


def test_the_layout_before_0_7_has_arguments_of_the_command(tmp_path: Path) -> None:
    args = {"model": "org/model", "data": ["prompt_tokens=512,output_tokens=128"], "profile": "concurrent"}
    one = benchmark()
    one["config"] = {"strategy": {"type_": "concurrent", "streams": 16}}
    meta = {"version": 1, "guidellm_version": "0.6.0"}
    record = only(GuideLlm(), written(tmp_path, {"metadata": meta, "args": args, "benchmarks": [one]}))
    assert (record.model, record.batch, record.rate_per_s) == ("org/model", 16, None)
    assert (record.context_tok, record.output_tok) == (512, 128)
    assert record.said["guidellm_version"] == "0.6.0"


def test_the_layout_of_0_3_has_counts_and_strategy_elsewhere(tmp_path: Path) -> None:
    one = benchmark()
    metrics = dict(one["metrics"])
    totals = metrics.pop("request_totals") | {"errored": 1, "total": 3}
    old = {
        "id_": "abc",
        "args": {"strategy": {"type_": "synchronous"}},
        "worker": {"backend_model": "org/old"},
        "request_loader": {"data": '{"prompt_tokens": 256, "output_tokens": 64}'},
        "request_totals": totals,
        "metrics": metrics,
        "start_time": 1786678148.5,
        "end_time": 1786678153.5,
    }
    record = only(GuideLlm(), written(tmp_path, {"benchmarks": [old]}))
    assert (record.model, record.batch) == ("org/old", 1)
    assert (record.context_tok, record.output_tok) == (256, 64)
    assert record.figures["window_s"] == 5.0
    assert record.reason == "1 of 3 requests failed"


def test_a_distribution_over_nothing_is_no_figure(tmp_path: Path) -> None:
    one = benchmark()
    one["metrics"]["time_to_first_token_ms"]["successful"] |= {"count": 0, "mean": 0.0}
    record = only(GuideLlm(), written(tmp_path, document(REPORT) | {"benchmarks": [one]}))
    assert "ttft_mean_ms" not in record.figures


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"metrics": None}, r"benchmarks\[0\]\.metrics: it is missing"),
        ({"metrics": 5}, "this is a number"),
        ({"config": {"strategy": {"type_": "concurrent"}}}, r"strategy\.streams: it is missing"),
        ({"config": {"strategy": {"type_": "constant", "rate": "fast"}}}, "rate: this is text"),
        ({"metrics": {"request_totals": {"successful": 2}}}, "it has no figure that a column holds"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    path = written(tmp_path, document(REPORT) | {"benchmarks": [benchmark() | given]})
    with pytest.raises(ForeignError) as caught:
        records(GuideLlm(), path)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_another_object_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match="no report of GuideLLM"):
        records(GuideLlm(), written(tmp_path, {"metadata": {}}))
