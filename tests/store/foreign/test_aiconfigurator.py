"""Rows of aiconfigurator's silicon CSV."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fleetbench.store.foreign.aiconfigurator import AiConfigurator
from fleetbench.store.foreign.record import ForeignError, Record
from tests.store.foreign.files import DATA, records

SILICON = DATA / "aiconfigurator/silicon.csv"


def lines() -> list[dict[str, str]]:
    with SILICON.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def by(name: str) -> Record:
    number = next(n for n, line in enumerate(lines()) if name in line["id"])
    return records(AiConfigurator(), SILICON)[number]


def edited(folder: Path, **changes: str) -> Path:
    first = lines()[0] | changes
    path = folder / "silicon.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(first))
        writer.writeheader()
        writer.writerow(first)
    return path


def test_times_are_milliseconds_and_means() -> None:
    record = by("minimaxm2_5_b300_vllm_fp8_agg_1024x1024_c512_cfg734")
    assert record.figures == {"ttft_mean_ms": 727.8426075309881, "tpot_mean_ms": 31.74447123107922}
    assert record.started_at == datetime(2026, 4, 21, tzinfo=UTC)
    assert (record.context_tok, record.output_tok, record.engine_version) == (1024, 1024, "0.19.0")


def test_the_load_is_of_the_whole_deployment_not_of_a_rank() -> None:
    record = by("minimaxm2_5_b300_vllm_fp8_agg_1024x1024_c512_cfg734")
    assert record.batch == 512  # batch_size says 128, on each of four ranks
    assert (record.tp, record.pp, record.dp, record.gpus) == (4, 1, 4, 16)


def test_gpus_of_prefill_and_decode_are_added() -> None:
    record = by("kimik2_5_gb200_trtllm_fp4_disagg_1024x1024_c4_cfg759")
    assert record.gpus == 1 * 1 * 4 + 4 * 8
    assert (record.tp, record.recipe) == (None, "fp4-disagg")


def test_gpus_without_the_number_of_workers_are_unknown() -> None:
    assert by("2026_03_25_deepseek_r1_b200_sxm_trtllm_fp4_disagg").gpus is None


def test_formats_are_those_of_the_quant_modes_not_of_the_short_name() -> None:
    assert by("kimik2_5_gb200").weights == "nvfp4"
    assert by("kimi_k2_5_b200_sxm_vllm_int4").weights == "int4"
    assert by("kimi_k2_5_b200_sxm_vllm_int4").activations is None  # 16 bits of either kind
    mixed = by("dsr1_gb300_sglang_fp8_disagg_8192x1024_c1024_cfg505")  # fp8 and fp8_block: one format
    assert (mixed.weights, mixed.activations) == ("fp8", "fp8")


def test_bf16_is_a_format_of_its_own_and_nothing_is_made_of_an_empty_field() -> None:
    assert by("qwen3_5_b300_sglang_bf16").weights == "bf16"
    bare = by("qwen_qwen3_32b_gb200_trtllm_agg_2000x500_c288")
    assert (bare.weights, bare.recipe) == (None, None)


def test_a_rank_count_of_zero_is_none() -> None:
    record = by("qwen_qwen3_32b_gb200_trtllm_agg_2000x500_c288")
    assert (record.dp, record.gpus, record.batch) == (None, 2, 288)


def test_a_load_that_is_not_said_stays_unknown() -> None:
    record = by("deepseek_r1_gb200_trtllm_agg_4000x1000_c_tp8")
    assert (record.batch, record.gpus) == (None, 8)


def test_formats_that_differ_between_attention_and_experts_are_no_one_format(tmp_path: Path) -> None:
    (record,) = records(AiConfigurator(), edited(tmp_path, moe_quant_mode="w4a16_mxfp4", gemm_quant_mode="float16"))
    assert (record.weights, record.activations) == (None, None)
    assert record.conditions["moe_quant_mode"] == "w4a16_mxfp4"


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("silicon_ttft_ms", "", "line 2: silicon_ttft_ms: it is missing"),
        ("silicon_ttft_ms", "nan", "line 2: silicon_ttft_ms: nan is no measurement"),
        ("silicon_tpot_ms", "-3", "line 2: silicon_tpot_ms: -3.0 is no measurement"),
        ("isl", "1k", "line 2: isl: '1k' is no number"),
        ("isl", "1.5", "line 2: isl: '1.5' is no whole number"),
        ("system", "", "line 2: system: it is missing"),
        ("silicon_data_source", "measured=then", "line 2: silicon_data_source, measured: 'then' is no time"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, column: str, value: str, message: str) -> None:
    path = edited(tmp_path, **{column: value})
    with pytest.raises(ForeignError) as caught:
        records(AiConfigurator(), path)
    assert message in str(caught.value)


def test_a_row_that_is_cut_short_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text(SILICON.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(ForeignError, match="line 12: "):
        records(AiConfigurator(), path)


def test_another_csv_is_said_to_lack_columns(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(ForeignError, match="line 1: there is no column backend, model_path"):
        records(AiConfigurator(), path)
