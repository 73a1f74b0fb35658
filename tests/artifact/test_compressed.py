from __future__ import annotations

import itertools
from typing import Any

import pytest

from fleetbench.artifact.compressed import Scheme, ignored, is_ignored, scheme
from fleetbench.artifact.types import ArtifactError
from fleetbench.catalog import lookup
from fleetbench.matrix.types import Calibration, KvFormat, Recipe

TEXT = Calibration(path="corpus.txt")
FP8_KV = KvFormat(k="fp8", v="fp8")
PROJECTION = "model.layers.{}.self_attn.q_proj"


def ask(**axes: Any) -> Scheme:
    return scheme(Recipe(name="r", **axes))


@pytest.mark.parametrize(
    ("axes", "preset", "form"),
    [
        ({"weights": "fp8"}, "FP8_DYNAMIC", "float-quantized"),
        (
            {"weights": "fp8", "activations": "fp8", "scales": "dynamic", "group_size": 128},
            "FP8_BLOCK",
            "float-quantized",
        ),
        ({"weights": "fp8", "scales": "static", "calibration": TEXT}, "FP8", "float-quantized"),
        ({"weights": "fp8", "activations": "bf16"}, "FP8_DYNAMIC", "naive-quantized"),
        ({"weights": "int8", "activations": "int8"}, "W8A8", "int-quantized"),
        ({"weights": "int8", "activations": "fp16"}, "W8A16", "pack-quantized"),
        ({"weights": "int4"}, "W4A16", "pack-quantized"),
        ({"weights": "int4", "method": "gptq", "calibration": TEXT}, "W4A16", "pack-quantized"),
        ({"weights": "int4", "method": "awq", "calibration": TEXT}, "W4A16_ASYM", "pack-quantized"),
        ({"weights": "int4", "activations": "fp8"}, "W4AFP8", "pack-quantized"),
        ({"weights": "nvfp4", "scales": "dynamic", "calibration": TEXT}, "NVFP4", "nvfp4-pack-quantized"),
        ({"weights": "nvfp4", "activations": "bf16"}, "NVFP4A16", "nvfp4-pack-quantized"),
        ({"weights": "mxfp4"}, "MXFP4", "mxfp4-pack-quantized"),
        ({"weights": "bf16", "kv": FP8_KV, "calibration": TEXT}, None, "dense"),
    ],
)
def test_a_recipe_becomes_the_tools_scheme(axes: dict[str, Any], preset: str | None, form: str) -> None:
    made = ask(**axes)
    assert (made.preset, made.form) == (preset, form)


def test_static_int8_activations_share_one_scale_a_tensor() -> None:
    inputs = ask(weights="int8", scales="static", calibration=TEXT).inputs
    assert inputs is not None
    assert (inputs.kind, inputs.strategy, inputs.dynamic) == ("int", "tensor", False)


@pytest.mark.parametrize(("group", "strategy"), [(None, "channel"), (64, "group")])
def test_int8_weights_alone_have_a_scale_a_channel_unless_grouped(group: int | None, strategy: str) -> None:
    weights = ask(weights="int8", activations="bf16", group_size=group).weights
    assert weights is not None
    assert (weights.strategy, weights.group_size) == (strategy, group)


def test_int4_groups_are_128_unless_said() -> None:
    sizes = [w.group_size for g in (None, 32) if (w := ask(weights="int4", group_size=g).weights)]
    assert sizes == [128, 32]


@pytest.mark.parametrize(
    ("axes", "why"),
    [
        ({"weights": "nvfp4", "method": "awq"}, "nvfp4 by awq contradicts itself: awq makes int4 weights"),
        ({"weights": "int4", "activations": "int8", "method": "awq"}, "awq leaves activations in 16 bits"),
        ({"weights": "int8", "activations": "bf16", "method": "smoothquant"}, "smoothquant is for narrow activations"),
        (
            {"weights": "int4", "method": "hqq"},
            "not asked for method 'hqq' here .there are rtn, gptq, awq, smoothquant",
        ),
        ({"weights": "q4_k"}, "makes no q4_k weights .there are fp8, int8, int4"),
        ({"weights": "int8", "activations": "fp8"}, "no int8 weights with fp8 activations .there are int8, 16 bits"),
        ({"weights": "mxfp4", "scales": "static"}, "write `scales: dynamic`"),
        ({"weights": "int4", "scales": "static"}, "activations of 16 bits have no scales"),
        ({"weights": "nvfp4", "group_size": 32}, "group_size 32 does not fit nvfp4: 16 weights share a scale"),
        ({"weights": "fp8", "group_size": 64}, "group_size 64 does not fit fp8: .*128 x 128"),
        ({"weights": "bf16"}, "there is nothing to make"),
        (
            {"weights": "int4", "kv": KvFormat(k="fp8", v="auto", k_scales="per_tensor")},
            "one format for keys and values",
        ),
        (
            {"weights": "int4", "kv": KvFormat(k="int8", v="int8", k_scales="per_head", v_scales="per_head")},
            "FP8 caches",
        ),
    ],
)
def test_what_cannot_be_made_is_one_sentence(axes: dict[str, Any], why: str) -> None:
    with pytest.raises(ArtifactError, match=why) as refusal:
        ask(**axes)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "axes",
    [
        {"weights": "int4", "method": "gptq"},
        {"weights": "int4", "method": "awq"},
        {"weights": "int8", "method": "smoothquant"},
        {"weights": "fp8", "scales": "static"},
        {"weights": "int8", "scales": "static"},
        {"weights": "nvfp4"},
        {"weights": "int4", "kv": KvFormat(k="fp8", v="fp8", k_scales="per_tensor", v_scales="per_tensor")},
    ],
)
def test_what_looks_at_a_text_is_refused_without_one_and_says_how_to_give_it(axes: dict[str, Any]) -> None:
    with pytest.raises(ArtifactError, match=r"add `calibration: \{path: corpus.txt\}`"):
        ask(**axes)
    assert ask(**axes, calibration=TEXT).calibrated


@pytest.mark.parametrize(
    "axes", [{"weights": "fp8"}, {"weights": "int4"}, {"weights": "mxfp4"}, {"weights": "nvfp4", "activations": "bf16"}]
)
def test_a_text_that_nothing_looks_at_is_not_read(axes: dict[str, Any]) -> None:
    assert not ask(**axes, calibration=TEXT).calibrated


@pytest.mark.parametrize(
    ("kv", "text", "strategy"),
    [
        (FP8_KV, None, None),
        (FP8_KV, TEXT, "tensor"),
        (KvFormat(k="fp8", v="fp8", k_scales="per_head", v_scales="per_head"), TEXT, "attn_head"),
        (KvFormat(k="int8", v="int8"), TEXT, None),
        (KvFormat(k="fp8", v="auto"), TEXT, None),
        (KvFormat(k="bf16", v="auto"), TEXT, None),
    ],
)
def test_the_cache_has_scales_in_the_checkpoint_only_where_a_text_gives_them(
    kv: KvFormat, text: Calibration | None, strategy: str | None
) -> None:
    made = ask(weights="int4", kv=kv, calibration=text).kv
    assert (made.strategy if made else None) == strategy


def test_every_combination_of_the_catalog_is_a_scheme_or_a_sentence() -> None:
    made, refused = [], []
    axes = (lookup.format_names("weights"), lookup.format_names("activations"), lookup.method_names())
    for weights, activations, method in itertools.product(*axes):
        try:
            made.append(ask(weights=weights, activations=activations, method=method, calibration=TEXT))
        except ArtifactError as error:
            refused.append((weights, method, str(error)))
    assert len(made) > 50
    assert all(weights in sentence or method in sentence for weights, method, sentence in refused)


@pytest.mark.parametrize(
    ("protect", "kept"),
    [((), ()), (("lm_head", "embeddings"), ()), (("first 1",), (0,)), (("first 2", "last 1"), (0, 1, 11))],
)
def test_protected_layers_and_the_output_are_left_alone(protect: tuple[str, ...], kept: tuple[int, ...]) -> None:
    patterns = ignored(protect, layers=12)
    assert is_ignored("lm_head", patterns)
    assert tuple(n for n in range(12) if is_ignored(PROJECTION.format(n), patterns)) == kept


def test_the_attention_of_a_protected_layer_still_gets_scales_for_its_cache() -> None:
    assert not is_ignored("model.layers.0.self_attn", ignored(("first 1",), layers=4))


def test_routers_and_eyes_are_left_alone_but_not_gate_projections() -> None:
    patterns = ignored((), layers=4)
    assert is_ignored("model.layers.1.block_sparse_moe.gate", patterns)
    assert is_ignored("model.visual.blocks.0.attn.qkv", patterns)
    assert not is_ignored("model.layers.1.mlp.gate_proj", patterns)


@pytest.mark.parametrize(
    ("protect", "why"), [(("first 2", "last 2"), "covers all 4 layers"), (("middle 1",), "'middle 1' names no layers")]
)
def test_protection_that_makes_no_sense_is_refused(protect: tuple[str, ...], why: str) -> None:
    with pytest.raises(ArtifactError, match=why):
        ignored(protect, layers=4)
