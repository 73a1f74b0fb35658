"""Benchmark reports of llm-d, of three versions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetbench.store.foreign.llm_d import LlmD
from fleetbench.store.foreign.names import Names
from fleetbench.store.foreign.record import ForeignError
from tests.store.foreign.files import DATA, only, records, written

NEWEST = "llm-d/br_v0_2_1_example.yaml"
TTFT = ("results", "request_performance", "aggregate", "latency", "time_to_first_token")


def report(path: tuple[str, ...] = (), value: Any = None, name: str = NEWEST) -> dict[str, Any]:
    """The example with another value at a path; `...` takes it out."""
    found: dict[str, Any] = yaml.safe_load((DATA / name).read_text())
    place = found
    for key in path[:-1]:
        place = place[key]
    if path:
        place[path[-1]] = value
        if value is ...:
            del place[path[-1]]
    found["run"]["time"] = {"start": "2025-11-05T18:00:42Z", "duration": "PT49.9S"}
    return found


def test_seconds_become_milliseconds_by_the_unit_beside_them() -> None:
    figures = only(LlmD(), DATA / NEWEST).figures
    assert figures["ttft_p99_ms"] == pytest.approx(50.29489721637218)
    assert figures["ttft_p50_ms"] == pytest.approx(36.22930939309299)
    assert figures["output_tok_s"] == 2262.448
    assert (figures["asked_requests"], figures["failed_requests"]) == (500, 0)


def test_milliseconds_stay(tmp_path: Path) -> None:
    ttft = {"units": "ms", "mean": 12.5, "p50": 12.0}
    assert only(LlmD(), written(tmp_path, report(TTFT, ttft))).figures["ttft_mean_ms"] == 12.5


def test_the_engines_of_the_stack_are_what_served() -> None:
    record = only(LlmD(), DATA / NEWEST)
    named = Names(words=LlmD().words).columns(record)
    assert (named["model"], named["hardware"], record.engine) == ("qwen3-0.6b", "h100", "llm-d")
    assert (record.gpus, record.tp) == (16, 8)
    assert record.conditions["roles"] == "2 x decode"


def test_load_and_lengths_that_every_request_had() -> None:
    record = only(LlmD(), DATA / NEWEST)
    assert (record.rate_per_s, record.batch) == (10.0, None)
    assert (record.context_tok, record.output_tok) == (2148, None)
    assert record.started_at is not None
    assert record.started_at.isoformat() == "2025-11-05T18:00:42+00:00"


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    as_json = only(LlmD(), written(tmp_path, json.dumps(report())))
    assert as_json.figures == only(LlmD(), DATA / NEWEST).figures


def test_the_version_before_reads_alike() -> None:
    record = only(LlmD(), DATA / "llm-d/br_v0_2_example.yaml")
    assert record.figures["ttft_p99_ms"] == pytest.approx(50.29489721637218)
    assert record.model == "Qwen/Qwen3-0.6B"


def test_the_first_version_has_rates_without_units() -> None:
    record = only(LlmD(), DATA / "llm-d/br_v0_1_example.yaml")
    assert record.figures["ttft_mean_ms"] == 0.800974442732916
    assert record.figures["output_tok_s"] == 32.544923821416
    assert record.figures["completed_requests"] == 31
    assert (record.model, record.engine, record.gpus, record.tp) == ("deepseek-ai/DeepSeek-R1-0528", "vllm", 17, None)


def test_several_reports_in_one_file_are_several_records(tmp_path: Path) -> None:
    text = yaml.safe_dump_all([report(), report()])
    assert [record.where for record in records(LlmD(), written(tmp_path, text))] == ["record 1", "record 2"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("version",), "9.9", "version: 9.9 is no version that is known"),
        (("version",), ..., "version: it is missing"),
        (("results",), ..., "results: it is missing"),
        ((*TTFT, "units"), "fortnights", r"time_to_first_token\.units: 'fortnights' is no unit of time"),
        ((*TTFT, "units"), ..., r"units: it is missing"),
        ((*TTFT, "mean"), "fast", r"mean: this is text"),
        (TTFT, 5, "this is a number"),
        (("results", "request_performance"), ..., "no request was measured"),
        (("results", "request_performance", "aggregate", "requests", "failures"), 501, "501 failed or unfinished"),
        (
            ("results", "request_performance", "aggregate", "throughput", "output_token_rate", "units"),
            "queries/s",
            "'queries/s', where tokens/s should be",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, path: tuple[str, ...], value: Any, message: str) -> None:
    with pytest.raises(ForeignError) as caught:
        records(LlmD(), written(tmp_path, report(path, value)))
    assert re.search(message, str(caught.value)), str(caught.value)
