"""What the engines' files say: complete, in known words, and true to what was read in the engines' own sources."""

from __future__ import annotations

import re
from importlib import resources
from itertools import pairwise
from typing import get_args

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from fleetbench.artifact import build, quantize
from fleetbench.catalog import lookup
from fleetbench.catalog.types import Axis, EngineSpec, SupportRule
from fleetbench.matrix.types import Granularity

ENGINES = lookup.engine_names()
GGUF = tuple(
    name
    for name in lookup.format_names("weights")
    if name.startswith(("q", "iq", "tq")) and not name.startswith("quip")
)
CLASSES = {"dense", "moe", "mla"} | {
    shape.architecture for name in lookup.published_names() if (shape := lookup.model_shape(name))
}
OLDER = {"sm75", "sm86"}
"""Architectures that engines speak of and that no kind of this catalog has; a user's own may."""


CONDITIONS = {
    r"dense model|mixtures? of experts|mixture-of-experts|gpt-oss only": ("models",),
    r"groups of": ("group_sizes",),
    r"scale for (a|each) (token|head)|per tensor": ("granularities",),
    r"one format": ("same_kv",),
    r"(?<!weight-)\bonly\b|\bfails\b": ("models", "group_sizes", "granularities", "same_kv", "kv"),
}
"""Words of a condition that prose must not keep to itself, and the fields that could hold it."""
OTHERWISE = {
    ("tensorrt-llm", "per tensor everywhere"): "scales of FP8 weights, which no recipe names",
    ("tensorrt-llm", "in built TensorRT engines only"): "another way to serve, which the verdict stands for",
    ("sglang", "checkpoints of compressed-tensors only since"): "who made the checkpoint, and a patch release",
    ("sglang", "ModelOpt's checkpoints only"): "who made the checkpoint",
}
"""Reasons that speak so of what no field is about: the engine, their words, and what they are about."""


def spec_of(name: str) -> EngineSpec:
    spec = lookup.engine_spec(name)
    assert spec is not None, name
    return spec


def found(
    engine: str,
    hardware: str,
    weights: str,
    activations: str,
    *,
    axis: Axis = "weights",
    method: str = "rtn",
    version: str | None = None,
    model: str = "dense",
    group: int = 128,
) -> SupportRule | None:
    """The first rule that fits, by the definition in types.py; None where the engine or the hardware cannot."""
    spec, gpu = spec_of(engine), lookup.gpu_info(hardware)
    assert gpu is not None, hardware
    at = Version(version or spec.known[0])
    for rule in spec.rules:
        if rule.axis == axis and weights in rule.formats and at in SpecifierSet(rule.versions):
            on_it = not rule.on or {gpu.name, gpu.arch, gpu.vendor} & set(rule.on)
            asked = axis != "weights" or (
                (not rule.activations or activations in rule.activations)
                and (not rule.methods or method in rule.methods)
                and (not rule.models or model in rule.models)
                and (not rule.group_sizes or group in rule.group_sizes)
            )
            if on_it and asked:
                return rule
    return None


def verdict(*args: str, **more: object) -> str | None:
    rule = found(*args, **more)  # type: ignore[arg-type]
    return rule.verdict if rule else None


def cached(engine: str, hardware: str, kv: str, version: str | None = None) -> str | None:
    rule = found(engine, hardware, kv, "", axis="kv", version=version)
    return rule.verdict if rule else None


def test_there_is_a_file_for_every_engine_that_the_issue_names() -> None:
    named = {
        "vllm",
        "sglang",
        "tensorrt-llm",
        "llamacpp",
        "llama-server",
        "transformers",
        "tgi",
        "exllamav3",
        "lmdeploy",
    }
    assert named | {"mlx", "openvino", "endpoint"} <= set(ENGINES)


@pytest.mark.parametrize("engine", ENGINES)
def test_every_name_of_a_rule_is_known(engine: str) -> None:
    kinds = [info for name in lookup.gpu_names() if (info := lookup.gpu_info(name))]
    places = OLDER | {word for info in kinds for word in (info.name, info.arch, info.vendor)}
    for rule in spec_of(engine).rules:
        assert set(rule.formats) <= set(lookup.format_names(rule.axis)), rule
        assert set(rule.activations) <= set(lookup.format_names("activations")), rule
        assert set(rule.methods) <= set(lookup.method_names()), rule
        assert set(rule.on) <= places, rule
        assert set(rule.kv) <= set(lookup.format_names("kv")), rule
        assert set(rule.granularities) <= set(get_args(Granularity)) - {"auto"}, rule
        assert set(rule.models) <= CLASSES, rule
        assert not rule.group_sizes or (rule.axis == "weights" and min(rule.group_sizes) > 0), rule
        assert not (rule.granularities or rule.same_kv) or rule.axis == "kv", rule


@pytest.mark.parametrize("engine", ENGINES)
def test_a_condition_stands_in_a_field_and_not_in_the_reason_alone(engine: str) -> None:
    for rule in spec_of(engine).rules:
        if any(engine == name and words in rule.because for name, words in OTHERWISE):
            continue
        for words, fields in CONDITIONS.items():
            said = re.search(words, rule.because)
            assert not said or any(getattr(rule, name) for name in fields), (said, rule)


def test_every_reason_that_is_let_through_is_still_there() -> None:
    for engine, words in OTHERWISE:
        assert any(words in rule.because for rule in spec_of(engine).rules), (engine, words)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm"])
def test_a_catalog_speaks_of_the_versions_whose_flags_are_recorded(engine: str) -> None:
    """Beyond them `flags.of` knows nothing, so a plan would promise what nobody looked at."""
    recorded = yaml.safe_load((resources.files("fleetbench.engine") / "known_flags" / f"{engine}.yaml").read_text())
    oldest, below = min(map(Version, recorded["versions"])), Version(recorded["below"])
    asked = SpecifierSet(spec_of(engine).versions)
    assert below not in asked
    bounds = {each.operator: Version(each.version) for each in asked}
    assert bounds["<"] == below
    assert bounds[">="].release[:2] == oldest.release[:2]
    assert bounds[">="] <= oldest


@pytest.mark.parametrize("engine", ENGINES)
def test_every_rule_names_its_source_and_every_verdict_but_native_its_reason(engine: str) -> None:
    spec = spec_of(engine)
    assert spec.source.strip()
    for rule in spec.rules:
        assert rule.source.strip(), rule
        assert rule.verdict == "native" or rule.because.strip(), rule


@pytest.mark.parametrize("engine", ENGINES)
def test_versions_looked_at_are_within_those_spoken_of_newest_first(engine: str) -> None:
    spec = spec_of(engine)
    at = [Version(version) for version in spec.known]
    assert at
    assert all(newer > older for newer, older in pairwise(at))
    assert all(version in SpecifierSet(spec.versions) for version in at)


@pytest.mark.parametrize("engine", ENGINES)
def test_no_rule_is_only_for_versions_that_the_file_does_not_speak_of(engine: str) -> None:
    spec = spec_of(engine)
    for rule in spec.rules:
        assert any(Version(version) in SpecifierSet(rule.versions) for version in spec.known), rule


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "endpoint"])
def test_no_rule_stands_behind_one_that_always_fits_first(engine: str) -> None:
    rules = spec_of(engine).rules
    for number, later in enumerate(rules):
        for earlier in rules[:number]:
            assert not covers(earlier, later), f"{later} never decides: {earlier}"


def covers(earlier: SupportRule, later: SupportRule) -> bool:
    """Whether the earlier rule fits wherever the later one does, as far as their words show."""
    lists = (
        (earlier.activations, later.activations),
        (earlier.methods, later.methods),
        (earlier.on, later.on),
        (earlier.models, later.models),
        (earlier.group_sizes, later.group_sizes),
        (earlier.kv, later.kv),
        (earlier.granularities, later.granularities),
    )
    return (
        earlier.axis == later.axis
        and set(later.formats) <= set(earlier.formats)
        and earlier.versions in {"", later.versions}
        and (later.same_kv or not earlier.same_kv)
        and all(not wide or (narrow and set(narrow) <= set(wide)) for wide, narrow in lists)
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_rules_are_for_hardware_of_the_vendors_that_the_engine_has(engine: str) -> None:
    spec = spec_of(engine)
    for name in lookup.gpu_names():
        gpu = lookup.gpu_info(name)
        assert gpu is not None
        for rule in spec.rules:
            aimed = {gpu.name, gpu.arch, gpu.vendor} & set(rule.on)
            assert not aimed or gpu.vendor in spec.vendors, (name, rule)


@pytest.mark.parametrize("engine", [name for name in ENGINES if name != "endpoint"])
def test_an_engine_caches_in_the_16_bits_that_it_computes_in(engine: str) -> None:
    spec = spec_of(engine)
    sixteen = {"bf16", "fp16", "f16"} if spec.sixteen == "model" else {spec.sixteen, "fp16"}
    kept = {name for rule in spec.rules if rule.axis == "kv" for name in rule.formats}
    weights = {name for rule in spec.rules if rule.axis == "weights" for name in rule.formats}
    assert kept & sixteen
    assert weights & sixteen


@pytest.mark.parametrize("engine", ENGINES)
def test_what_auto_activations_mean_has_a_rule(engine: str) -> None:
    spec = spec_of(engine)
    for weights, activations in spec.auto.items():
        rules = [rule for rule in spec.rules if rule.axis == "weights" and weights in rule.formats]
        assert any(not rule.activations or activations in rule.activations for rule in rules), (weights, activations)


@pytest.mark.parametrize("engine", ENGINES)
def test_adapters_are_said_of_formats_that_the_engine_has(engine: str) -> None:
    spec = spec_of(engine)
    weights = {name for rule in spec.rules if rule.axis == "weights" for name in rule.formats}
    assert set(spec.lora or ()) <= weights


# --- requirements, read out of the engines' sources


@pytest.mark.parametrize("hardware", ["b200", "gb200", "b300", "rtx-5090"])
def test_vllm_multiplies_nvfp4_on_blackwell(hardware: str) -> None:
    rule = found("vllm", hardware, "nvfp4", "nvfp4")
    assert rule is not None
    assert (rule.verdict, rule.kernel) == ("native", "nvfp4")


@pytest.mark.parametrize("version", ["0.22.0", "0.31.0", "0.32.0", "0.33.0"])
@pytest.mark.parametrize("hardware", ["h100", "h200"])
def test_vllm_emulates_nvfp4_on_hopper_by_marlin_and_since_0_32_by_humming(hardware: str, version: str) -> None:
    rule = found("vllm", hardware, "nvfp4", "nvfp4", version=version)
    assert rule is not None
    assert rule.verdict == "emulated"
    assert rule.kernel == ("marlin" if Version(version) < Version("0.32") else "humming")


@pytest.mark.parametrize("hardware", ["a100-80g", "l40s", "l4", "rtx-4090"])
def test_vllm_emulates_nvfp4_on_ampere_and_ada_by_marlin(hardware: str) -> None:
    rule = found("vllm", hardware, "nvfp4", "nvfp4")
    assert rule is not None
    assert (rule.verdict, rule.kernel) == ("emulated", "marlin")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("hardware", ["mi300x", "mi325x", "mi350x", "a100-80g", "h100", "h200", "l40s", "rtx-4090"])
def test_nobody_multiplies_nvfp4_by_nvfp4_natively_without_blackwell(engine: str, hardware: str) -> None:
    assert verdict(engine, hardware, "nvfp4", "nvfp4") in {None, "emulated"}


@pytest.mark.parametrize(("engine", "kernel"), [("vllm", "emulation"), ("sglang", "petit")])
def test_nvfp4_checkpoints_run_on_mi300x_without_any_gain(engine: str, kernel: str) -> None:
    rule = found(engine, "mi300x", "nvfp4", "nvfp4")
    assert rule is not None
    assert (rule.verdict, rule.kernel) == ("emulated", kernel)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tgi"])
def test_fp8_is_emulated_on_a100(engine: str) -> None:
    assert verdict(engine, "a100-80g", "fp8", "fp8") == "emulated"


def test_tensorrt_llm_has_no_fp8_on_ampere() -> None:
    assert verdict("tensorrt-llm", "a100-80g", "fp8", "fp8") is None
    assert verdict("tensorrt-llm", "l40s", "fp8", "fp8") == "native"


@pytest.mark.parametrize("hardware", ["h100", "h200", "b200", "l40s", "l4", "rtx-4090", "mi300x", "mi350x"])
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_fp8_is_native_from_ada_and_cdna3_on(engine: str, hardware: str) -> None:
    assert verdict(engine, hardware, "fp8", "fp8") == "native"


@pytest.mark.parametrize("hardware", ["a100-80g", "h100", "b200", "rtx-4090", "rtx-5090", "mi300x"])
@pytest.mark.parametrize("method", ["gptq", "awq", "rtn"])
def test_int4_weights_alone_are_native_in_vllm_everywhere(hardware: str, method: str) -> None:
    rule = found("vllm", hardware, "int4", "bf16", method=method)
    assert rule is not None
    assert rule.verdict == "native"
    assert "weight-only" in rule.because


@pytest.mark.parametrize("method", ["hqq", "aqlm", "quip#", "exl", "bnb", "imatrix"])
def test_vllm_takes_no_int4_of_methods_whose_checkpoints_it_cannot_read(method: str) -> None:
    assert found("vllm", "h100", "int4", "bf16", method=method) is None


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_int8_by_int8_stops_before_blackwell(engine: str) -> None:
    assert verdict(engine, "h100", "int8", "int8") == "native"
    assert verdict(engine, "b200", "int8", "int8") is None


@pytest.mark.parametrize("engine", ["vllm", "sglang", "tensorrt-llm", "exllamav3", "lmdeploy", "mlx", "openvino"])
def test_gguf_is_nothing_for_engines_that_are_handed_none(engine: str) -> None:
    formats = {name for rule in spec_of(engine).rules for name in rule.formats}
    assert not formats & set(GGUF)


def test_nf4_left_vllm_for_a_plugin() -> None:
    assert verdict("vllm", "h100", "nf4", "bf16", method="bnb", version="0.27.0") == "emulated"
    assert verdict("vllm", "h100", "nf4", "bf16", method="bnb", version="0.28.0") is None


def test_mxfp4_is_native_on_mi350x_and_emulated_on_mi300x_in_vllm() -> None:
    assert verdict("vllm", "mi350x", "mxfp4", "mxfp4") == "native"
    assert verdict("vllm", "mi300x", "mxfp4", "mxfp4") == "emulated"
    assert verdict("vllm", "b200", "mxfp4", "mxfp4") == "native"


@pytest.mark.parametrize(
    ("engine", "hardware", "model", "expected"),
    [
        ("vllm", "h100", "dense", "native"),
        ("vllm", "b200", "dense", None),
        ("vllm", "b200", "moe", "native"),
        ("vllm", "mi300x", "moe", "native"),
        ("vllm", "mi300x", "dense", "emulated"),
        ("sglang", "h100", "moe", "experimental"),
        ("sglang", "h100", "dense", None),
        ("tensorrt-llm", "h200", "dense", None),
        ("tensorrt-llm", "h200", "GptOssForCausalLM", "experimental"),
        ("lmdeploy", "h100", "dense", None),
        ("transformers", "h100", "dense", None),
        ("transformers", "h100", "GptOssForCausalLM", "experimental"),
    ],
)
def test_mxfp4_weights_alone_are_for_experts_where_the_sources_say_so(
    engine: str, hardware: str, model: str, expected: str | None
) -> None:
    assert verdict(engine, hardware, "mxfp4", "bf16", model=model) == expected


def test_vllm_goes_from_machete_to_marlin_for_groups_that_machete_lacks() -> None:
    kernels = {
        size: rule and rule.kernel
        for size in (32, 64, 128, 256)
        for rule in [found("vllm", "h100", "int4", "bf16", group=size)]
    }
    assert kernels == {32: "marlin", 64: "machete", 128: "machete", 256: None}
    assert found("vllm", "h100", "int4", "fp8", group=32) is None
    assert verdict("vllm", "h100", "int4", "fp8", group=128) == "native"


def test_sglang_multiplies_mxfp4_by_mxfp4_on_cdna4_only() -> None:
    assert verdict("sglang", "mi350x", "mxfp4", "mxfp4") == "native"
    assert verdict("sglang", "b200", "mxfp4", "mxfp4") is None


def test_what_was_run_on_a_cpu_in_vllm_is_what_the_rules_allow_there() -> None:
    assert verdict("vllm", "cpu", "bf16", "bf16") == "native"
    assert verdict("vllm", "cpu", "int8", "int8") == "native"
    assert verdict("vllm", "cpu", "int4", "bf16", method="gptq") == "native"
    assert verdict("vllm", "local", "fp8", "fp8") == "emulated"
    assert cached("vllm", "local", "fp8") == "native"
    failed = [("int8", "bf16"), ("nvfp4", "nvfp4"), ("nvfp4", "bf16"), ("mxfp4", "mxfp4"), ("mxfp4", "bf16")]
    assert [found("vllm", "cpu", weights, activations) for weights, activations in failed] == [None] * len(failed)


def test_sglang_emulates_nvfp4_on_hopper_in_newer_versions_only() -> None:
    assert verdict("sglang", "h100", "nvfp4", "nvfp4", version="0.5.23") == "emulated"
    assert verdict("sglang", "h100", "nvfp4", "nvfp4", version="0.5.12") is None


@pytest.mark.parametrize("hardware", ["a100-80g", "h100", "b200", "mi300x"])
def test_vllm_keeps_an_fp8_cache_on_every_data_center_gpu(hardware: str) -> None:
    assert cached("vllm", hardware, "fp8") == "native"


def test_an_nvfp4_cache_is_native_on_sm100_and_in_vllm_since_0_32_tried_elsewhere() -> None:
    assert cached("vllm", "b200", "nvfp4") == "native"
    assert cached("vllm", "h100", "nvfp4") == "experimental"
    assert cached("vllm", "h100", "nvfp4", version="0.31.0") is None
    assert cached("sglang", "h100", "nvfp4") is None


def test_fp8_attention_wants_hopper_or_sm100_in_vllm() -> None:
    assert found("vllm", "h100", "fp8", "", axis="attention") is not None
    assert found("vllm", "l40s", "fp8", "", axis="attention") is None
    assert found("vllm", "a100-80g", "fp8", "", axis="attention") is None


@pytest.mark.parametrize("weights", ["q4_k_m", "q8_0", "q2_k", "mxfp4"])
@pytest.mark.parametrize("hardware", ["h100", "mi300x", "apple-m4-max", "cpu"])
def test_llama_server_reads_gguf_on_every_vendor(hardware: str, weights: str) -> None:
    assert verdict("llama-server", hardware, weights, "f16") == "native"


def test_metal_has_no_nvfp4_product() -> None:
    assert verdict("llama-server", "apple-m4-max", "nvfp4", "f16") is None
    assert verdict("mlx", "apple-m4-max", "nvfp4", "bf16") == "native"


def test_the_embedded_engine_takes_what_can_be_made_for_it_and_nothing_else() -> None:
    rules = [rule for rule in spec_of("llamacpp").rules if rule.axis == "weights"]
    made = set(quantize.WEIGHTS) & set(lookup.format_names("weights"))
    assert {name for rule in rules for name in rule.formats} == made
    assert {method for rule in rules for method in rule.methods} <= set(build.METHODS)
    assert {activations for rule in rules for activations in rule.activations} == {"f16"}


@pytest.mark.parametrize("weights", ["iq3_xxs", "iq2_m", "iq2_xs", "iq1_s", "q2_k_s"])
@pytest.mark.parametrize("engine", ["llamacpp", "llama-server"])
def test_types_below_three_bits_need_an_importance_matrix(engine: str, weights: str) -> None:
    assert found(engine, "cpu", weights, "f16", method="rtn") is None
    assert verdict(engine, "cpu", weights, "f16", method="imatrix") == "native"


def test_a_server_that_runs_already_is_not_judged() -> None:
    spec = spec_of("endpoint")
    assert spec.rules == ()
    assert set(spec.vendors) == {"nvidia", "amd", "intel", "apple", "cpu"}
