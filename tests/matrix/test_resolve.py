"""`auto`, spellings and defaults: what an engine is asked for, said in full."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.catalog import lookup
from fleetbench.catalog.types import EngineSpec
from fleetbench.matrix.read import recipe_of
from fleetbench.matrix.resolve import resolve, scheme
from fleetbench.matrix.types import KvFormat, Recipe


def engine(name: str) -> EngineSpec:
    spec = lookup.engine_spec(name)
    assert spec is not None
    return spec


def named(word: str) -> Recipe:
    mistakes: list[str] = []
    recipe = recipe_of(word, mistakes)
    assert recipe is not None, mistakes
    return recipe


def resolved(word: str, on: str = "vllm", dtype: str = "bf16") -> Recipe:
    return resolve(named(word), engine(on), dtype)


recipes = st.builds(
    Recipe,
    name=st.just("r"),
    weights=st.sampled_from(lookup.format_names("weights")),
    activations=st.sampled_from(["auto", *lookup.format_names("activations")]),
    kv=st.builds(KvFormat, k=st.sampled_from(["auto", "fp8", "q8_0"]), v=st.sampled_from(["auto", "int4"])),
    group_size=st.sampled_from([None, 64]),
    method=st.sampled_from(["auto", "rtn", "awq"]),
)


@given(recipe=recipes, on=st.sampled_from(lookup.engine_names()), dtype=st.sampled_from(["bf16", "fp16", "fp32"]))
def test_what_is_resolved_says_every_axis_and_stays_as_it_is(recipe: Recipe, on: str, dtype: str) -> None:
    once = resolve(recipe, engine(on), dtype)
    assert "auto" not in {once.weights, once.activations, once.kv.k, once.kv.v}
    assert resolve(once, engine(on), dtype) == once


@given(recipe=recipes, on=st.sampled_from(lookup.engine_names()))
def test_what_a_person_said_is_kept_but_for_its_spelling(recipe: Recipe, on: str) -> None:
    once = resolve(recipe, engine(on), "bf16")
    twins = {"f16": "fp16", "f32": "fp32"}
    for said, kept in (
        (recipe.weights, once.weights),
        (recipe.activations, once.activations),
        (recipe.kv.k, once.kv.k),
        (recipe.kv.v, once.kv.v),
        (recipe.method, once.method),
    ):
        assert said == "auto" or twins.get(said, said) == twins.get(kept, kept)
    assert recipe.group_size in {None, once.group_size}
    assert (once.name, once.protect, once.calibration) == (recipe.name, recipe.protect, recipe.calibration)


def test_sixteen_bits_are_the_models_own_where_the_engine_takes_them() -> None:
    assert resolved("fp8", dtype="fp16").kv == KvFormat(k="fp16", v="fp16")
    assert resolved("int4", dtype="bf16").activations == "bf16"
    assert resolved("fp16", dtype="bf16").activations == "fp16"
    assert resolved("int4", dtype="fp32").activations == "bf16"
    assert resolved("q4_k", on="llamacpp", dtype="bf16").activations == "f16"


def test_one_format_under_two_names_is_spelled_as_the_engine_spells_it() -> None:
    assert resolved("f16", on="vllm").weights == "fp16"
    assert resolved("fp16", on="llamacpp").weights == "f16"
    assert replace(resolved("f16", on="llamacpp"), name="x") == replace(resolved("fp16", on="llamacpp"), name="x")


def test_activations_that_nobody_chose_are_what_the_engine_makes_of_the_weights() -> None:
    bare = Recipe(name="r", weights="fp8")
    assert resolve(bare, engine("vllm"), "bf16").activations == "fp8"
    assert resolve(bare, engine("llama-server"), "bf16").activations == "f16"
    assert resolve(replace(bare, activations="bf16"), engine("vllm"), "bf16").activations == "bf16"


def test_scales_are_dynamic_unless_said_and_only_where_activations_are_narrow() -> None:
    assert resolved("fp8").scales == "dynamic"
    assert resolved("fp8-static").scales == "static"
    assert resolved("int4").scales == "auto"


def test_a_method_that_nobody_named_is_rounding_where_that_makes_the_format() -> None:
    assert resolved("int4").method == "rtn"
    assert resolved("awq").method == "awq"
    assert resolved("q4_k_m", on="llamacpp").method == "rtn"


def test_a_group_that_nobody_named_is_the_usual_one_where_the_format_leaves_it_open() -> None:
    assert resolve(Recipe(name="r", weights="int4"), engine("vllm"), "bf16").group_size == 128
    assert resolved("hqq4").group_size == 64
    for word in ("nvfp4", "mxfp4", "q4_k", "fp8", "int8", "bf16"):
        assert resolved(word).group_size is None, word


def test_granularity_of_the_cache_is_kept() -> None:
    kv = resolved("awq-kv4").kv
    assert (kv.k, kv.k_scales, kv.v_scales) == ("int4", "per_head", "per_head")


def test_an_engine_that_nobody_knows_changes_nothing() -> None:
    recipe = Recipe(name="r", weights="f16")
    assert resolve(recipe, None, "bf16") is recipe


@pytest.mark.parametrize(
    ("word", "on", "said"),
    [
        ("bf16", "vllm", "W16A16"),
        ("fp32", "vllm", "W32A32"),
        ("fp8", "vllm", "W8A8"),
        ("fp8-kv8", "vllm", "W8A8KV8"),
        ("int4", "vllm", "W4A16"),
        ("w4a8", "vllm", "W4A8"),
        ("nvfp4", "vllm", "W4A4"),
        ("nvfp4-kv8", "vllm", "W4A4KV8"),
        ("w4a4-quarot", "vllm", "W4A4KV4"),
        ("kivi", "vllm", "W16A16KV2"),
        ("q8_0", "llamacpp", "W8A16"),
    ],
)
def test_a_recipe_has_the_name_that_people_give_it(word: str, on: str, said: str) -> None:
    assert scheme(resolved(word, on)) == said


def test_keys_and_values_apart_are_said_apart() -> None:
    recipe = resolve(Recipe(name="r", weights="q8_0", kv=KvFormat(k="q8_0", v="q4_0")), engine("llamacpp"), "f16")
    assert scheme(recipe) == "W8A16K8V4"


def test_every_recipe_of_the_catalog_resolves_for_every_engine() -> None:
    for word in lookup.recipe_names():
        for on in lookup.engine_names():
            assert scheme(resolved(word, on)).startswith("W"), (word, on)


def test_what_was_published_in_mxfp4_keeps_wide_activations() -> None:
    spec = lookup.engine_spec("vllm")
    assert spec is not None
    asked = Recipe(name="mxfp4", weights="mxfp4")
    assert resolve(asked, spec, "bf16", "mxfp4").activations == "bf16"
    assert resolve(asked, spec, "bf16").activations == spec.auto["mxfp4"]
