from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import llamacpp_words

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


@given(st.text())
def test_what_the_engine_does_not_say_is_none(log: str) -> None:
    assert set(llamacpp_words.effective(log, {}, [], None).values()) == {None}


@pytest.mark.parametrize(
    ("types", "weights"),
    [
        ([("f16", 20), ("f32", 7)], "f16"),
        ([("f32", 27)], "f32"),
        ([("f32", 7), ("q4_K", 20), ("q6_K", 3)], "q4_k+q6_k"),
        ([("f32", 9), ("q8_0", 3), ("iq4_xs", 3)], "iq4_xs+q8_0"),
    ],
)
def test_weights_are_told_by_their_tensors(types: list[tuple[str, int]], weights: str) -> None:
    log = "\n".join(f"llama_model_loader: - type {name:>4}: {count:4} tensors" for name, count in types)
    assert llamacpp_words.weights(log) == weights
