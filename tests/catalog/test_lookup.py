from __future__ import annotations

import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from fleetbench.catalog import lookup
from fleetbench_collectors.quality import suite

AXES: tuple[lookup.Axis, ...] = ("weights", "activations", "kv", "attention")


def ggml_formats() -> list[str]:
    names = dict.fromkeys((*lookup.format_names("weights"), *lookup.format_names("kv")))
    return [name for name in names if (info := lookup.format_info(name)) and info.ggml]


@pytest.mark.parametrize("name", ggml_formats())
def test_block_sizes_are_those_of_the_gguf_package(name: str) -> None:
    info = lookup.format_info(name)
    assert info is not None
    assert info.ggml is not None
    elements, size = GGML_QUANT_SIZES[GGMLQuantizationType[info.ggml]]
    assert (info.block, info.block_bytes) == (elements, size)
    assert info.bits == size * 8 / elements


def test_what_an_engine_takes_is_in_the_catalog() -> None:
    for name in lookup.engine_names():
        engine = lookup.engine_spec(name)
        assert engine is not None
        assert set(engine.weights) <= set(lookup.format_names("weights"))
        assert set(engine.activations) <= set(lookup.format_names("activations"))
        assert set(engine.kv) <= set(lookup.format_names("kv"))
        assert set(engine.attention) <= set(lookup.format_names("attention"))
        assert set(engine.methods) <= set(lookup.method_names())
        assert set(engine.hardware) <= set(lookup.hardware_names())


def test_what_the_implemented_engine_runs_is_a_gguf_type() -> None:
    engine = lookup.engine_spec("llamacpp")
    assert engine is not None
    assert engine.implemented
    for name in (*engine.weights, *engine.kv):
        info = lookup.format_info(name)
        assert info is not None
        assert info.ggml is not None


def test_a_price_has_a_source_and_a_date() -> None:
    for name in lookup.hardware_names():
        info = lookup.hardware_info(name)
        assert info is not None
        assert info.price_source
        assert (info.price_usd_h is None) == (info.price_date is None)


def test_a_figure_that_no_source_states_is_none_not_zero() -> None:
    mi300x, a100 = lookup.hardware_info("mi300x"), lookup.hardware_info("a100-80g")
    assert mi300x is not None
    assert a100 is not None
    assert mi300x.memory_bytes is None
    assert a100.price_usd_h is None


def test_every_entry_has_a_source() -> None:
    formats = {name for axis in AXES for name in lookup.format_names(axis)}
    found = [
        *map(lookup.format_info, formats),
        *map(lookup.engine_spec, lookup.engine_names()),
        *map(lookup.embedded_model, lookup.model_names()),
        *map(lookup.suite_info, lookup.suite_names()),
    ]
    assert all(entry is not None and entry.source.strip() for entry in found)


def test_a_model_of_random_weights_knows_no_suite() -> None:
    for name in lookup.model_names():
        model = lookup.embedded_model(name)
        assert model is not None
        assert bool(model.suites) != model.random_weights
        assert all(lookup.suite_info(known) for known in model.suites)


def test_the_embedded_suite_is_the_one_that_the_collectors_ask() -> None:
    info = lookup.suite_info(suite.NAME)
    assert info is not None
    assert (info.version, info.max_items) == (str(suite.VERSION), suite.MAX_ITEMS)


def test_an_unknown_name_is_none() -> None:
    assert lookup.format_info("q9_z") is None
    assert lookup.engine_spec("vlm") is None
    assert lookup.hardware_info("h900") is None
    assert lookup.embedded_model("huge") is None
    assert lookup.suite_info("mmlu") is None


@pytest.mark.parametrize(
    ("written", "meant"), [("Q4_K_M", "q4_k"), ("q4k", "q4_k"), ("Q8_0", "q8_0"), ("nvpf4", "nvfp4")]
)
def test_nearest_finds_what_was_probably_meant(written: str, meant: str) -> None:
    assert lookup.nearest(written, lookup.format_names("weights"))[0] == meant


def test_nearest_offers_nothing_for_something_else() -> None:
    assert lookup.nearest("zzzzzzzz", lookup.format_names("weights")) == []
