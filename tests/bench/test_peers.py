"""Each tool's own result becomes the same figures. The results here have the form of those that the tools wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.bench.figures import Quantiles
from tests.bench.peers import RESULT, Ask, Tool, ours, peers

TTFT, ITL = Quantiles(p50_ms=51.0, p99_ms=60.0), Quantiles(p50_ms=10.0, p99_ms=12.0)
ASK = Ask(
    url="http://127.0.0.1:8000", streams=64, requests=64, prompt_tok=32, output_tok=500, tokenizer=Path("tokenizer")
)
MEDIANS = {"completed": 64, "median_ttft_ms": 51.0, "p99_ttft_ms": 60.0, "median_itl_ms": 10.0, "p99_itl_ms": 12.0}
OURS = {
    "valid": True,
    "reasons": [],
    "completed": 64,
    "failed": 0,
    "probes": 3,
    "ttft_ms": {"p50": 51.0, "p99": 60.0},
    "itl_ms": {"p50": 10.0, "p99": 12.0},
    "evidence": {"cpu_s": 1.5},
}


def guide(p50: float, p99: float) -> dict[str, Any]:
    return {"successful": {"median": p50, "percentiles": {"p99": p99}}}


GUIDELLM = {
    "time_to_first_token_ms": guide(51.0, 60.0),
    "inter_token_latency_ms": guide(10.0, 12.0),
    "request_totals": {"successful": 64, "errored": 0, "incomplete": 0, "total": 64},
}
RESULTS: dict[str, tuple[str, Any]] = {
    "vllm": (RESULT, MEDIANS | {"failed": 0}),
    "sglang": (RESULT, MEDIANS),
    "sglang-rust": (RESULT, MEDIANS),
    "guidellm": (RESULT, {"benchmarks": [{"metrics": GUIDELLM}]}),
    "aiperf": (
        "profile_export_aiperf.json",
        {
            "request_count": {"unit": "requests", "avg": 64.0},
            "time_to_first_token": {"unit": "ms", "p50": 51.0, "p99": 60.0},
            "inter_token_latency": {"unit": "ms", "p50": 10.0, "p99": 12.0},
        },
    ),
    "inference-perf": (
        "summary_lifecycle_metrics.json",
        {
            "successes": {
                "count": 64,
                "latency": {
                    "time_to_first_token": {"median": 0.051, "p99": 0.060},
                    "inter_token_latency": {"median": 0.010, "p99": 0.012},
                },
            },
            "failures": {"count": 0},
        },
    ),
}


def peer(name: str) -> Tool:
    return next(tool for tool in peers(Path("peers")) if tool.name == name)


@pytest.mark.parametrize("name", RESULTS)
def test_a_peers_result_becomes_our_figures(name: str, tmp_path: Path) -> None:
    file, result = RESULTS[name]
    (tmp_path / file).write_text(json.dumps(result), encoding="utf-8")
    found = peer(name).read(tmp_path)
    assert (found.completed, found.failed) == (64, 0)
    for said, expected in ((found.ttft, TTFT), (found.itl, ITL)):
        assert said is not None
        assert (said.p50_ms, said.p99_ms) == pytest.approx((expected.p50_ms, expected.p99_ms))


@pytest.mark.parametrize("name", RESULTS)
def test_a_peer_is_asked_for_the_server_and_the_lengths(name: str) -> None:
    tool = peer(name)
    asked = " ".join([*tool.command(ASK), *tool.files(ASK).values()])
    assert all(word in asked for word in (ASK.url, "64", "32", "500"))


@pytest.mark.parametrize("name", RESULTS)
def test_a_peer_that_is_not_installed_has_no_receipt(name: str) -> None:
    assert peer(name).receipt() is None


def test_our_result_tells_its_probes_and_the_cpu_time_of_its_loop(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_text(json.dumps(OURS), encoding="utf-8")
    found = ours(["fleetbench"]).read(tmp_path)
    assert (found.lead, found.loop_cpu_s, found.complaint) == (3, 1.5, None)
    assert (found.ttft, found.itl) == (TTFT, ITL)


def test_our_result_that_is_not_valid_says_why_and_may_lack_latencies(tmp_path: Path) -> None:
    nothing = {"p50": None, "p99": None}
    result = OURS | {"valid": False, "reasons": ["the client read late", "two"], "itl_ms": nothing}
    (tmp_path / "stdout").write_text(json.dumps(result), encoding="utf-8")
    found = ours(["fleetbench"]).read(tmp_path)
    assert found.complaint == "the client read late; two"
    assert found.itl is None


def test_a_result_of_another_form_is_refused(tmp_path: Path) -> None:
    (tmp_path / "stdout").write_text("[]", encoding="utf-8")
    with pytest.raises(TypeError):
        ours(["fleetbench"]).read(tmp_path)
