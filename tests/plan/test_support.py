"""What the catalog says of one format for a model: the condition that failed, and whose fault it is."""

from __future__ import annotations

import pytest

from fleetbench.catalog import lookup
from fleetbench.catalog.types import Axis
from fleetbench.matrix.types import KvFormat, ModelInfo, Recipe
from fleetbench.plan.support import Support, support


def model(name: str) -> ModelInfo:
    shape = lookup.model_shape(name)
    assert shape is not None
    return ModelInfo(
        name=name,
        digest="d" * 64,
        max_context_tok=shape.max_context_tok,
        vocab_tok=shape.vocab_tok,
        params=shape.params,
        random_weights=False,
        suites=(),
        shape=shape,
    )


def said(
    engine: str,
    hardware: str,
    weights: str,
    activations: str = "bf16",
    *,
    axis: Axis = "weights",
    name: str | None = None,
    of: str = "llama-3.1-70b",
    method: str = "rtn",
    group: int | None = None,
    kv: KvFormat | None = None,
    version: str | None = None,
) -> Support:
    spec, gpu = lookup.engine_spec(engine), lookup.gpu_info(hardware)
    assert spec is not None
    assert gpu is not None
    recipe = Recipe(
        name="x",
        weights=weights,
        activations=activations,
        method=method,
        group_size=group,
        kv=kv or KvFormat(k="bf16", v="bf16"),
    )
    return support(
        spec=spec,
        version=version or spec.known[0],
        gpu=gpu,
        axis=axis,
        name=name or weights,
        recipe=recipe,
        model=model(of),
    )


def cached(engine: str, hardware: str, kv: KvFormat) -> Support:
    return said(engine, hardware, "bf16", axis="kv", name=kv.k, kv=kv)


@pytest.mark.parametrize(
    ("engine", "hardware", "runs", "wanted"),
    [
        ("tensorrt-llm", "h200", "gpt-oss-120b", "GptOssForCausalLM only"),
        ("sglang", "h100", "qwen3-30b-a3b", "mixtures of experts only"),
        ("vllm", "b200", "gpt-oss-120b", "mixtures of experts only"),
        ("lmdeploy", "h100", "gpt-oss-20b", "GptOssForCausalLM only"),
        ("transformers", "h100", "gpt-oss-20b", "GptOssForCausalLM only"),
    ],
)
def test_a_dense_model_is_refused_where_only_experts_run(engine: str, hardware: str, runs: str, wanted: str) -> None:
    found = said(engine, hardware, "mxfp4")
    assert (found.rule, found.lack) == (None, "engine")
    assert "MXFP4 weights with BF16 activations" in found.sentence
    assert wanted in found.sentence
    assert "llama-3.1-70b is dense" in found.sentence
    assert said(engine, hardware, "mxfp4", of=runs).rule is not None


def test_a_model_runs_by_the_rule_for_its_kind() -> None:
    dense, experts = (said("vllm", "mi300x", "mxfp4", of=name).rule for name in ("llama-3.1-70b", "gpt-oss-120b"))
    assert dense is not None
    assert experts is not None
    assert (dense.verdict, experts.verdict) == ("emulated", "native")


def test_groups_that_no_kernel_takes_are_refused_with_those_that_one_does() -> None:
    found = said("vllm", "h100", "int4", "fp8", group=32)
    assert (found.rule, found.lack) == (None, "engine")
    assert "in groups of 128 only, not with groups of 32" in found.sentence
    assert said("vllm", "h100", "int4", "fp8", group=128).rule is not None
    assert "groups of 32, 128 only" in said("lmdeploy", "h100", "int4", group=64).sentence


def test_keys_and_values_of_two_formats_are_refused_where_there_is_one() -> None:
    apart = KvFormat(k="q8_0", v="q4_0")
    metal = cached("llama-server", "apple-m4-max", apart)
    assert (metal.rule, metal.lack) == (None, "engine")
    assert "not keys in q8_0 and values in q4_0" in metal.sentence
    assert cached("llama-server", "rtx-4090", apart).rule is not None
    assert cached("llama-server", "apple-m4-max", KvFormat(k="q8_0", v="q8_0")).rule is not None
    assert cached("vllm", "h100", KvFormat(k="fp8", v="bf16")).rule is None


def test_scales_of_a_cache_decide_its_rule() -> None:
    def verdict(hardware: str, scales: str) -> str | None:
        rule = cached("vllm", hardware, KvFormat(k="fp8", v="fp8", k_scales=scales, v_scales=scales)).rule  # type: ignore[arg-type]
        return rule.verdict if rule else None

    named = ("auto", "per_tensor", "per_head", "per_token", "per_channel")
    assert [verdict("h100", name) for name in named] == ["native", "native", "experimental", "experimental", None]
    assert [verdict("a100-80g", name) for name in named] == ["native", "native", None, None, None]
    refused = cached("sglang", "h100", KvFormat(k="fp8", v="fp8", k_scales="per_head", v_scales="per_head"))
    assert "FP8 keys and values with scales per_tensor only, not per_head" in refused.sentence


def test_fp8_attention_comes_with_an_fp8_cache() -> None:
    wide, narrow = KvFormat(k="bf16", v="bf16"), KvFormat(k="fp8", v="fp8")
    assert "KV cache in fp8 only" in said("vllm", "h100", "fp8", "fp8", axis="attention", kv=wide).sentence
    assert said("vllm", "h100", "fp8", "fp8", axis="attention", kv=narrow).rule is not None


@pytest.mark.parametrize(
    ("engine", "hardware", "weights", "activations", "lack"),
    [
        ("vllm", "b200", "int8", "int8", "engine"),
        ("vllm", "b300", "int8", "int8", "hardware"),
        ("tensorrt-llm", "b200", "int4", "bf16", "engine"),
        ("tensorrt-llm", "h100", "nvfp4", "nvfp4", "hardware"),
        ("tensorrt-llm", "a100-80g", "fp8", "fp8", "hardware"),
        ("vllm", "cpu", "nvfp4", "bf16", "engine"),
        ("vllm", "apple-m4-max", "int4", "bf16", "engine"),
    ],
)
def test_the_hardware_is_at_fault_where_it_lacks_the_units(
    engine: str, hardware: str, weights: str, activations: str, lack: str
) -> None:
    found = said(engine, hardware, weights, activations, method="gptq" if weights == "int4" else "rtn", group=128)
    assert (found.rule, found.lack) == (None, lack)
    assert hardware in found.sentence


def test_what_an_engine_lacks_on_a_gpu_is_said_with_activations_where_else_and_why() -> None:
    sentence = said("vllm", "b200", "int8", "int8").sentence
    assert sentence.startswith("vLLM has no INT8 weights with INT8 activations on b200, it has them on ")
    assert "h100" in sentence
    assert "not on Blackwell, though it has INT8 units" in sentence


def test_only_methods_of_the_rules_that_fit_otherwise_are_named() -> None:
    sentence = said("tensorrt-llm", "h100", "int4", "fp8", group=128).sentence
    assert sentence == "TensorRT-LLM takes INT4 weights with FP8 activations made by awq, gptq, not by rtn"
