"""Which checkpoint an engine needs for a recipe, and what its identity changes with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleetbench.artifact import models
from fleetbench.artifact.kinds import checkpoint_kind, served_kind
from fleetbench.artifact.toolchain import toolchain
from fleetbench.catalog import lookup
from fleetbench.matrix.identity import artifact_id
from fleetbench.matrix.read import recipe_of
from fleetbench.matrix.resolve import resolve
from fleetbench.matrix.types import Calibration, Checkpoint, KvFormat, ModelInfo, ModelSpec, Recipe
from tests.artifact.folders import QWEN, safetensors, write

TEXT = Calibration(path="corpus.txt", sha256="a" * 64)


def model(name: str = "llama-3.1-8b") -> ModelInfo:
    return models.find(ModelSpec(name=name, path=None, measure=("speed",))).info


def recipe(word: str, engine: str = "vllm") -> Recipe:
    """A recipe of the catalog as the engine takes it."""
    mistakes: list[str] = []
    found = recipe_of(word, mistakes)
    assert found is not None, mistakes
    return resolve(found, lookup.engine_spec(engine), "bf16")


@pytest.mark.parametrize(
    ("engine", "word", "kind"),
    [
        ("llamacpp", "q4_k_m", "gguf"),
        ("llama-server", "f16", "gguf"),
        ("llama-server", "mxfp4", "gguf"),
        ("vllm", "bf16", "source"),
        ("vllm", "fp16", "source"),
        ("vllm", "fp32", "source"),
        ("vllm", "fp8", "source"),  # rounded while it is loaded
        ("vllm", "fp8-kv8", "source"),
        ("sglang", "fp8", "source"),
        ("tensorrt-llm", "fp8", "compressed"),
        ("transformers", "fp8", "compressed"),
        ("vllm", "fp8-static", "compressed"),
        ("vllm", "fp8a16", "compressed"),
        ("vllm", "int8", "compressed"),
        ("vllm", "int4", "compressed"),
        ("vllm", "awq", "compressed"),
        ("vllm", "gptq", "compressed"),
        ("vllm", "nvfp4", "compressed"),
        ("vllm", "mxfp4", "compressed"),
        ("endpoint", "awq", "source"),
        ("endpoint", "q4_k_m", "source"),
    ],
)
def test_each_engine_reads_its_own_kind_of_checkpoint(engine: str, word: str, kind: Checkpoint) -> None:
    assert checkpoint_kind(engine, recipe(word, engine), model()) == kind


def test_a_cache_with_calibrated_scales_needs_a_checkpoint_of_its_own() -> None:
    plain = recipe("fp8-kv8")
    assert checkpoint_kind("vllm", replace(plain, calibration=TEXT), model()) == "compressed"
    assert checkpoint_kind("vllm", replace(plain, protect=("lm_head",)), model()) == "compressed"


def test_a_model_that_is_quantized_already_is_its_own_checkpoint_in_that_format_alone(tmp_path: Path) -> None:
    config = {**QWEN, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    weights = safetensors({"w": ("F8_E4M3", (4, 4))})
    folder = write(tmp_path / "fp8", {"config.json": config, "model.safetensors": weights})
    info = models.find(ModelSpec(name="fp8", path=str(folder), measure=("speed",))).info
    assert checkpoint_kind("tensorrt-llm", recipe("fp8", "tensorrt-llm"), info) == "source"
    assert checkpoint_kind("vllm", recipe("int4"), info) == "compressed"


def test_an_engine_is_told_of_a_published_quantized_folder_as_of_one_that_was_compressed(tmp_path: Path) -> None:
    config = {**QWEN, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    files = {"config.json": config, "model.safetensors": safetensors({"w": ("F8_E4M3", (4, 4))})}
    info = models.find(ModelSpec(name="fp8", path=str(write(tmp_path / "fp8", files)), measure=("speed",))).info
    assert served_kind("vllm", recipe("fp8"), info) == "compressed"
    assert served_kind("vllm", recipe("fp8"), model()) == "source"


def test_sixteen_bits_with_a_calibrated_cache_are_a_checkpoint_of_their_own() -> None:
    narrow = replace(recipe("bf16"), kv=KvFormat(k="fp8", v="fp8"))
    assert checkpoint_kind("vllm", narrow, model()) == "source"
    assert checkpoint_kind("vllm", replace(narrow, calibration=TEXT), model()) == "compressed"
    assert checkpoint_kind("vllm", replace(recipe("bf16"), calibration=TEXT), model()) == "source"


def test_a_models_name_is_no_part_of_its_checkpoint() -> None:
    assert identity(recipe("int4")) == identity(replace(recipe("int4"), name="other"))


BASE = replace(recipe("gptq"), calibration=TEXT)
"""W4A16 by GPTQ on a text: every axis of it can be changed."""


def identity(one: Recipe, *, digest: str = "d" * 64, engine: str = "vllm") -> str:
    return artifact_id(digest, one, toolchain(engine))


@pytest.mark.parametrize(
    "changed",
    [
        replace(BASE, weights="int8"),
        replace(BASE, activations="fp8"),
        replace(BASE, scales="static"),
        replace(BASE, method="awq"),
        replace(BASE, group_size=64),
        replace(BASE, protect=("first 2",)),
        replace(BASE, calibration=None),
        replace(BASE, calibration=replace(TEXT, sha256="b" * 64)),
        replace(BASE, calibration=replace(TEXT, samples=16)),
        replace(BASE, calibration=replace(TEXT, sequence_tok=16)),
        replace(BASE, kv=KvFormat(k="fp8", v="fp8")),  # calibrated with the rest
    ],
)
def test_a_checkpoint_changes_with_all_that_determines_its_bytes(changed: Recipe) -> None:
    assert identity(changed) != identity(BASE)


@pytest.mark.parametrize(
    "same",
    [
        replace(BASE, name="other"),
        replace(BASE, calibration=replace(TEXT, path="/elsewhere/corpus.txt")),
        replace(BASE, lora=("adapter",)),
        replace(BASE, attention="fp8"),
    ],
)
def test_a_checkpoint_does_not_change_with_what_leaves_its_bytes_alone(same: Recipe) -> None:
    assert identity(same) == identity(BASE)


def test_the_cache_is_part_of_a_checkpoint_only_where_a_text_gives_it_scales() -> None:
    plain = recipe("int4")
    assert identity(plain) == identity(replace(plain, kv=KvFormat(k="fp8", v="fp8")))


def test_a_checkpoint_changes_with_the_model_and_with_what_makes_it() -> None:
    assert identity(BASE, digest="e" * 64) != identity(BASE)
    assert identity(BASE, engine="llamacpp") != identity(BASE)
    assert identity(BASE, engine="sglang") == identity(BASE)
    assert "llmcompressor" in toolchain("vllm")
    assert "gguf" in toolchain("llamacpp")
