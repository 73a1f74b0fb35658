"""Results of `vllm bench serve`, of several versions."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign.figures import recomputed
from fleetbench.store.foreign.record import ForeignError
from fleetbench.store.foreign.vllm import Vllm
from tests.store.foreign.files import DATA, changed, document, only, records, written

GLM = "vllm/glm47-conc16.json"
DETAILED = "vllm/405b-detailed.json"
NO_RAMP = dict.fromkeys(("ramp_up_strategy", "ramp_up_start_rps", "ramp_up_end_rps"))


def test_statistics_are_milliseconds_already() -> None:
    figures = only(Vllm(), DATA / GLM).figures
    assert figures["ttft_mean_ms"] == 498.11096891944544
    assert figures["ttft_p50_ms"] == 388.99113400111673
    assert figures["tpot_p99_ms"] == 88.67817484480337
    assert figures["output_tok_s"] == 186.47558779609227
    assert figures["total_tok_s"] == 447.58730925540925
    assert figures["window_s"] == 627.4708737100009
    assert (figures["asked_requests"], figures["completed_requests"], figures["failed_requests"]) == (160, 160, 0)


def test_its_inter_token_latency_is_the_gap_between_chunks() -> None:
    figures = only(Vllm(), DATA / GLM).figures
    assert figures["gap_mean_ms"] == figures["itl_mean_ms"] == 80.70609531511799


def test_speculative_decoding_keeps_it_from_standing_for_ours(tmp_path: Path) -> None:
    record = only(Vllm(), changed(tmp_path, GLM, {"spec_decode_num_drafts": 100}))
    assert record.figures["gap_mean_ms"] == 80.70609531511799
    assert "itl_mean_ms" not in record.figures
    assert any("ITL" in sentence for sentence in record.left_out)


def test_load_in_flight_and_what_is_not_said() -> None:
    record = only(Vllm(), DATA / GLM)
    assert (record.model, record.engine, record.hardware) == ("zai-org/GLM-4.7", "vllm", None)
    assert (record.batch, record.rate_per_s) == (16, None)
    assert record.started_at is None
    assert record.said["date"] == "20260314-193625"


def test_prompts_of_one_length_are_told_by_a_mean_without_a_fraction() -> None:
    record = only(Vllm(), DATA / GLM)
    assert record.context_tok == 163840 // 160
    assert record.output_tok is None


def test_few_requests_do_not_tell_their_length(tmp_path: Path) -> None:
    few = {"num_prompts": 4, "completed": 4, "total_input_tokens": 4096, "total_output_tokens": 1001}
    record = only(Vllm(), changed(tmp_path, GLM, few))
    assert (record.context_tok, record.output_tok) == (None, None)


@pytest.mark.parametrize(
    ("given", "batch", "rate"),
    [
        ({"request_rate": 4.5, "max_concurrency": None}, None, 4.5),
        ({"request_rate": 4.5, "max_concurrency": 16}, None, 4.5),
        ({"request_rate": "inf", "max_concurrency": None}, None, None),
        ({"request_rate": "inf", "max_concurrency": 8}, 8, None),
    ],
)
def test_arrivals_and_requests_in_flight_are_apart(
    tmp_path: Path, given: dict[str, Any], batch: int | None, rate: float | None
) -> None:
    record = only(Vllm(), changed(tmp_path, GLM, given))
    assert (record.batch, record.rate_per_s) == (batch, rate)


def test_a_ramp_is_another_cell(tmp_path: Path) -> None:
    ramp = {"ramp_up_strategy": "linear", "ramp_up_start_rps": 1, "ramp_up_end_rps": 9, "max_concurrency": None}
    record = only(Vllm(), changed(tmp_path, GLM, ramp))
    assert (record.batch, record.rate_per_s) == (None, None)
    assert record.conditions["ramp_up_strategy"] == "linear"


def test_percentiles_without_a_column_are_kept_beside(tmp_path: Path) -> None:
    more = {"p90_ttft_ms": 700.5, "p99.9_ttft_ms": 1700.25, "p25_e2el_ms": 100.0, "mean_e2el_ms": 60000.0}
    record = only(Vllm(), changed(tmp_path, GLM, more))
    assert record.figures["ttft_p90_ms"] == 700.5
    assert record.figures["e2e_mean_ms"] == 60000.0
    assert record.reported["p99.9_ttft_ms"] == 1700.25
    assert record.reported["p25_e2el_ms"] == 100.0
    assert record.reported["std_ttft_ms"] == 327.95988406430513


@pytest.mark.parametrize("key", ["request_goodput", "request_goodput:"])
def test_goodput_under_both_of_its_names(tmp_path: Path, key: str) -> None:
    path = changed(tmp_path, GLM, {"request_goodput:": ..., key: 0.125})
    assert only(Vllm(), path).figures["goodput_per_s"] == 0.125


def test_an_interface_is_no_engine(tmp_path: Path) -> None:
    record = only(Vllm(), changed(tmp_path, GLM, {"backend": "openai-chat", "endpoint_type": "openai-chat"}))
    assert record.engine is None
    assert record.conditions["interface"] == "openai-chat"


def test_what_the_user_added_makes_another_cell_and_is_not_believed(tmp_path: Path) -> None:
    record = only(Vllm(), changed(tmp_path, GLM, {"tp": "8", "gpu": "h200", "max_num_seqs": 4, "run_number": 1}))
    assert (record.tp, record.hardware) == (None, None)
    assert record.conditions == {"tp": "8", "gpu": "h200", "max_num_seqs": 4, "interface": None, **NO_RAMP}
    assert record.said["run_number"] == 1


def test_what_was_measured_besides_makes_no_other_cell(tmp_path: Path) -> None:
    more = {"spec_decode_acceptance_rate": 50.0, "rtfx": 0.0, "max_concurrent_requests": 6, "mean_queue_time_ms": 3.5}
    record = only(Vllm(), changed(tmp_path, GLM, more))
    assert record.conditions == {"interface": None, **NO_RAMP}
    assert record.said["spec_decode_acceptance_rate"] == 50.0
    assert record.said["mean_queue_time_ms"] == 3.5


def test_a_file_that_was_appended_to_has_a_record_a_run(tmp_path: Path) -> None:
    text = json.dumps(document(GLM)) + "\n" + json.dumps(document(GLM) | {"max_concurrency": 32})
    found = records(Vllm(), written(tmp_path, text))
    assert [record.batch for record in found] == [16, 32]
    assert [record.where for record in found] == ["record 1", "record 2"]


def test_lists_are_seconds_and_become_requests() -> None:
    first = only(Vllm(), DATA / DETAILED).requests[0]
    assert first.start_ns is None
    assert first.first_token_ns == 440_009_864
    assert (first.prompt_tok, first.output_tok) == (13, 120)
    assert first.gaps_ns is not None
    assert len(first.gaps_ns) == 119
    assert first.gaps_ns[0] == 62_885_424_829


def test_a_request_without_a_token_is_no_answer_though_it_is_counted_as_one() -> None:
    record = only(Vllm(), DATA / DETAILED)
    assert [one.outcome for one in record.requests].count("ok") == 6
    assert not record.valid
    assert record.outcome is Outcome.INVALID
    assert record.reason == "1 of 7 requests brought no token, where the file says that 0 failed"


def test_our_figures_come_from_the_requests_that_were_answered() -> None:
    ours = recomputed(only(Vllm(), DATA / DETAILED))
    ttft_ms = [440.009863988962, 414.2281819949858, 374.07420499948785, 570.1384320273064, 2531.9554249872454]
    assert ours["ttft_mean_ms"] == pytest.approx((sum(ttft_ms) + 53367.09447199246) / 6)
    assert ours["ttft_n"] == 6
    assert "window_s" not in ours  # nobody knows when the requests started


def test_a_gap_that_brought_several_tokens_is_shared_by_them() -> None:
    """The last request has 236 tokens in 234 arrivals: 235 latencies between tokens, 233 gaps."""
    ours = recomputed(only(Vllm(), DATA / DETAILED))
    gaps, tokens = 119 + 5 + 3 + 233, 119 + 5 + 3 + 234
    assert ours["gap_n"] == gaps
    assert isinstance(ours["itl_n"], int)
    assert gaps < ours["itl_n"] <= tokens + 1


def test_starts_place_the_requests_on_one_clock(tmp_path: Path) -> None:
    n = len(document(DETAILED)["ttfts"])
    starts = {"start_times": [1000.0 + i for i in range(n)], "latencies": [60.0] * n}
    record = only(Vllm(), changed(tmp_path, DETAILED, starts))
    assert record.requests[1].start_ns == 1_001_000_000_000
    assert record.requests[1].first_token_ns == 1_001_414_228_182
    ours = recomputed(record)
    assert isinstance(ours["window_s"], float)
    assert ours["window_s"] > 60


@pytest.mark.parametrize(("rate", "queue_ms"), [(32.0, 500.0), ("inf", 0.0)])
def test_a_wait_in_the_client_counts_where_arrivals_were_scheduled(
    tmp_path: Path, rate: float | str, queue_ms: float
) -> None:
    more = {"start_times": [1000.0] * 7, "queue_times": [0.5] * 7, "request_rate": rate, "max_concurrency": 4}
    ours = recomputed(only(Vllm(), changed(tmp_path, DETAILED, more)))
    mean_ms = ours["ttft_mean_ms"]
    assert isinstance(mean_ms, float)
    assert ours["queue_p50_ms"] == queue_ms
    assert ours["ttft_intended_mean_ms"] == pytest.approx(mean_ms + queue_ms)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ttfts": [0.1]}, "input_lens: 7 requests, where ttfts has 1"),
        ({"completed": "160"}, "completed: this is text, where a number should be"),
        ({"completed": ...}, "completed: it is missing"),
        ({"completed": 1.5}, "completed: 1.5 is no whole number"),
        ({"model_id": None}, "model_id: it is missing"),
        ({"mean_ttft_ms": -1.0}, "mean_ttft_ms: -1.0 is no measurement"),
        ({"mean_ttft_ms": "NaN"}, "mean_ttft_ms: this is text"),
        ({"mean_ttft_ms": float("nan")}, "mean_ttft_ms: nan is no measurement"),
        ({"duration": float("inf")}, "duration: inf is no measurement"),
        ({"ttfts": [[]] * 7}, r"ttfts\[0\]: this is a list, where a number should be"),
        ({"itls": 5}, "itls: this is a number, where a list should be"),
        ({"itls": [[1e12]] * 7}, r"itls\[0\]\[0\]: 1e\+12 s is longer than anything that is measured"),
        ({"median_ttft": 1.5}, "median_ttft: times whose keys lack _ms are InferenceX's, in seconds"),
        ({"max_concurrency": 2**40}, "max_concurrency: .* is more than any count"),
        ({"elapsed_time": 1.0, "num_requests": 5}, "`vllm bench throughput`"),
        ({"total_input_sequences": 5}, "embeddings"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    path = changed(tmp_path, DETAILED, given)
    with pytest.raises(ForeignError) as caught:
        records(Vllm(), path)
    assert re.search(message, str(caught.value)), str(caught.value)


def test_no_answer_at_all_is_not_valid(tmp_path: Path) -> None:
    nothing = {"completed": 0, "mean_ttft_ms": 0.0, "median_ttft_ms": 0.0, "p99_ttft_ms": 0.0, "output_throughput": 0.0}
    record = only(Vllm(), changed(tmp_path, GLM, nothing))
    assert record.reason == "no request was answered"
    assert record.figures["ttft_mean_ms"] is None
    assert record.figures["output_tok_s"] is None
