"""TensorRT-LLM's adapter against public sources near 1.2: no server of it was ever run here."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import tensorrt_llm_words
from fleetbench.engine.protocol import LaunchError, Said, differences
from fleetbench.engine.tensorrt_llm import TensorRtLlm
from fleetbench.matrix.types import Draft, KvFormat, Parallel, Recipe
from tests.engine.adapters import KV16, command, spec, value

VERSION = "1.2.1"
KV8 = Recipe(name="kv8", weights="nvfp4", activations="nvfp4", kv=KvFormat(k="fp8", v="fp8"))
LOG = """\
[11/24/2026-10:00:00] [TRT-LLM] [I] Found hf_quant_config.json, pre-quantized checkpoint is used.
[11/24/2026-10:00:00] [TRT-LLM] [I] Setting quant_algo=NVFP4 form HF quant config.
[TensorRT-LLM][INFO] [MemUsageChange] Allocated 78.30 GiB for max tokens in paged KV cache (3731744).
[11/24/2026-10:00:40] [TRT-LLM] [I] LLM Args:
model='/models/tiny' tokenizer=None tensor_parallel_size=1 pipeline_parallel_size=1 load_format=<LoadFormat.AUTO: 0> \
kv_cache_config=KvCacheConfig(enable_block_reuse=False, max_tokens=None, dtype='fp8', tokens_per_block=32) \
max_batch_size=4 max_seq_len=512 attn_backend='TRTLLM' stream_interval=1
[11/24/2026-10:00:41] [TRT-LLM] [I] Started
"""


def effective(log: str) -> dict[str, Any]:
    return TensorRtLlm().effective(Said(log=log, answers={"/version": {"version": "1.2.1"}}, version=VERSION))


def test_a_start_has_its_flags_and_a_file_for_the_rest() -> None:
    given = command(TensorRtLlm(), VERSION, recipe=KV8, checkpoint="compressed")
    assert given.argv[:2] == ("trtllm-serve", "/models/tiny")
    assert value(given.argv, "--max_batch_size") == "4"
    assert value(given.argv, "--max_seq_len") == "512"
    assert value(given.argv, "--extra_llm_api_options") == "/launch/options.yaml"
    assert yaml.safe_load(given.files["options.yaml"]) == {
        "kv_cache_config": {"dtype": "fp8", "enable_block_reuse": False},
        "enable_iter_perf_stats": True,
        "return_perf_metrics": True,
        "stream_interval": 1,
    }
    assert given.alias == "tiny"


def test_random_weights_adapters_and_drafts_are_written_to_the_file() -> None:
    recipe = Recipe(
        name="x",
        weights="bf16",
        activations="bf16",
        kv=KV16,
        lora=("/adapters/one",),
        draft=Draft(method="eagle3", model="/models/head", tokens=3),
    )
    told = yaml.safe_load(command(TensorRtLlm(), VERSION, recipe=recipe, dummy=True).files["options.yaml"])
    assert told["load_format"] == "dummy"
    assert told["lora_config"] == {"lora_dir": ["/adapters/one"], "max_loras": 1}
    assert told["speculative_config"] == {
        "decoding_type": "Eagle",
        "max_draft_len": 3,
        "speculative_model_dir": "/models/head",
    }


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"checkpoint": "gguf"}, "no GGUF file"),
        ({"parallel": Parallel(dp=2)}, "one replica"),
        ({"args": ("--quantization", "fp8")}, "has no --quantization"),
        ({"recipe": Recipe(name="x", weights="bf16", kv=KvFormat(k="int8", v="int8"))}, "no cache format int8"),
    ],
)
def test_what_it_lacks_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(LaunchError, match=why):
        command(TensorRtLlm(), VERSION, **changes)


def test_a_start_as_asked_has_no_differences() -> None:
    asked = TensorRtLlm().requested(spec(recipe=KV8, checkpoint="compressed"))
    told = effective(LOG)
    assert differences(asked, told) == ()
    assert (told["weights"], told["activations"]) == ("nvfp4", "nvfp4")
    assert (told["attention_kernel"], told["kv_tok"]) == ("trtllm", 3731744)


def test_block_reuse_that_stayed_on_is_a_difference() -> None:
    asked = TensorRtLlm().requested(spec(recipe=KV8, checkpoint="compressed"))
    found = differences(asked, effective(LOG.replace("enable_block_reuse=False", "enable_block_reuse=True")))
    assert found == ("prefix_caching: asked for False, the engine runs True",)


@given(st.text())
def test_any_log_is_read_without_an_error(log: str) -> None:
    told = tensorrt_llm_words.effective(log, {}, "")
    assert told["tp"] is None or "tensor_parallel_size" in log
