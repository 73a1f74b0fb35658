from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from fleetbench.catalog import lookup
from fleetbench.catalog.types import Axis, FormatInfo, MethodInfo, RecipeInfo
from fleetbench.matrix.form import RecipeForm

AXES: tuple[Axis, ...] = ("weights", "activations", "kv", "attention")
INSIDE_ONLY = {"Q8_1", "Q8_K", "I8", "I16", "I32", "I64", "F64"}
"""Types that hold no weights of a served model: activations on their way into a product, indices, tables."""
NOT_KNOWN = {"Q1_0"}
FAMILIES = {
    "q5_k_m": "q5_k",
    "q5_k_s": "q5_k",
    "q4_k_m": "q4_k",
    "q4_k_s": "q4_k",
    "q3_k_l": "q3_k",
    "q3_k_m": "q3_k",
    "q3_k_s": "q3_k",
    "q2_k_s": "q2_k",
    "iq3_m": "iq3_s",
    "iq3_xs": "iq3_xxs",
    "iq2_m": "iq2_s",
}
"""A mixture, and the narrowest type that most of its matrices have."""


def names() -> list[str]:
    return list(dict.fromkeys(name for axis in AXES for name in lookup.format_names(axis)))


def form(name: str) -> FormatInfo:
    info = lookup.format_info(name)
    assert info is not None, name
    return info


def method(name: str) -> MethodInfo:
    info = lookup.method_info(name)
    assert info is not None, name
    return info


def recipe(name: str) -> RecipeInfo:
    info = lookup.recipe_info(name)
    assert info is not None, name
    return info


def written(name: str) -> RecipeForm:
    """The recipe as the reader of a matrix takes it, which refuses what no matrix may say."""
    return RecipeForm.model_validate({"name": name, **recipe(name).spelled})


def formats_of(spelled: RecipeForm) -> Iterator[tuple[Axis, str]]:
    yield "weights", spelled.weights
    yield "activations", spelled.activations
    yield "kv", spelled.kv.k
    yield "kv", spelled.kv.v
    yield "attention", spelled.attention


@pytest.mark.parametrize("name", [name for name in names() if form(name).ggml])
def test_bits_of_a_gguf_type_are_those_of_the_gguf_package(name: str) -> None:
    info = form(name)
    elements, size_bytes = GGML_QUANT_SIZES[GGMLQuantizationType[str(info.ggml)]]
    assert info.bits() == size_bytes * 8 / elements
    assert info.block_bytes == size_bytes
    assert info.block is not None
    assert elements % info.block == 0


def test_every_gguf_type_that_holds_weights_is_known() -> None:
    there = {kind.name for kind in GGML_QUANT_SIZES} - INSIDE_ONLY - NOT_KNOWN
    assert {info.ggml for info in map(form, names()) if info.ggml} == there


@pytest.mark.parametrize(
    ("name", "group_size", "bits"),
    [
        ("fp32", None, 32.0),
        ("bf16", None, 16.0),
        ("fp8", None, 8.0),
        ("mxfp8", None, 8.25),
        ("mxfp6", None, 6.25),
        ("nvfp4", None, 4.5),
        ("mxfp4", None, 4.25),
        ("nf4", None, 4.5),
        ("int8", None, 8.0),
        ("int8", 128, 8.125),
        ("int4", None, 4.0),
        ("int4", 128, 4.125),
        ("int4", 64, 4.25),
        ("int4", 32, 4.5),
        ("int3", 128, 3.125),
        ("int2", 64, 2.25),
        ("int2_kivi", None, 3.0),
        ("ternary", None, 1.58),
        ("exl3_4", None, 4.0),
    ],
)
def test_bits_count_the_scales(name: str, group_size: int | None, bits: float) -> None:
    assert form(name).bits(group_size) == pytest.approx(bits)


def test_a_block_of_its_own_is_not_changed_by_a_group_size() -> None:
    assert form("nvfp4").bits(128) == 4.5


def test_a_mixture_is_wider_than_the_type_it_is_named_after() -> None:
    assert {name for name in names() if form(name).mixed} == set(FAMILIES)
    for name, base in FAMILIES.items():
        assert form(base).bits() < form(name).bits() < form(base).bits() + 1.0, name


def test_mixtures_are_in_the_order_of_their_names() -> None:
    order = ["q2_k_s", "q3_k_s", "q3_k_m", "q3_k_l", "q4_k_s", "q4_k_m", "q5_k_s", "q5_k_m"]
    for narrower, wider in pairwise(order):
        assert form(narrower).bits() < form(wider).bits()


def test_f16_and_fp16_are_one_number_under_two_names() -> None:
    gguf, gpu = form("f16"), form("fp16")
    assert (gguf.bits(), gguf.unit) == (gpu.bits(), "fp16")
    assert (gguf.ggml, gpu.ggml) == ("F16", None)
    assert not gguf.aliases
    assert "f16" not in gpu.aliases


@pytest.mark.parametrize("name", names())
def test_a_format_is_complete(name: str) -> None:
    info = form(name)
    assert info.title.strip()
    assert info.source.strip()
    assert info.axes
    assert info.element_bits > 0
    assert (info.ggml is None) == (info.block_bytes is None)
    assert not (info.mixed and (info.ggml or info.block))
    assert not info.unit or info.unit in names()


def test_weights_without_units_of_their_own_are_multiplied_in_16_bits() -> None:
    narrow = (
        "int4",
        "int3",
        "int2",
        "nf4",
        "ternary",
        "exl2_4",
        "exl3_3",
        "q8_0",
        "q4_k",
        "iq2_xxs",
        "tq1_0",
        "q4_k_m",
    )
    assert {form(name).unit for name in narrow} == {"fp16"}
    assert {form(name).unit or name for name in ("int8", "fp8", "nvfp4", "mxfp4")} == {"int8", "fp8", "nvfp4", "mxfp4"}


def test_an_alias_means_one_format() -> None:
    said = [(alias, name) for name in names() for alias in form(name).aliases]
    assert len({alias for alias, _ in said}) == len(said)
    for alias, name in said:
        assert alias == alias.casefold()
        assert lookup.format_info(alias) is None
        assert lookup.aliases("formats")[alias] == name


@pytest.mark.parametrize(
    ("alias", "name"),
    [("e4m3", "fp8"), ("fp8_e4m3", "fp8"), ("fp6", "fp6_e3m2"), ("mx-fp4", "mxfp4"), ("float16", "fp16")],
)
def test_names_of_the_documents_are_understood(alias: str, name: str) -> None:
    assert lookup.aliases("formats")[alias] == name


def test_a_cache_may_be_named_by_every_type_that_llama_cpp_has_for_it() -> None:
    kv = {info.ggml for info in map(form, lookup.format_names("kv")) if info.ggml}
    assert kv >= {"F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "IQ4_NL", "Q5_0", "Q5_1"}
    assert not kv & {"Q4_K", "Q6_K", "IQ4_XS"}


def test_no_checkpoint_is_kept_as_the_engine_likes_or_in_tf32() -> None:
    assert not {"auto", "tf32", "int2_kivi"} & set(lookup.format_names("weights"))


@pytest.mark.parametrize("name", lookup.method_names())
def test_a_method_is_complete_and_makes_known_weights(name: str) -> None:
    info = method(name)
    assert info.title.strip()
    assert info.source.strip()
    assert info.paper.strip()
    assert info.axes
    assert info.tools or name == "auto"
    assert len(set(info.weights)) == len(info.weights)
    assert set(info.weights) <= set(lookup.format_names("weights"))
    assert not info.weights or "weights" in info.axes


def test_every_weight_format_has_a_method_that_makes_it() -> None:
    made = {weights for name in lookup.method_names() for weights in method(name).weights}
    trained = {"ternary"}
    assert set(lookup.format_names("weights")) - made == trained


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("awq", "nvfp4"),
        ("awq", "fp8"),
        ("gptq", "q4_k"),
        ("gptq", "nf4"),
        ("smoothquant", "int4"),
        ("imatrix", "nvfp4"),
        ("imatrix", "int4"),
        ("mr-gptq", "int4"),
        ("quip#", "int8"),
        ("exl", "int4"),
        ("bnb", "int4"),
        ("rtn", "exl3_4"),
        ("rtn", "iq2_xxs"),
    ],
)
def test_a_method_does_not_claim_what_it_cannot_make(name: str, weights: str) -> None:
    assert weights not in method(name).weights


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("awq", "int4"),
        ("gptq", "nvfp4"),
        ("smoothquant", "int8"),
        ("imatrix", "q4_k_m"),
        ("rtn", "fp8"),
        ("hqq", "int3"),
    ],
)
def test_a_method_makes_what_its_tools_do(name: str, weights: str) -> None:
    assert weights in method(name).weights


def test_kivi_acts_on_the_cache_alone() -> None:
    assert method("kivi").axes == ("kv",)
    assert method("kivi").weights == ()


def test_methods_that_look_at_text_are_told_from_those_that_do_not() -> None:
    blind = {name for name in lookup.method_names() if not method(name).calibrated}
    assert blind == {"auto", "rtn", "quarot", "hqq", "kivi", "bnb"}


@pytest.mark.parametrize("name", lookup.recipe_names())
def test_a_recipe_is_complete_and_names_known_formats(name: str) -> None:
    info, spelled = recipe(name), written(name)
    assert info.workload.strip()
    assert info.source.strip()
    for axis, word in formats_of(spelled):
        assert word in lookup.format_names(axis), (axis, word)


@pytest.mark.parametrize("name", lookup.recipe_names())
def test_a_recipe_does_not_contradict_itself(name: str) -> None:
    spelled = written(name)
    makes = method(spelled.method).weights
    assert not makes or spelled.weights in makes
    assert spelled.group_size is None or (form(spelled.weights).block is None and not form(spelled.weights).mixed)
    assert spelled.scales == "auto" or form(spelled.activations).element_bits < 16


def test_a_recipe_named_like_a_weight_format_has_such_weights() -> None:
    shared = set(lookup.recipe_names()) & set(lookup.format_names("weights"))
    assert {"fp8", "int4", "int8", "nvfp4", "mxfp4", "bf16"} <= shared
    assert all(written(name).weights == name for name in shared)


@pytest.mark.parametrize(
    ("name", "axes"),
    [
        ("int4", {"weights": "int4", "group_size": 128, "method": "rtn"}),
        ("awq", {"weights": "int4", "group_size": 128, "method": "awq"}),
        ("gptq", {"weights": "int4", "group_size": 128, "method": "gptq"}),
        ("fp8", {"weights": "fp8", "activations": "fp8", "scales": "dynamic", "method": "rtn"}),
        ("int8", {"weights": "int8", "activations": "int8"}),
        ("nvfp4", {"weights": "nvfp4", "activations": "nvfp4"}),
        ("mxfp4", {"weights": "mxfp4", "activations": "auto"}),
        ("w8a16", {"weights": "int8", "activations": "bf16"}),
    ],
)
def test_a_short_name_means_what_it_says(name: str, axes: dict[str, Any]) -> None:
    spelled = {"method": "rtn", "activations": "auto", **recipe(name).spelled}
    assert {key: spelled[key] for key in axes} == axes


def test_int4_and_w4a16_are_one_recipe() -> None:
    assert recipe("int4").spelled == recipe("w4a16").spelled


@pytest.mark.parametrize(
    ("name", "weights", "made_by", "activations", "kv"),
    [
        ("chat-16k-h200", "int4", "awq", "fp16", "fp16"),
        ("chat-128k-h200", "int4", "awq", "fp16", "fp8"),
        ("chat-128k-b200", "mxfp4", None, "mxfp4", "fp8"),
        ("batch-h100", "fp8", None, "fp8", "fp8"),
        ("edge-4b", "int4", "awq", "fp16", "fp16"),
        ("edge-4b-gguf", "q4_k_m", None, "f16", "f16"),
        ("agent-bfcl", "int4", "awq", "fp16", "fp16"),
        ("agent-bfcl-kv8", "int4", "awq", "fp16", "fp8"),
    ],
)
def test_the_table_of_the_precision_stack_is_there(
    name: str, weights: str, made_by: str | None, activations: str, kv: str
) -> None:
    spelled = written(name)
    assert (spelled.weights, spelled.activations) == (weights, activations)
    assert (spelled.kv.k, spelled.kv.v) == (kv, kv)
    assert recipe(name).spelled.get("method") == made_by


def test_keys_and_values_are_named_apart_with_what_shares_a_scale() -> None:
    kv = written("kivi").kv
    assert (kv.granularity.k, kv.granularity.v) == ("per_channel", "per_token")
    assert form(kv.k).bits() == 3.0
