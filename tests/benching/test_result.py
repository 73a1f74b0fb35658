from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fleetbench.bench.result import LATENCIES
from fleetbench.bench.verdict import judged
from fleetbench_collectors.load.arrivals import ramp
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.workload import File, OpenLoop
from tests.benching.ask import asked, loaded, row, sent
from tests.truth.run import serve

NOTHING = {"mean": None, "p50": None, "p90": None, "p99": None, "n": 0}


def result(rows: list[dict[str, Any]], *, interrupted: bool = False, **changes: Any) -> dict[str, Any]:
    found = judged(loaded(rows, **{"batch": 1, **changes}), interrupted=interrupted).row
    again: dict[str, Any] = json.loads(json.dumps(found, allow_nan=False))
    return again


def test_figures_are_of_completed_requests_alone() -> None:
    found = result([row(0), row(1), row(2, "timeout"), row(3, "cancelled")])
    assert [found[name] for name in ("requests", "completed", "failed", "cancelled")] == [4, 2, 1, 1]
    assert found["ttft_ms"] == {"mean": 1.0, "p50": 1.0, "p90": 1.0, "p99": 1.0, "n": 2}
    assert (found["itl_ms"]["mean"], found["itl_ms"]["n"]) == (2.0, 6)
    assert (found["tpot_ms"]["mean"], found["e2e_ms"]["mean"]) == (2.0, 7.0)
    assert found["output_tok_s"] == pytest.approx(8 / 0.017)
    assert found["duration_s"] == pytest.approx(0.017)


def test_without_a_completed_request_there_is_no_figure_and_no_zero() -> None:
    found = result([row(0, "timeout")])
    assert {name: found[name] for name in LATENCIES} == dict.fromkeys(LATENCIES, NOTHING)
    for name in ("duration_s", "output_tok_s", "total_tok_s", "requests_per_s", "prompt_tok", "output_tok"):
        assert found[name] is None


def test_failures_are_counted_by_kind_with_the_words_of_the_first() -> None:
    rows = [row(0), row(1, "timeout"), row(2, "http_error", error="HTTP 500: x"), row(3, "http_error", error="y")]
    assert result([*rows, row(4, "cancelled")])["failures"] == {
        "timeout": {"count": 1, "example": "timeout words"},
        "http_error": {"count": 2, "example": "HTTP 500: x"},
    }


def test_the_warm_up_is_apart() -> None:
    found = result([row(0, phase="warmup", last_token_ns=90_000_000), row(1)])
    assert (found["warmup"], found["requests"], found["e2e_ms"]["p99"]) == (1, 1, 7.0)


def test_failed_requests_count_against_goodput_and_cancelled_ones_do_not() -> None:
    late = row(1, first_token_ns=16_000_000)
    found = result([row(0), late, row(2, "timeout"), row(3, "cancelled")], slo="ttft:5")
    assert (found["goodput"]["met"], found["goodput"]["asked"]) == (1, 3)
    assert found["goodput"]["ratio"] == pytest.approx(1 / 3)
    assert result([row(0)])["goodput"] is None


def test_reasons_and_warnings_are_apart() -> None:
    found = result([row(number, prompt_tok=None) for number in range(6)], prompts_file=File(path="p", unique=False))
    assert (found["valid"], found["reasons"], found["kinds"], found["warnings"]) == (True, [], [], [])
    found = result([row(number, output_tok=None) for number in range(6)])
    assert (found["valid"], found["reasons"]) == (True, [])
    assert any("no count of output tokens" in warning for warning in found["warnings"])
    found = result([row(0)])
    assert (found["valid"], found["kinds"]) == (False, ["failed"])


def test_only_asked_kernel_stamps_that_were_not_to_be_had_are_noted() -> None:
    secure = Target.parse("https://127.0.0.1:1")
    noted = [result([row(0)], target=secure, kernel=kernel)["warnings"] for kernel in (True, False)]
    assert [any("over tls" in warning for warning in warnings) for warnings in noted] == [True, False]


def test_a_proxy_is_noted_and_takes_no_kernel_stamps_away() -> None:
    proxied = Target.parse("http://127.0.0.1:1", proxy="http://127.0.0.1:2")
    warnings = result([row(0)], target=proxied)["warnings"]
    assert any("through a proxy" in warning for warning in warnings)
    assert not any("stamps arrivals itself" in warning for warning in warnings)


def test_no_figure_is_earlier_than_what_the_server_logged(truth: list[str]) -> None:
    with serve(truth, ttft_us=10_000, itl_us=3_000) as server:
        load = sent(asked(server.url, requests=12))
        log = server.stop().log[-12:]
    found = judged(load, interrupted=False).row
    ttft_ms = sorted((each.send_ns[0] - each.received_ns) / 1e6 for each in log)
    e2e_ms = sorted((each.send_ns[-1] - each.received_ns) / 1e6 for each in log)
    assert found["ttft_ms"]["mean"] >= sum(ttft_ms) / 12
    assert found["e2e_ms"]["mean"] >= sum(e2e_ms) / 12
    assert found["ttft_ms"]["p99"] >= ttft_ms[-2]
    assert (found["ttft_ms"]["n"], found["e2e_ms"]["n"], found["tpot_ms"]["n"]) == (12, 12, 12)
    assert {each.prompt_tok for each in log} == {32}
    assert found["prompt_tok"] == {"mean": 32.0, "min": 32, "max": 32}


def test_what_was_asked_for_stands_in_the_result_but_no_secret() -> None:
    loop = OpenLoop(profile=ramp(1, 9, 60), process="gamma", burstiness=0.5)
    changes: dict[str, Any] = {"batch": None, "arrivals": loop, "body": {"top_k": 1}, "headers": {"X-Key": "secret"}}
    found = result([row(0)], api_key="secret", seconds=90.0, slo="ttft:5", **changes)
    asks = found["asked"]
    assert (asks["arrivals"], asks["burstiness"], asks["max_in_flight"]) == ("gamma", 0.5, 64)
    assert asks["profile"][0] == {"seconds": 60, "start_per_s": 1, "end_per_s": 9}
    assert (asks["requests"], asks["seconds"], asks["body"], asks["slo"]) == (6, 90.0, {"top_k": 1}, "ttft:5")
    assert "secret" not in str(found)
    assert found["started_at"].endswith("+00:00")


def test_an_interrupted_load_says_whose_tokens_its_rates_lack() -> None:
    rows = [*(row(number) for number in range(6)), row(6, "cancelled")]
    (said,) = result(rows, interrupted=True)["warnings"]
    assert said.startswith("1 requests were cut off, and no figure of the whole load has their tokens")
    assert result(rows[:6], interrupted=True)["warnings"] == []


def test_what_the_server_refused_is_a_warning_that_says_what_follows(truth: list[str]) -> None:
    with serve(truth) as server:
        load = sent(asked(server.url))
    assert load.probed is not None
    for refused, follows in ((("cache_prompt",), False), (("cache_prompt", "ignore_eos", "seed"), True)):
        row_ = judged(replace(load, probed=replace(load.probed, refused=refused)), interrupted=False).row
        (said,) = [sentence for sentence in row_["warnings"] if "refuses" in sentence]
        assert said.startswith(f"the server refuses {', '.join(refused)}")
        assert ("answers end where the model ends them" in said) is follows
