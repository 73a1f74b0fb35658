"""Rows of llama-bench."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleetbench.store.foreign.llama_bench import LlamaBench
from fleetbench.store.foreign.record import ForeignError, Record
from tests.store.foreign.files import DATA, only, records, written

JSONL = DATA / "llama-bench/sample.jsonl"


def row(**changes: Any) -> dict[str, Any]:
    first: dict[str, Any] = json.loads(JSONL.read_text(encoding="utf-8").splitlines()[0])
    return {key: value for key, value in (first | changes).items() if value is not ...}


def read(folder: Path, **changes: Any) -> Record:
    return only(LlamaBench(), written(folder, row(**changes)))


def test_a_prompt_row_is_a_prefill_speed() -> None:
    prompt, _ = records(LlamaBench(), JSONL)
    assert prompt.figures["prefill_tok_s"] == 7100.002165
    assert prompt.figures["decode_tok_s"] is None
    assert prompt.figures["output_tok_s"] is None
    assert prompt.figures["window_s"] == pytest.approx(0.07213564)
    assert (prompt.context_tok, prompt.output_tok, prompt.batch) == (512, None, 1)


def test_a_generation_row_is_a_decode_speed() -> None:
    _, generation = records(LlamaBench(), JSONL)
    assert generation.figures["decode_tok_s"] == 118.881588
    assert generation.figures["output_tok_s"] == 118.881588
    assert generation.figures["prefill_tok_s"] is None
    assert (generation.context_tok, generation.output_tok) == (None, 128)


def test_a_row_of_both_has_neither_speed(tmp_path: Path) -> None:
    both = read(tmp_path, n_prompt=512, n_gen=128, avg_ns=2_000_000_000, avg_ts=320.0)
    assert both.figures["total_tok_s"] == 320.0
    assert both.figures["output_tok_s"] == 64.0
    assert both.figures["prefill_tok_s"] is None
    assert both.figures["decode_tok_s"] is None


def test_depth_and_settings_make_another_cell() -> None:
    prompt, _ = records(LlamaBench(), JSONL)
    assert prompt.conditions["n_depth"] == 0
    assert prompt.conditions["n_gpu_layers"] == -1
    assert prompt.conditions["test"] == "pp"
    assert not {"avg_ts", "stddev_ns", "cpu_info"} & prompt.conditions.keys()


def test_repetitions_are_kept_beside_their_mean() -> None:
    prompt, _ = records(LlamaBench(), JSONL)
    assert prompt.reported["samples_ts"] == "[6863.1,7147.55,7136.37,7115.79,7237.21]"
    assert prompt.reported["stddev_ts"] == 140.341520


def test_what_ran_and_on_what() -> None:
    prompt, _ = records(LlamaBench(), JSONL)
    assert (prompt.model, prompt.weights, prompt.recipe) == ("Qwen2.5-7B-Instruct", "q4_k_m", "q4_k_m")
    assert (prompt.kv_k, prompt.kv_v) == ("f16", "f16")
    assert (prompt.hardware, prompt.gpus) == ("NVIDIA GeForce RTX 4080", 1)
    assert (prompt.engine, prompt.engine_version) == ("llama.cpp", "b5163")
    assert prompt.started_at == datetime(2025, 4, 24, 11, 58, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "kind", "model", "weights"),
    [
        ("a/Llama-3.1-8B-Instruct-Q8_0.gguf", "llama 8B Q8_0", "Llama-3.1-8B-Instruct", "q8_0"),
        ("C:\\m\\Qwen3-8B-IQ4_XS.gguf", "qwen3 8B IQ4_XS - 4.25 bpw", "Qwen3-8B", "iq4_xs"),
        ("m-Q4_K_M-00001-of-00003.gguf", "qwen2 72B Q4_K - Medium", "m", "q4_k_m"),
        ("m-UD-Q4_K_XL.gguf", "qwen3 4B Q4_K - Medium", "m-UD-Q4_K_XL", "q4_k_m"),
        ("ggml-model-f16.gguf", "llama 8B F16", "ggml-model", "f16"),
        ("gpt-oss-20b-mxfp4.gguf", "gpt-oss 20B MXFP4 MoE", "gpt-oss-20b", "mxfp4"),
        ("m-new.gguf", "qwen9 1B Q3_X - Odd", "m-new", None),
        ("m-Q4_0.gguf", "llama 7B mostly Q4_0", "m", "q4_0"),
        ("m.gguf", "llama ?B all F32 (guessed)", "m", "f32"),
    ],
)
def test_a_file_type_is_the_one_that_its_name_and_model_type_agree_on(
    tmp_path: Path, name: str, kind: str, model: str, weights: str | None
) -> None:
    record = read(tmp_path, model_filename=name, model_type=kind)
    assert (record.model, record.weights) == (model, weights)


@pytest.mark.parametrize(
    ("given", "hardware", "gpus"),
    [
        ({"gpu_info": "NVIDIA A, NVIDIA A"}, "NVIDIA A", None),
        ({"gpu_info": "NVIDIA A, NVIDIA B"}, "NVIDIA A, NVIDIA B", None),
        ({"gpu_info": "NVIDIA A", "devices": "CUDA0"}, "NVIDIA A", None),
        ({"gpu_info": "", "cpu_info": "AMD Ryzen  "}, "AMD Ryzen", 0),
        ({"gpu_info": "", "cpu_info": ""}, None, None),
    ],
)
def test_hardware_is_the_gpus_else_the_cpu(
    tmp_path: Path, given: dict[str, Any], hardware: str | None, gpus: int | None
) -> None:
    record = read(tmp_path, **given)
    assert (record.hardware, record.gpus) == (hardware, gpus)


def test_json_and_csv_hold_the_same(tmp_path: Path) -> None:
    prompt, generation = records(LlamaBench(), DATA / "llama-bench/sample.csv")
    assert (prompt.figures["prefill_tok_s"], generation.figures["decode_tok_s"]) == (7285.676949, 119.915244)
    assert prompt.model == "Qwen2.5-7B-Instruct"
    assert len(records(LlamaBench(), written(tmp_path, [row(), row(n_prompt=64)]))) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_prompt": 0}, "n_prompt: neither n_prompt nor n_gen"),
        ({"avg_ts": ...}, "avg_ts: it is missing"),
        ({"avg_ts": "fast"}, "avg_ts: this is text, where a number should be"),
        ({"n_gen": -1}, "n_gen: -1 is no measurement"),
        ({"test_time": "yesterday"}, "test_time: 'yesterday' is no time in ISO 8601"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ForeignError) as caught:
        read(tmp_path, **changes)
    assert message in str(caught.value)


def test_its_tables_for_people_are_no_results(tmp_path: Path) -> None:
    path = written(tmp_path, "| model | test | t/s |\n| --- | --- | --- |\n", "bench.md")
    with pytest.raises(ForeignError, match="line 1: this is no JSON"):
        records(LlamaBench(), path)
