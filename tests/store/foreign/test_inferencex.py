"""Results of InferenceX: raw, aggregated, of its dashboard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fleetbench.matrix.types import Outcome
from fleetbench.store.foreign.inferencex import InferenceX
from fleetbench.store.foreign.record import ForeignError
from tests.store.foreign.files import DATA, changed, document, only, records, written

RAW = "inferencex/minimax_m25_vllm_dep8_isl1024_osl128_conc48.json"
POWER = "inferencex/agg-power.json"
DISAGGREGATED = {
    "disagg": True,
    "is_multinode": True,
    "tp": ...,
    "pp": ...,
    "prefill_tp": 4,
    "prefill_num_workers": 2,
    "num_prefill_gpu": 8,
    "decode_tp": 16,
    "decode_num_workers": 1,
    "num_decode_gpu": 16,
}


def test_seconds_become_milliseconds() -> None:
    figures = only(InferenceX(), DATA / RAW).figures
    assert figures["ttft_p50_ms"] == pytest.approx(1647.8123511187732)
    assert figures["ttft_p99_ms"] == pytest.approx(2502.9561873897905)
    assert figures["tpot_p50_ms"] == pytest.approx(26.04818938109349)
    assert figures["e2e_p99_ms"] == pytest.approx(6093.8563484384935)
    assert figures["window_s"] == 51.190334897488356


def test_a_raw_result_says_its_load_and_totals() -> None:
    record = only(InferenceX(), DATA / RAW)
    assert (record.batch, record.context_tok, record.output_tok) == (48, 1024, 128)
    assert record.figures["output_tok_s"] == 1200.2265686098206
    assert record.figures["total_tok_s"] == pytest.approx((491520 + 61440) / 51.190334897488356)
    assert (record.hardware, record.engine, record.recipe) == (None, None, None)


def test_throughput_for_each_gpu_becomes_that_of_all() -> None:
    record = only(InferenceX(), DATA / POWER)
    assert (record.gpus, record.tp, record.batch) == (2, 2, 4)
    assert record.figures["output_tok_s"] == 2 * 50.0
    assert record.figures["total_tok_s"] == 2 * 250.0
    assert record.figures["user_tok_s_p50"] == 50.0


def test_energy_is_of_all_gpus() -> None:
    figures = only(InferenceX(), DATA / POWER).figures
    assert (figures["energy_j"], figures["power_mean_w"]) == (10000.0, 1000.0)
    assert figures["energy_j_per_tok"] == 0.097656


def test_energy_that_its_own_check_calls_invalid_is_left_out(tmp_path: Path) -> None:
    record = only(InferenceX(), changed(tmp_path, POWER, {"power_valid": 0}))
    assert "energy_j" not in record.figures
    assert "power: its own check calls it not valid" in record.left_out


def test_energy_without_its_sum_may_be_of_one_gpu(tmp_path: Path) -> None:
    record = only(InferenceX(), changed(tmp_path, POWER, {"total_gpu_energy_j": ...}))
    assert "energy_j_per_tok" not in record.figures
    assert any(sentence.startswith("joules_per_output_token") for sentence in record.left_out)


def test_output_of_a_disaggregated_deployment_is_divided_by_the_gpus_that_decode(tmp_path: Path) -> None:
    record = only(InferenceX(), changed(tmp_path, POWER, DISAGGREGATED))
    assert record.gpus == 24
    assert record.tp is None
    assert record.figures["output_tok_s"] == 16 * 50.0
    assert record.figures["total_tok_s"] == 24 * 250.0
    assert record.recipe == "fp8-disagg"


def test_its_dashboard_names_the_same_gpus_under_both_roles() -> None:
    record = only(InferenceX(), DATA / "inferencex/dashboard.json")
    assert (record.gpus, record.tp, record.hardware, record.model) == (4, 4, "mi355x", "dsr1")
    assert record.figures["output_tok_s"] == pytest.approx(4 * 89.88905796876784)
    assert record.figures["ttft_mean_ms"] == pytest.approx(147.74119136855007)


def test_gpus_that_cannot_be_told_leave_throughput_out(tmp_path: Path) -> None:
    unclear = {**DISAGGREGATED, "disagg": False}
    record = only(InferenceX(), changed(tmp_path, POWER, unclear))
    assert record.gpus is None
    assert record.figures["total_tok_s"] is None
    assert "throughput: how many GPUs it is divided by is not said" in record.left_out


def test_a_list_has_a_record_each_and_figures_in_metrics() -> None:
    found = records(InferenceX(), DATA / "inferencex/supplemental.json")
    assert [record.batch for record in found] == [1, 2]
    assert [record.where for record in found] == ["record 1", "record 2"]
    assert found[0].figures["ttft_mean_ms"] == pytest.approx(166.45)
    assert found[0].figures["output_tok_s"] == pytest.approx(8 * 2.32)
    assert found[0].conditions["dp_attention"] is False


def test_replays_of_traces_have_figures_by_name_and_statistic(tmp_path: Path) -> None:
    nested = {
        "mean_ttft": ...,
        "median_ttft": ...,
        "isl": ...,
        "osl": ...,
        "request_metrics": {
            "latency": {"ttft": {"mean": 0.5, "p90": 0.75}, "tpot": {"p50": 0.025}, "itl": {"mean": 0.026}},
            "throughput": {
                "output": {"tokens_per_second": 123.0},
                "total": {"tokens_per_second": 456.0},
                "duration_seconds": 60.0,
            },
        },
    }
    record = only(InferenceX(), changed(tmp_path, POWER, nested))
    assert record.figures["ttft_mean_ms"] == 500.0
    assert record.figures["ttft_p90_ms"] == 750.0
    assert record.figures["output_tok_s"] == 123.0
    assert "gap_mean_ms" not in record.figures  # its ITL is a mean a request
    assert record.context_tok is None


def test_speculative_decoding_is_part_of_the_recipe(tmp_path: Path) -> None:
    record = only(InferenceX(), changed(tmp_path, POWER, {"spec_decoding": "mtp", "mean_itl": 0.02}))
    assert record.recipe == "fp8-mtp"
    assert "itl_mean_ms" not in record.figures


def test_gaps_that_bring_several_tokens_do_not_stand_for_ours(tmp_path: Path) -> None:
    """TensorRT-LLM under Dynamo, run 21640109636: ITL of 1.27 s at 13.4 ms a token."""
    chunks = {"mean_itl": 1.2728005522069192, "p99_itl": 1.3954468019260093, "mean_tpot": 0.013432639431037454}
    record = only(InferenceX(), changed(tmp_path, POWER, chunks))
    assert record.figures["gap_p99_ms"] == pytest.approx(1395.4468019260093)
    assert "itl_p99_ms" not in record.figures
    assert "its ITL as ours: its gaps bring several tokens, by its TPOT" in record.left_out


def test_requests_that_failed_keep_it_from_comparisons(tmp_path: Path) -> None:
    outcome = {"status": "passed", "requested": 100, "completed": 97, "failed": 3, "max_failure_rate": 0.05}
    record = only(InferenceX(), changed(tmp_path, POWER, {"benchmark_outcome": outcome}))
    assert (record.valid, record.outcome) == (False, Outcome.INVALID)
    assert record.reason == "3 of 100 requests failed"


def test_a_short_name_means_the_format_that_the_model_is_published_in(tmp_path: Path) -> None:
    known = {"model": "openai/gpt-oss-120b", "precision": "fp4"}
    assert only(InferenceX(), changed(tmp_path, POWER, known)).weights == "mxfp4"
    assert only(InferenceX(), DATA / POWER).weights == "fp8"  # of a model that the catalog does not know: a word


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"median_ttft_ms": 1.0}, "median_ttft_ms: times whose keys end in _ms are vLLM's own"),
        ({"model": ..., "infmax_model_prefix": ...}, "infmax_model_prefix: it is missing"),
        ({"conc": "4"}, "conc: this is text, where a number should be"),
        ({"mean_ttft": float("nan")}, "mean_ttft: nan is no measurement"),
        ({"disagg": "perhaps"}, "disagg: this is text, where true or false should be"),
        ({"benchmark_outcome": [1]}, "benchmark_outcome: this is a list, where an object with"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ForeignError, match=re.escape(message)):
        records(InferenceX(), changed(tmp_path, POWER, given))


def test_a_record_without_a_figure_is_no_result(tmp_path: Path) -> None:
    path = written(tmp_path, [document(POWER), {"model": "x", "hw": "h200"}])
    with pytest.raises(ForeignError, match="record 2: it has no figure that a column holds"):
        records(InferenceX(), path)
