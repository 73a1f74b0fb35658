from __future__ import annotations

from typing import Any

import pytest

from fleetbench.catalog import config_json
from tests.catalog.configs_read import LLAMA, changed, read, shape_of

TOTALS = [
    # File, parameters, whether those of multi-token prediction are among them, whose count it is (configs/README.md).
    ("gpt2", 124_439_808, False, "class"),
    ("santacoder", 1_124_886_528, False, "hub, bigcode/gpt_bigcode-santacoder"),
    ("phi-2", 2_779_683_840, False, "hub, microsoft/phi-2"),
    ("starcoder2-7b", 7_173_923_840, False, "hub, bigcode/starcoder2-7b"),
    ("aya-23-8b", 8_028_033_024, False, "hub, CohereLabs/aya-23-8B"),
    ("olmo-2-7b", 7_298_617_344, False, "hub, allenai/OLMo-2-1124-7B-Instruct"),
    ("stablelm-2-1.6b", 1_644_515_328, False, "hub, stabilityai/stablelm-2-1_6b-chat"),
    ("internlm2.5-7b", 7_737_708_544, False, "hub, internlm/internlm2_5-7b-chat"),
    ("deepseek-v2-lite", 15_706_484_224, False, "hub, deepseek-ai/DeepSeek-V2-Lite"),
    ("gpt-j-6b", 6_050_882_784, False, "class"),
    ("gemma-3-1b", 999_885_952, False, "hub, google/gemma-3-1b-it"),
    ("qwen1.5-moe-a2.7b", 14_315_784_192, False, "hub, Qwen/Qwen1.5-MoE-A2.7B"),
    ("codellama-7b", 6_738_546_688, False, "hub, codellama/CodeLlama-7b-hf"),
    ("smollm2-360m", 361_821_120, False, "hub, HuggingFaceTB/SmolLM2-360M"),
    ("falcon-7b", 6_921_720_704, False, "class; the Hub's 7,217,189,760 count the tied table twice"),
    ("jamba-v0.1", 51_570_323_328, False, "class"),
    ("mamba2-codestral-7b", 7_285_403_648, False, "class"),
    ("ernie-4.5-21b-a3b", 21_825_437_888, False, "hub, baidu/ERNIE-4.5-21B-A3B-Thinking"),
    ("exaone-3.5-7.8b", 7_818_448_896, False, "hub, LGAI-EXAONE/EXAONE-Deep-7.8B"),
    ("glm-4-9b-0414", 9_400_279_040, False, "hub, zai-org/GLM-4-9B-0414"),
    ("smollm3-3b", 3_075_098_624, False, "hub, HuggingFaceTB/SmolLM3-3B"),
    ("opt-125m", 125_239_296, False, "class"),
    ("falcon-h1", 8_514_961_408, False, "class"),
    ("phimoe", 41_872_793_600, False, "class"),
    ("nemotron-h", 1_968_355_712, False, "class"),
    ("mimo-7b", 7_833_409_536, True, "hub, XiaomiMiMo/MiMo-7B-Base"),
    ("mimo-v2-flash", 308_778_768_832, False, "class"),
    ("deepseek-v4-flash", 284_332_230_231, False, "class"),
    ("glm-5.2", 743_377_000_704, False, "class"),
    ("nemotron-3-super", 123_611_012_096, True, "hub, nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16"),
    ("nemotron-super-49b", 49_867_145_216, False, "hub, nvidia/Llama-3_3-Nemotron-Super-49B-v1"),
    ("nemotron-h-56b", 56_324_350_464, False, "class"),
    ("gemma-4-26b-a4b", 25_233_141_760, False, "class, the text model"),
    ("qwen3.5-35b-a3b", 34_660_610_688, False, "class, the text model"),
    ("llama-4-maverick", 400_711_848_960, False, "class, the text model"),
    ("kimi-linear-48b-a3b", 49_122_681_728, False, "hub, moonshotai/Kimi-Linear-48B-A3B-Instruct"),
    ("lfm2-1.2b", 1_170_340_608, False, "hub, LiquidAI/LFM2-1.2B"),
]
ROUTER_BIASES = 1e-7
"""Classes keep the experts' correction biases as buffers; of all parameters they are fewer than this share."""


@pytest.mark.parametrize(("name", "total", "with_prediction", "source"), TOTALS, ids=[row[0] for row in TOTALS])
def test_parameters_are_those_that_others_count(name: str, total: int, with_prediction: bool, source: str) -> None:  # noqa: FBT001
    shape = config_json.parse(read(name))
    counted = shape.params + (shape.mtp_params if with_prediction else 0)
    assert counted == pytest.approx(total, rel=ROUTER_BIASES), source
    assert not shape.guessed


@pytest.mark.parametrize(
    ("name", "window_tok", "count"),
    [("mistral-7b", 4096, 32), ("gemma-3-27b", 1024, 52), ("gpt-oss-20b", 128, 12), ("phi-3-mini", 2047, 32),
     ("llama-4-scout", 8192, 36), ("mistral-7b-v0.3", None, 0), ("qwen2.5-7b", None, 0), ("phi-4-mini", None, 0)],
)  # fmt: skip
def test_layers_slide_as_the_file_says(name: str, window_tok: int | None, count: int) -> None:
    windows = [layer.window_tok for layer in shape_of(name).layers if layer.attention == "sliding"]
    assert windows == [window_tok] * count


def test_qwen_slides_above_the_layers_it_names_and_only_where_it_is_on() -> None:
    qwen = changed(model_type="qwen2", sliding_window=1024, max_window_layers=3, use_sliding_window=True)
    assert [layer.attention for layer in config_json.parse(qwen).layers] == ["full", "full", "full", "sliding"]
    off = config_json.parse({**qwen, "use_sliding_window": False})
    assert {layer.attention for layer in off.layers} == {"full"}


def test_a_window_of_null_is_off() -> None:
    assert config_json.parse(changed(model_type="mistral", sliding_window=None)).layers[0].attention == "full"
    gemma = changed(model_type="gemma2", head_dim=128, sliding_window=None)
    assert {layer.attention for layer in config_json.parse(gemma).layers} == {"full"}


def test_a_window_as_wide_as_the_context_never_slides() -> None:
    layer = config_json.parse(changed(model_type="mistral", sliding_window=8192)).layers[0]
    assert (layer.attention, layer.window_tok) == ("full", None)


def test_layer_types_come_before_what_the_family_does() -> None:
    types = ["full_attention", "sliding_attention", "full_attention", "full_attention"]
    found = config_json.parse(changed(model_type="mistral", sliding_window=64, layer_types=types))
    assert [layer.window_tok for layer in found.layers] == [None, 64, None, None]


def test_exaone_spells_its_layers_in_letters() -> None:
    found = config_json.parse(changed(model_type="exaone4", sliding_window=64, sliding_window_pattern="LLLG"))
    assert [layer.attention for layer in found.layers] == ["sliding", "sliding", "sliding", "full"]


def test_a_state_of_fixed_size_is_counted_with_its_convolution() -> None:
    state = next(layer for layer in shape_of("qwen3-next-80b-a3b").layers if layer.attention == "linear")
    assert state.state_channels == 32 * 128 * 128 + (2 * 16 * 128 + 32 * 128) * 3
    assert (state.k_channels, state.v_channels) == (0, 0)


def test_latent_attention_cannot_be_shared_out_by_heads() -> None:
    layer = shape_of("deepseek-r1").layers[0]
    assert (layer.heads, layer.kv_heads, layer.v_channels) == (128, 1, 0)


def test_layers_that_reuse_keys_keep_none() -> None:
    gemma = changed(model_type="gemma4_text", head_dim=128, num_kv_shared_layers=2, sliding_window=64,
                    layer_types=["sliding_attention", "full_attention"] * 2)  # fmt: skip
    kept = [layer.k_channels > 0 for layer in config_json.parse(gemma).layers]
    assert kept == [True, True, False, False]


@pytest.mark.parametrize(
    ("config", "tied"),
    [
        (changed(tie_word_embeddings=...), False),
        (changed(model_type="gemma", head_dim=256, tie_word_embeddings=...), True),
        (changed(model_type="cohere", tie_word_embeddings=...), True),
        (changed(model_type="gemma", head_dim=256, tie_word_embeddings=False), False),
        (
            {"model_type": "some_vl", "tie_word_embeddings": False, "text_config": changed(tie_word_embeddings=True)},
            False,
        ),
        ({"model_type": "some_vl", "text_config": changed(tie_word_embeddings=True)}, True),
    ],
)
def test_tables_are_tied_as_the_file_or_else_the_family_says(config: dict[str, Any], tied: bool) -> None:  # noqa: FBT001
    shape = config_json.parse(config)
    assert shape.tied is tied
    assert (shape.head_params == 0) is tied


def test_biases_and_norms_that_the_family_has_are_counted() -> None:
    plain = config_json.parse(LLAMA).layers[0]
    qwen2 = config_json.parse(changed(model_type="qwen2")).layers[0]
    assert qwen2.other_params - plain.other_params == 4096 + 2 * 8 * 128
    qwen3 = config_json.parse(changed(model_type="qwen3")).layers[0]
    assert qwen3.other_params - plain.other_params == 2 * 128
    biased = config_json.parse(changed(attention_bias=True)).layers[0]
    assert biased.other_params - plain.other_params == 4096 + 2 * 8 * 128 + 4096
    assert plain.linear_params == qwen2.linear_params == qwen3.linear_params == biased.linear_params


@pytest.mark.parametrize(
    ("config", "dense"),
    [
        ({"decoder_sparse_step": 2}, [0, 2]),
        ({"mlp_only_layers": [1, 3]}, [1, 3]),
        ({"first_k_dense_replace": 3}, [0, 1, 2]),
        ({"moe_layer_freq": [0, 1, 1, 0]}, [0, 3]),
        ({"mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]}, [0]),
        ({"moe_layers": [2]}, [0, 1, 3]),
        ({"expert_layer_period": 2, "expert_layer_offset": 1}, [0, 2]),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": 2}, [0, 3]),
    ],
)
def test_layers_are_dense_where_the_file_says_so(config: dict[str, Any], dense: list[int]) -> None:
    base = changed(model_type="some_moe", num_experts=8, num_experts_per_tok=2, moe_intermediate_size=512)
    layers = config_json.parse({**base, **config}).layers
    assert [index for index, layer in enumerate(layers) if not layer.expert_params] == dense


def test_a_mixture_counts_all_experts_and_uses_some() -> None:
    shape = config_json.parse(
        changed(
            model_type="some_moe", num_experts=8, num_experts_per_tok=2, moe_intermediate_size=512, n_shared_experts=1
        )
    )
    layer, one = shape.layers[0], 3 * 4096 * 512
    assert (shape.experts, shape.active_experts, shape.ffn) == (8, 2, 3 * 512)
    assert layer.expert_params == 8 * one
    assert layer.linear_params - layer.attention_params == 9 * one
    assert layer.active_params - layer.attention_params == 3 * one


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, ("fp8", "linear")),
        ({"quant_method": "mxfp4", "modules_to_not_convert": ["layers.*.self_attn", "lm_head"]}, ("mxfp4", "ffn")),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, ("int4", "linear")),
        ({"quant_method": "awq", "bits": 4}, ("int4", "linear")),
        ({"quant_method": "gptq", "bits": 8}, ("int8", "linear")),
        ({"bits": 4, "group_size": 64}, ("int4", "linear")),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}, ("nf4", "linear")),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, ("int8", "linear")),
        ({"quant_method": "bitnet"}, ("ternary", "linear")),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["layers.0.self_attn*"]}, ("nvfp4", "ffn")),
        ({"quant_algo": "FP8", "producer": {"name": "modelopt"}}, ("fp8", "linear")),
        ({"quant_method": "compressed-tensors", "format": "float-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}}}, ("fp8", "linear")),
        ({"quant_method": "compressed-tensors", "format": "pack-quantized",
          "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}}},
          "ignore": ["re:.*self_attn.*", "re:.*shared_experts.*"]}, ("int4", "experts")),
        ({"quant_method": "compressed-tensors", "config_groups": {
            "group_0": {"weights": {"num_bits": 8, "type": "float"}},
            "group_1": {"weights": {"num_bits": 4, "type": "float", "group_size": 16}}}}, ("nvfp4", "linear")),
        ({"quant_method": "compressed-tensors", "sparsity_config": {}}, (None, "linear")),
        ({"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp4"}}}, ("mxfp4", "linear")),
        ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}}, ("int4", "linear")),
        ({"quant_method": "torchao", "quant_type": "float8wo"}, ("fp8", "linear")),
        ({"quant_method": "hqq9"}, ("hqq9", "linear")),
    ],
)  # fmt: skip
def test_the_published_format_is_read(quantization: dict[str, Any], expected: tuple[str | None, str]) -> None:
    shape = config_json.parse(changed(quantization_config=quantization))
    assert (shape.quantized, shape.quantized_part) == expected
    assert shape.dtype == "bf16"


def test_a_published_checkpoint_is_as_large_as_its_formats_say() -> None:
    """OpenAI's model card: 60.8 GiB; MXFP4 takes 4.25 bits, the rest is BF16 (biases and routers too)."""
    shape = shape_of("gpt-oss-120b")
    size_bytes = shape.quantized_params * 4.25 / 8 + (shape.params - shape.quantized_params) * 2
    assert size_bytes / 2**30 == pytest.approx(60.8, rel=0.005)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"torch_dtype": "float16"}, "fp16"),
        ({"torch_dtype": ..., "dtype": "bfloat16"}, "bf16"),
        ({"torch_dtype": "torch.float32"}, "fp32"),
        ({"torch_dtype": ...}, "bf16"),
    ],
)
def test_the_width_of_what_is_not_quantized_is_read(keys: dict[str, Any], expected: str) -> None:
    assert config_json.parse(changed(**keys)).dtype == expected


@pytest.mark.parametrize(
    ("scaling", "context_tok"),
    [
        (None, 8192),
        ({"rope_type": "llama3", "factor": 8.0}, 8192),
        ({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}, 32768),
        ({"type": "linear", "factor": 2}, 16384),
        ({"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 1024}, 8192),
        ({"full_attention": {"rope_type": "default"}}, 8192),
    ],
)
def test_the_context_is_as_long_as_its_positions_are_stretched(scaling: object, context_tok: int) -> None:
    assert config_json.parse(changed(rope_scaling=scaling)).max_context_tok == context_tok


def test_the_text_model_of_a_multimodal_one_is_read_and_its_towers_are_named() -> None:
    shape = config_json.parse({
        "architectures": ["SomeForConditionalGeneration"], "model_type": "some_vl", "torch_dtype": "float16",
        "vision_config": {"depth": 27}, "text_config": changed(torch_dtype=..., architectures=...),
    })  # fmt: skip
    assert shape.params == config_json.parse(LLAMA).params
    assert (shape.uncounted, shape.dtype) == (("vision_config",), "fp16")


def test_an_unknown_architecture_is_read_as_llamas_and_says_so() -> None:
    shape = config_json.parse(changed(architectures=["NewestForCausalLM"], model_type="newest"))
    assert shape.guessed
    assert shape.params == config_json.parse(LLAMA).params
    assert not config_json.parse(changed(model_type=...)).guessed


def test_equal_layers_are_one_object() -> None:
    shape = config_json.parse(changed(num_hidden_layers=10_000))
    assert len({id(layer) for layer in shape.layers}) == 1


def test_keys_that_a_family_nests_or_calls_otherwise_are_found() -> None:
    shape = config_json.parse(read("dbrx"))
    assert (shape.hidden, len(shape.layers), shape.max_context_tok, shape.ffn) == (6144, 40, 32768, 4 * 10752)
    assert (shape.experts, shape.active_experts, shape.layers[0].heads, shape.layers[0].kv_heads) == (16, 4, 48, 8)
