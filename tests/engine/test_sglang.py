"""SGLang's adapter against its own sources: no server of it was ever run here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.engine import sglang_words
from fleetbench.engine.protocol import LaunchError, Said, Span, differences
from fleetbench.engine.sglang import Sglang
from fleetbench.matrix.types import Draft, KvFormat, Parallel, Recipe
from tests.engine.adapters import FP8, KV16, command, spec, value

VERSION = "0.5.23"
LOG = """\
[2026-11-24 10:00:00 TP0] Load weight begin. avail mem=78.61 GB
[2026-11-24 10:00:09 TP0] Load weight end. elapsed=8.72 s, type=LlamaForCausalLM, avail mem=63.52 GB, mem usage=15.0 GB.
[2026-11-24 10:00:09 TP0] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 4096, K size: 0.25 GB, V size: 0.25 GB
[2026-11-24 10:00:10 TP0] Capture target prefill CUDA graph end. elapsed=3.50 s, mem usage=0.10 GB, avail mem=60.00 GB.
[2026-11-24 10:00:12 TP0] Capture target decode CUDA graph end. elapsed=2.25 s, mem usage=0.10 GB, avail mem=59.90 GB.
[2026-11-24 10:00:12 TP0] max_total_num_tokens=4096, chunked_prefill_size=8192, max_prefill_tokens=16384, \
max_running_requests=4, context_len=512, available_gpu_mem=59.90 GB
"""
INFO = {
    "version": "0.5.23",
    "dtype": "bfloat16",
    "quantization": None,
    "kv_cache_dtype": "auto",
    "tp_size": 1,
    "pp_size": 1,
    "dp_size": 1,
    "disable_radix_cache": True,
    "load_format": "auto",
    "random_seed": 7,
    "attention_backend": "fa3",
    "max_total_num_tokens": 4096,
}


def argv(**changes: Any) -> tuple[str, ...]:
    return command(Sglang(), VERSION, **changes).argv


def effective(log: str = LOG, **info: Any) -> dict[str, Any]:
    return Sglang().effective(Said(log=log, answers={"/server_info": {**INFO, **info}}, version=VERSION))


@pytest.mark.parametrize("version", ["0.5.10", VERSION])
def test_over_several_nodes_every_rank_meets_the_first(version: str) -> None:
    span = Span(nodes=2, rank=1, address="10.0.0.1", port=4321, own="10.0.0.2")
    words = command(Sglang(), version, span=span, parallel=Parallel(tp=8, pp=2)).argv
    assert (value(words, "--nnodes"), value(words, "--node-rank")) == ("2", "1")
    assert value(words, "--dist-init-addr") == "10.0.0.1:4321"
    assert "--nnodes" not in argv()


def test_a_plain_start_has_its_flags() -> None:
    words = argv()
    assert words[:3] == ("python3", "-m", "sglang.launch_server")
    assert value(words, "--model-path") == "/models/tiny"
    assert value(words, "--context-length") == "512"
    assert value(words, "--max-running-requests") == "4"
    assert value(words, "--dtype") == "bfloat16"
    assert {"--disable-radix-cache", "--enable-metrics"} <= set(words)
    assert not {"--quantization", "--kv-cache-dtype", "--load-format"} & set(words)


@pytest.mark.parametrize("version", ["0.5.10", "0.5.15.post1", "0.5.20", "0.5.23"])
def test_every_supported_version_takes_the_flags_of_the_fullest_recipe(version: str) -> None:
    recipe = Recipe(
        name="all",
        weights="fp8",
        activations="fp8",
        kv=KvFormat(k="fp8", v="fp8"),
        lora=("/adapters/one",),
        draft=Draft(method="eagle3", model="/models/head", tokens=3),
    )
    words = command(Sglang(), version, recipe=recipe, dummy=True, parallel=Parallel(tp=4, pp=2, dp=2)).argv
    assert value(words, "--kv-cache-dtype") == "fp8_e4m3"
    assert value(words, "--quantization") == "fp8"


def test_what_it_lacks_is_refused() -> None:
    for recipe in (
        Recipe(name="x", weights="int4", activations="bf16", kv=KV16),
        Recipe(name="x", weights="bf16", activations="bf16", kv=KvFormat(k="fp8", v="bf16")),
        Recipe(name="x", weights="bf16", activations="bf16", kv=KvFormat(k="int4", v="int4")),
        Recipe(
            name="x", weights="bf16", activations="bf16", kv=KV16, draft=Draft(method="medusa", model="m", tokens=2)
        ),
    ):
        with pytest.raises(LaunchError) as refused:
            argv(recipe=recipe)
        assert refused.value.cause == "unsupported"


def test_a_start_as_asked_has_no_differences() -> None:
    asked = Sglang().requested(spec())
    assert differences(asked, effective()) == ()
    assert effective()["attention_kernel"] == "fa3"
    assert effective()["kv_tok"] == 4096


def test_a_radix_cache_that_stayed_on_is_a_difference() -> None:
    found = differences(Sglang().requested(spec()), effective(disable_radix_cache=False))
    assert found == ("prefix_caching: asked for False, the engine runs True",)


@pytest.mark.parametrize(
    ("layers", "found"),
    [
        (224, ()),
        (0, ("quantized: asked for True, the engine runs False", "weights: asked for fp8, the engine runs bf16")),
    ],
)
def test_weights_rounded_while_loading_are_counted(layers: int, found: tuple[str, ...]) -> None:
    log = LOG + f"[2026-11-24 10:00:09] Online fp8 quantization: quantized {layers} layers of types: ['LinearBase']\n"
    asked = Sglang().requested(spec(recipe=FP8))
    assert differences(asked, effective(log, quantization="fp8")) == found


@pytest.mark.parametrize(
    ("said", "weights"),
    [("quant=compressed-tensors, ", None), ("quant=fp8, fmt=e4m3, ", "fp8"), ("quant=gptq, bits=4, ", "int4")],
)
def test_a_checkpoint_says_its_method_and_bits_where_it_has_them(said: str, weights: str | None) -> None:
    told = effective(LOG.replace("type=LlamaForCausalLM, ", f"type=LlamaForCausalLM, {said}"))
    assert told["quantized"] is True
    assert told["weights"] == weights


def test_an_fp8_cache_is_read_from_what_was_allocated() -> None:
    assert effective(LOG.replace("torch.bfloat16", "torch.float8_e4m3fn"))["kv_k"] == "fp8"
    assert effective("", kv_cache_dtype="fp8_e5m2")["kv_v"] == "fp8_e5m2"


def test_the_phases_of_a_start_are_read() -> None:
    cold = sglang_words.cold(LOG)
    assert (cold.read_s, cold.load_s, cold.compile_s) == (None, 8.72, 5.75)


@given(st.text(), st.dictionaries(st.sampled_from(sorted(INFO)), st.none() | st.booleans() | st.integers() | st.text()))
def test_any_answer_is_read_without_an_error(log: str, info: dict[str, Any]) -> None:
    found = sglang_words.effective(log, {"/server_info": info, "/v1/models": info}, "")
    assert set(found) == set(effective(LOG))
