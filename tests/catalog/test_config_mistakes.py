from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.catalog import config_json
from fleetbench.catalog.config_json import ConfigError
from tests.catalog.configs_read import CONFIGS, changed, read


def mistakes(config: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        config_json.parse(config)
    return caught.value.clauses


@pytest.mark.parametrize(
    ("config", "clause"),
    [
        (changed(num_hidden_layers=...), "num_hidden_layers is missing"),
        (changed(hidden_size="a"), "hidden_size is 'a', not a whole number"),
        (changed(hidden_size=True), "hidden_size is true, not a whole number"),
        (changed(hidden_size=4096.0), "hidden_size is 4096.0, not a whole number"),
        (changed(hidden_size=-1), "hidden_size is -1, not from 1 to 16777216"),
        (changed(hidden_size=0), "hidden_size is 0, not from 1 to 16777216"),
        (changed(vocab_size=10**5000), "vocab_size is beyond 2^64, not from 1 to 16777216"),
        (changed(intermediate_size={"a": []}), "intermediate_size is an object, not a whole number"),
        (changed(vocab_size=[1, 2]), "vocab_size is a list, not a whole number"),
        (changed(num_hidden_layers=10_001), "num_hidden_layers is 10001, not from 1 to 10000"),
        (changed(num_attention_heads=30), "hidden_size 4096 is no multiple of num_attention_heads 30"),
        (changed(num_attention_heads=30), "num_attention_heads 30 is no multiple of num_key_value_heads 8"),
        (changed(num_key_value_heads=64), "num_attention_heads 32 is no multiple of num_key_value_heads 64"),
        (changed(tie_word_embeddings="no"), "tie_word_embeddings is 'no', neither true nor false"),
        (changed(attention_bias=1), "attention_bias is 1, neither true nor false"),
        (changed(torch_dtype="float128"), "torch_dtype is 'float128', none of bfloat16"),
        (changed(architectures="LlamaForCausalLM"), "architectures is 'LlamaForCausalLM', not a list of"),
        (changed(model_type=7), "model_type is 7, not a word"),
        (changed(layer_types=["full_attention"]), "layer_types has 1 entries for 4 layers"),
        (
            changed(layer_types=["full_attention"] * 3 + ["magic"]),
            "layer_types names 'magic', which fleetbench does not know",
        ),
        (changed(layer_types=["sliding_attention"] * 4), "sliding_window is missing"),
        (changed(kv_lora_rank=512, qk_nope_head_dim=128, v_head_dim=128), "qk_rope_head_dim is missing"),
        (changed(model_type="deepseek_v3", qk_nope_head_dim=128, num_experts=None), "kv_lora_rank is missing"),
        (changed(model_type="mixtral"), "num_experts is missing"),
        (changed(num_experts_per_tok=2), "num_experts is missing"),
        (changed(num_local_experts=8), "num_experts_per_tok is missing"),
        (changed(num_local_experts=8, num_experts_per_tok=9), "num_experts_per_tok 9 is more than num_local_experts 8"),
        (changed(num_experts=5000, num_experts_per_tok=1), "num_experts is 5000, not from 0 to 4096"),
        (changed(model_type="qwen3_moe", num_experts=8, num_experts_per_tok=2), "moe_intermediate_size is missing"),
        (changed(quantization_config="fp8"), "quantization_config is 'fp8', not an object"),
        (changed(quantization_config={}), "quantization_config.quant_method is missing"),
        (
            changed(quantization_config={"quant_method": "gptq", "bits": 40}),
            "quantization_config.bits is 40, not from 1 to 8",
        ),
        (changed(rope_scaling={"type": "yarn", "factor": -4}), "rope_scaling.factor is -4, not from 1 to"),
        (changed(block_configs=[]), "block_configs is a list, not a list of 1 to 10000 objects"),
        (changed(block_configs=[{"attention": {}, "ffn": {}}]), "block_configs has 1 entries for 4 layers"),
        (changed(block_configs=[{}]), "block_configs[0] lacks attention or ffn"),
        (changed(model_type="bert"), "model_type 'bert' is no decoder-only language model"),
        (changed(model_type="rwkv"), "model_type 'rwkv' has layers that fleetbench does not know how to count"),
        (
            changed(architectures=["LlamaForSequenceClassification"]),
            "architectures names 'LlamaForSequenceClassification'",
        ),
        (changed(is_encoder_decoder=True), "is_encoder_decoder is true"),
        ({"text_config": [1]}, "text_config is a list, not an object"),
        ([], "config.json is a list, not an object"),
        (None, "config.json is null, not an object"),
    ],
)
def test_what_is_wrong_is_named_by_its_key(config: Any, clause: str) -> None:
    assert any(found.startswith(clause) for found in mistakes(config)), mistakes(config)


def test_every_mistake_is_named_at_once() -> None:
    config = changed(hidden_size=None, vocab_size="big", num_key_value_heads=5, torch_dtype=3, tie_word_embeddings=[])
    found = mistakes(config)
    for key in ("hidden_size", "vocab_size", "num_key_value_heads", "torch_dtype", "tie_word_embeddings"):
        assert any(key in clause for clause in found), key


def test_a_missing_key_brings_no_second_complaint() -> None:
    assert mistakes(changed(hidden_size=...)) == ("hidden_size is missing",)


def test_an_error_survives_pickling() -> None:
    error = ConfigError(("a is missing", "b is 0"))
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert copy.clauses == error.clauses
    assert str(copy) == "a is missing; b is 0"


NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KNOWN = sorted({key for path in CONFIGS.glob("*.json") for key in json.loads(path.read_text(encoding="utf-8"))})


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(path.stem for path in CONFIGS.glob("*.json"))),
    changes=st.dictionaries(st.sampled_from(KNOWN), NONSENSE, min_size=1, max_size=4),
)
def test_nonsense_ends_in_a_config_error_or_a_shape(name: str, changes: dict[str, Any]) -> None:
    clauses: tuple[str, ...] = ()
    shape = None
    try:
        shape = config_json.parse({**read(name), **changes})
    except ConfigError as error:
        clauses = error.clauses
    assert (shape is None) == bool(clauses)
    assert all(clause and "\n" not in clause for clause in clauses)
    assert shape is None or shape.params >= shape.active_params > 0


@settings(max_examples=200, deadline=None)
@given(NONSENSE)
def test_anything_but_a_config_is_refused(value: Any) -> None:
    assert mistakes(value)
