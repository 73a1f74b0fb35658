from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import llamacpp_words
from fleetbench.engine.protocol import ColdStart

LOG = """\
0.00.010.566 I cmn  common_param: system_info: n_threads = 1 (n_threads_batch = 2) / 2 | CPU : AVX = 1 | REPACK = 1 |
0.00.013.255 I llama_model_loader: - type  f32:    7 tensors
0.00.013.256 I llama_model_loader: - type q4_K:   23 tensors
0.00.021.559 I llama_context: n_batch               = 1024
0.00.021.572 I llama_context: n_ubatch              = 512
0.00.021.598 I llama_context: flash_attn            = enabled
0.00.025.455 I llama_kv_cache: size = 1.22 MiB (512 cells, 3 layers, 2/2 seqs), K (q8_0): 0.80 MiB, V (q4_0): 0.42 MiB
"""
PROPS = {"model_ftype": "Q4_K - Small", "default_generation_settings": {"params": {"seed": 7}}}
SLOTS = [{"id": 0, "n_ctx": 512}, {"id": 1, "n_ctx": 256}]


def test_a_configuration_is_read_from_log_and_endpoints() -> None:
    assert llamacpp_words.effective(LOG, PROPS, SLOTS, "1.2") == {
        "version": "1.2",
        "weights": "q4_k",
        "kept_16bit": 0,
        "kv_k": "q8_0",
        "kv_v": "q4_0",
        "slots": 2,
        "context_tok": 256,
        "threads": 1,
        "prefill_threads": 2,
        "seed": 7,
        "flash_attention": "enabled",
        "batch_tok": 1024,
        "microbatch_tok": 512,
        "file_type": "Q4_K - Small",
        "instruction_sets": "CPU : AVX = 1 | REPACK = 1",
    }


@given(st.text(), st.sampled_from([{}, [], None, "text", 3, {"default_generation_settings": 1}]))
def test_what_the_engine_does_not_say_is_none(log: str, answer: Any) -> None:
    assert set(llamacpp_words.effective(log, answer, answer, None).values()) == {None}
    assert llamacpp_words.cold(log) == ColdStart()


@pytest.mark.parametrize(
    ("types", "file_type", "weights", "kept"),
    [
        ([("f16", 20), ("f32", 7)], "F16", "f16", None),
        ([("bf16", 20), ("f32", 7)], "BF16", "bf16", None),
        ([("f32", 27)], "all F32", "f32", 0),
        ([("f32", 7), ("q4_K", 23)], "Q4_K - Small", "q4_k", 0),
        ([("f32", 7), ("q4_K", 20), ("q6_K", 3)], None, "q4_k+q6_k", 0),
        ([("f32", 7), ("q4_K", 20), ("q6_K", 3)], "Q4_K - Medium", "q4_k_m", 0),
        ([("f32", 7), ("q4_K", 20), ("q6_K", 3)], "Q4_K - Medium (guessed)", "q4_k+q6_k", 0),
        ([("f32", 7), ("q3_K", 20), ("q5_K", 3)], "Q3_K - Large", "q3_k_l", 0),
        ([("f32", 7), ("iq3_s", 20), ("q4_K", 3)], "IQ3_S mix - 3.66 bpw", "iq3_m", 0),
        ([("f32", 7), ("iq2_xxs", 20), ("q2_K", 3)], "IQ2_XXS - 2.0625 bpw", "iq2_xxs", 0),
        ([("f32", 9), ("q8_0", 3), ("iq4_xs", 3)], None, "iq4_xs+q8_0", 0),
        ([("f32", 7), ("q8_0", 20), ("f16", 2)], "Q8_0", "q8_0", 2),
        ([("f32", 7), ("q4_K", 18), ("q6_K", 3), ("f16", 2)], "Q4_K - Medium", "q4_k_m", 2),
    ],
)
def test_weights_are_told_by_their_tensors_and_a_mixture_by_its_file(
    types: list[tuple[str, int]], file_type: str | None, weights: str, kept: int | None
) -> None:
    log = "\n".join(f"llama_model_loader: - type {name:>4}: {count:4} tensors" for name, count in types)
    assert llamacpp_words.weights(log, file_type) == weights
    assert llamacpp_words.kept_16bit(log) == kept


@pytest.mark.parametrize(
    ("log", "layers"),
    [
        ("", None),
        ("load_tensors: CPU_Mapped model buffer size = 1", "none"),
        ("load_tensors: offloaded 33/33 layers to GPU", "all"),
        ("load_tensors: offloaded 0/33 layers to GPU", "none"),
        ("load_tensors: offloaded 20/33 layers to GPU", "20 of 33"),
    ],
)
def test_layers_on_a_gpu_are_counted(log: str, layers: str | None) -> None:
    assert llamacpp_words.gpu_layers(log) == layers


START = """\
0.00.009.510 I srv    load_model: loading model '/m.gguf'
0.00.012.305 I load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
0.00.020.926 I load_tensors:   CPU_Mapped model buffer size =    76.77 MiB
1.02.012.305 I llama_context: constructing llama_context
1.02.512.305 I cmn  common_init_: warming up the model with an empty run - please wait ... (--no-warmup to disable)
1.03.012.405 I srv    load_model: initializing, n_slots = 2, n_ctx_slot = 256, kv_unified = 'false'
"""


def test_phases_are_told_by_stamps_and_mapped_weights_are_not_read_yet() -> None:
    mapped = llamacpp_words.cold(START)
    assert mapped.read_s is None
    assert mapped.load_s == pytest.approx(62.502795)
    assert mapped.compile_s == pytest.approx(0.5001)


def test_weights_that_go_to_a_gpu_are_read_while_they_are_loaded() -> None:
    log = START.replace("1.02.012", "0.00.021.000 I load_tensors:        CUDA0 model buffer size = 9 MiB\n1.02.012", 1)
    loaded = llamacpp_words.cold(log)
    assert loaded.read_s == pytest.approx(62.0)
    assert loaded.load_s == pytest.approx(0.502795)
