from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleetbench.catalog.shapes import Layer, ModelShape

LAYER = Layer(
    attention="full",
    window_tok=None,
    heads=8,
    kv_heads=2,
    k_channels=128,
    v_channels=128,
    state_channels=0,
    linear_params=1000,
    active_params=300,
    other_params=10,
    attention_params=100,
    expert_params=800,
)


def model(*layers: Layer, **changes: Any) -> ModelShape:
    shape = ModelShape(
        architecture="LlamaForCausalLM",
        layers=layers or (LAYER, LAYER),
        hidden=512,
        vocab_tok=32000,
        max_context_tok=4096,
        head_dim=64,
        ffn=2048,
        embed_params=5000,
        head_params=5000,
        final_params=7,
        tied=False,
        experts=8,
        active_experts=2,
        dtype="bf16",
        quantized=None,
        lookup_params=40,
        mtp_params=1_000_000,
    )
    return replace(shape, **changes)


def test_parameters_are_tables_layers_and_what_stands_outside_but_no_prediction_of_several_tokens() -> None:
    assert model().params == 5000 + 5000 + 40 + 7 + 2 * 1010


def test_active_parameters_leave_the_table_out_unless_it_is_the_head() -> None:
    assert model().active_params == 5000 + 7 + 2 * 310
    assert model(head_params=0, tied=True).active_params == 5000 + 7 + 2 * 310


@pytest.mark.parametrize(
    ("heads", "kv_heads", "v_channels", "name"),
    [(8, 8, 512, "mha"), (8, 2, 128, "gqa"), (8, 1, 64, "mqa"), (8, 1, 0, "mla")],
)
def test_attention_is_named_by_how_heads_share_keys(heads: int, kv_heads: int, v_channels: int, name: str) -> None:
    layer = replace(LAYER, heads=heads, kv_heads=kv_heads, v_channels=v_channels)
    assert model(layer).attention == name


def test_attention_is_that_of_the_first_layer_with_a_cache() -> None:
    state = replace(LAYER, attention="linear", k_channels=0, v_channels=0, state_channels=64)
    assert model(state, LAYER).attention == "gqa"
    assert model(state).attention == "linear"


@pytest.mark.parametrize(("part", "count"), [("linear", 2000), ("ffn", 1800), ("experts", 1600)])
def test_quantized_parameters_are_those_of_the_part_that_the_checkpoint_quantizes(part: str, count: int) -> None:
    assert model(quantized="mxfp4", quantized_part=part).quantized_params == count
    assert model(quantized_part=part).quantized_params == 0
