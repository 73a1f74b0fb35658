from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fleetbench.engine.protocol import LaunchError, Span
from fleetbench.engine.vllm import Vllm
from fleetbench.matrix.types import Draft, KvFormat, Parallel, Recipe
from tests.engine.adapters import BF16, FP8, KV16, command, spec, value

VERSION = "0.32.0"


def argv(**changes: Any) -> tuple[str, ...]:
    return command(Vllm(), VERSION, **changes).argv


def test_a_plain_start_says_all_that_a_receipt_asks_back() -> None:
    words = argv()
    assert words[:3] == ("vllm", "serve", "/models/tiny")
    told = {flag: value(words, flag) for flag in words if flag.startswith("--")}
    assert told["--served-model-name"] == "tiny"
    assert told["--host"] == "127.0.0.1"
    assert told["--port"] == "8123"
    assert told["--dtype"] == "bfloat16"
    assert told["--max-model-len"] == "512"
    assert told["--max-num-seqs"] == "4"
    assert told["--tensor-parallel-size"] == "1"
    assert told["--seed"] == "7"
    assert "--no-enable-prefix-caching" in words
    assert not {"--quantization", "--kv-cache-dtype", "--load-format"} & set(words)


@pytest.mark.parametrize("version", ["0.24.0", "0.27.1", "0.30.0", "0.31.0", "0.32.0", "0.33.0"])
def test_every_supported_version_takes_the_flags_of_the_fullest_recipe(version: str) -> None:
    recipe = Recipe(
        name="all",
        weights="fp8",
        activations="fp8",
        kv=KvFormat(k="fp8", v="fp8"),
        lora=("/adapters/one",),
        draft=Draft(method="eagle3", model="/models/head", tokens=3),
    )
    command(Vllm(), version, recipe=recipe, dummy=True, parallel=Parallel(tp=4, pp=2, dp=2))


@pytest.mark.parametrize("version", ["0.22.0", "0.27.1", "0.33.0"])
def test_over_several_nodes_every_rank_meets_the_first_which_alone_has_an_api(version: str) -> None:
    span = Span(nodes=2, rank=0, address="10.0.0.1", port=4321, own="10.0.0.1")
    first, second = (
        command(Vllm(), version, span=one, parallel=Parallel(tp=8, pp=2))
        for one in (span, replace(span, rank=1, own="10.0.0.2"))
    )
    for rank, one in enumerate((first, second)):
        told = [value(one.argv, flag) for flag in ("--nnodes", "--node-rank", "--master-addr", "--master-port")]
        assert told == ["2", str(rank), "10.0.0.1", "4321"]
        assert value(one.argv, "--host") == "127.0.0.1"
    assert ("--headless" in first.argv, "--headless" in second.argv) == (False, True)
    assert (first.env["VLLM_HOST_IP"], second.env["VLLM_HOST_IP"]) == ("10.0.0.1", "10.0.0.2")
    assert not {"--nnodes", "--headless"} & set(argv())


def test_a_version_outside_is_refused_before_the_start() -> None:
    with pytest.raises(LaunchError, match="not supported") as refused:
        command(Vllm(), "0.34.0")
    assert refused.value.cause == "unsupported"


def test_an_argument_that_the_version_lacks_is_refused() -> None:
    with pytest.raises(LaunchError, match=r"0\.31\.0 of it has no --grpc-port") as refused:
        command(Vllm(), "0.31.0", args=("--grpc-port", "3"))
    assert refused.value.cause == "arguments"


def test_more_arguments_come_last_and_whole() -> None:
    assert argv(args=("--enforce-eager", "--compilation-config", '{"mode": 0}; rm -rf /'))[-3:] == (
        "--enforce-eager",
        "--compilation-config",
        '{"mode": 0}; rm -rf /',
    )


def test_fp8_of_own_weights_is_made_while_loading_and_a_checkpoint_of_it_is_not_made_twice() -> None:
    assert value(argv(recipe=FP8), "--quantization") == "fp8_per_channel"
    assert "--quantization" not in argv(recipe=FP8, checkpoint="compressed")


@pytest.mark.parametrize(("version", "way"), [("0.22.0", "fp8"), ("0.23.0", "fp8"), ("0.24.0", "fp8_per_channel")])
def test_fp8_of_own_weights_is_made_as_the_version_can(version: str, way: str) -> None:
    assert value(command(Vllm(), version, recipe=FP8).argv, "--quantization") == way


@pytest.mark.parametrize("weights", ["int4", "nvfp4", "int2"])
def test_weights_that_it_does_not_make_need_a_checkpoint(weights: str) -> None:
    recipe = Recipe(name="x", weights=weights, activations="bf16", kv=KV16)
    assert "--quantization" not in argv(recipe=recipe, checkpoint="compressed")
    with pytest.raises(LaunchError, match=f"does not make {weights}.*prepare a checkpoint"):
        argv(recipe=recipe)


@pytest.mark.parametrize(
    ("kv", "flag"),
    [
        (KvFormat(k="bf16", v="bf16"), None),
        (KvFormat(k="auto", v="auto"), None),
        (KvFormat(k="fp16", v="fp16"), "float16"),
        (KvFormat(k="fp8", v="fp8"), "fp8"),
        (KvFormat(k="fp8", v="fp8", k_scales="per_token", v_scales="per_token"), "fp8_per_token_head"),
        (KvFormat(k="int8", v="int8"), "int8_per_token_head"),
        (KvFormat(k="nvfp4", v="nvfp4"), "nvfp4"),
    ],
    ids=str,
)
def test_cache_formats_have_the_engines_words(kv: KvFormat, flag: str | None) -> None:
    recipe = Recipe(name="x", weights="bf16", activations="bf16", kv=kv)
    assert value(argv(recipe=recipe), "--kv-cache-dtype") == flag


@pytest.mark.parametrize(
    ("kv", "why"),
    [
        (KvFormat(k="fp8", v="bf16"), "one format for keys and values, not k=fp8 v=bf16"),
        (KvFormat(k="q8_0", v="q8_0"), "no cache format q8_0"),
        (KvFormat(k="fp8", v="fp8", k_scales="per_channel", v_scales="per_channel"), "no cache format fp8/per_channel"),
    ],
    ids=str,
)
def test_a_cache_format_that_it_lacks_is_refused(kv: KvFormat, why: str) -> None:
    with pytest.raises(LaunchError, match=why) as refused:
        argv(recipe=Recipe(name="x", weights="bf16", activations="bf16", kv=kv))
    assert refused.value.cause == "unsupported"


def test_fp8_attention_comes_with_an_fp8_cache_only() -> None:
    recipe = Recipe(name="x", weights="bf16", activations="bf16", kv=KV16, attention="fp8")
    with pytest.raises(LaunchError, match="FP8 with an FP8 cache only"):
        argv(recipe=recipe)


def test_replicas_share_the_slots() -> None:
    words = argv(parallel=Parallel(tp=2, pp=2, dp=3), slots=8)
    assert value(words, "--max-num-seqs") == "3"
    assert value(words, "--pipeline-parallel-size") == "2"
    assert value(words, "--data-parallel-size") == "3"


def test_adapters_are_named_by_their_folders_and_never_twice() -> None:
    recipe = Recipe(name="x", weights="bf16", activations="bf16", kv=KV16, lora=("/a/style", "/b/style"))
    words = argv(recipe=recipe)
    assert words[words.index("--lora-modules") + 1 :][:2] == ("style=/a/style", "style-1=/b/style")
    assert Vllm().requested(spec(recipe=recipe))["lora"] == ["style", "style-1"]


def test_a_draft_is_one_json_value() -> None:
    recipe = Recipe(
        name="x",
        weights="bf16",
        activations="bf16",
        kv=KV16,
        draft=Draft(method="model", model="/models/small", tokens=4),
    )
    assert json.loads(value(argv(recipe=recipe), "--speculative-config") or "") == {
        "method": "draft_model",
        "model": "/models/small",
        "num_speculative_tokens": 4,
    }


def test_nothing_is_fetched_or_reported_but_a_draft_of_the_hub() -> None:
    env = command(Vllm(), VERSION).env
    assert (env["HF_HUB_OFFLINE"], env["VLLM_NO_USAGE_STATS"]) == ("1", "1")
    hub = Recipe(
        name="x", weights="bf16", activations="bf16", kv=KV16, draft=Draft(method="eagle", model="org/head", tokens=1)
    )
    assert "HF_HUB_OFFLINE" not in command(Vllm(), VERSION, recipe=hub).env


@pytest.mark.parametrize(("hardware", "threads"), [("cpu", "3"), ("local", "3"), ("h100", None)])
def test_threads_and_cache_room_are_set_on_cpus_alone(hardware: str, threads: str | None) -> None:
    env = command(Vllm(), VERSION, hardware=hardware).env
    assert env.get("OMP_NUM_THREADS") == threads
    assert ("VLLM_CPU_KVCACHE_SPACE" in env) is (threads is not None)


def test_what_is_asked_back_follows_what_the_engine_can_say() -> None:
    asked = Vllm().requested(spec(kernel="gemm16"))
    assert asked == {
        "quantized": False,
        "weights": "bf16",
        "activations": "bf16",
        "kv_k": "bf16",
        "kv_v": "bf16",
        "context_tok": 512,
        "slots": 4,
        "tp": 1,
        "pp": 1,
        "dp": 1,
        "prefix_caching": False,
        "dummy": False,
        "seed": 7,
        "gemm_kernel": "gemm16",
    }


@pytest.mark.parametrize(
    ("weights", "activations", "kernel", "asked"),
    [
        ("fp8", "fp8", "fp8", {"weights": "fp8", "activations": "fp8"}),
        ("fp8", "fp8", "marlin", {"weights": "fp8"}),
        ("int4", "bf16", "machete", {"weights": "int4", "activations": "bf16"}),
        ("int8", "int8", "int8", {"weights": "int8", "activations": "int8"}),
        ("f16", "f16", None, {"weights": "fp16", "activations": "fp16"}),
    ],
)
def test_formats_of_a_checkpoint_are_asked_back_as_far_as_they_are_said(
    weights: str, activations: str, kernel: str | None, asked: dict[str, str]
) -> None:
    recipe = Recipe(name="x", weights=weights, activations=activations, kv=KV16)
    found = Vllm().requested(spec(recipe=recipe, checkpoint="compressed", kernel=kernel))
    assert {name: found[name] for name in ("weights", "activations") if name in found} == asked
    assert found["quantized"] is (weights != "f16")


def test_integers_that_it_makes_while_loading_are_asked_back_as_quantized_alone() -> None:
    asked = Vllm().requested(spec(recipe=Recipe(name="x", weights="int8", activations="bf16", kv=KV16)))
    assert asked["quantized"] is True
    assert "weights" not in asked


def test_arguments_that_choose_a_backend_or_quantize_are_asked_back() -> None:
    asked = Vllm().requested(spec(args=("--attention-backend=FLASHINFER", "-q", "fp8"), recipe=BF16))
    assert asked["attention_kernel"] == "flashinfer"
    assert asked["quantized"] is True
    assert "weights" not in asked
