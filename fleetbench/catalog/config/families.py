"""How families of models differ where their config.json does not say: one line a family. Pure.

Defaults and layers are those of the classes in transformers 5.24.0, `models/*/`, read 2026-11-24; most lines were held
against the parameters that the class itself has (tests/catalog/configs/README.md says which). From general knowledge,
and held against published totals where tests say so: qwen, chatglm, baichuan, internlm, internlm2, minicpm, orion,
aquila, bailing_moe, deepseek, mimo, nemotron-nas, xverse, yi; their code is on the hub, beside their weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from fleetbench.catalog.config.keys import Switch

State = Literal["delta", "kda", "lightning", "mamba1", "mamba2", "conv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Conventions of a family; the defaults are Llama's.

    tied: embedding and head, where the file does not say. norms: vectors of the hidden size in a layer; parallel: a
    switch by which attention and feed-forward share one of them. gated: three matrices in a feed-forward, else two;
    halved: each of them half of what the file says; widen: hidden sizes of a feed-forward that the file does not give.
    qk_norm: a vector that all heads share, or one over all of them. gate: of the attention's output, by channel or by
    head. multi_query: one KV head unless the file says otherwise. full_every: where the file names a window and no
    `layer_types`, every so many-th layer sees all tokens and the others slide; 1: all slide; 0: none does.
    state: what a `linear_attention` layer is. single: a layer is either a mixer or a feed-forward. beside: attention
    and state side by side in each layer. router_bias, expert_bias, shared_gate: parameters of a mixture; shared:
    experts that every token uses, where the file counts none. positions: rows of a learned table of positions beyond
    max_position_embeddings, None for no table. defaults: of keys that published files leave out.
    """

    tied: bool = False
    norms: int = 2
    parallel: Switch = False
    norm_bias: bool = False
    final_norm: bool = True
    embed_norm: bool = False
    gated: bool = True
    halved: bool = False
    widen: int = 4
    qkv_bias: Switch = ("attention_bias", False)
    out_bias: Switch = ("attention_bias", False)
    mlp_bias: Switch = ("mlp_bias", False)
    head_bias: Switch = False
    qk_norm: Literal["head", "whole"] | None = None
    qk_norm_if: Switch = True
    gate: Literal["channel", "head"] | None = None
    sinks: bool = False
    multi_query: bool = False
    full_every: int = 0
    state: State | None = None
    single: bool = False
    beside: bool = False
    mixture: Literal["wide", "narrow"] | None = None
    router_bias: bool = False
    expert_bias: bool = False
    shared_gate: bool = False
    shared: int = 0
    positions: int | None = None
    defaults: Mapping[str, int] = field(default_factory=dict)


UNKNOWN = Family(full_every=1)
"""Llama's conventions, and a window that the file names is believed."""

_PLAIN = Family()
_SLIDING = Family(full_every=1)
_BIASED = Family(norm_bias=True, gated=False, qkv_bias=True, out_bias=True, mlp_bias=True)
_GPT2 = replace(_BIASED, tied=True, positions=0)
_GPTJ = Family(norms=1, norm_bias=True, gated=False, qkv_bias=False, out_bias=False, mlp_bias=True, head_bias=True)
_QWEN2 = Family(qkv_bias=True, out_bias=False)
_QWEN3 = Family(qk_norm="head", defaults={"head_dim": 128})
_QWEN3_MOE = Family(qk_norm="head", mixture="narrow")
_QWEN3_5 = Family(qk_norm="head", gate="channel", shared_gate=True, state="delta", defaults={"head_dim": 256})
_QWEN3_NEXT = replace(_QWEN3_5, mixture="narrow")
_GEMMA = Family(tied=True, defaults={"head_dim": 256})
_GEMMA2 = replace(_GEMMA, norms=4, full_every=2, defaults={"head_dim": 256, "sliding_window": 4096})
_GEMMA3_DEFAULTS = {
    "vocab_size": 262208, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
    "max_position_embeddings": 131072, "sliding_window": 4096,
}  # fmt: skip
_GEMMA3 = replace(_GEMMA, norms=4, qk_norm="head", full_every=6, defaults=_GEMMA3_DEFAULTS)
_GEMMA4 = replace(_GEMMA3, full_every=6, defaults={**_GEMMA3_DEFAULTS, "vocab_size": 262144, "global_head_dim": 512})
_GLM = Family(out_bias=False)
_GLM4_MOE = replace(_GLM, mixture="narrow", router_bias=True)
_ROUTED = Family(mixture="narrow", router_bias=True)
_QK_IF_USED: Switch = ("use_qk_norm", False)
_HUNYUAN = Family(qk_norm="head", qk_norm_if=_QK_IF_USED)
_USE_BIAS: Switch = ("use_bias", False)
_ERNIE = Family(tied=True, qkv_bias=_USE_BIAS, out_bias=_USE_BIAS, mlp_bias=_USE_BIAS)
_BAILING = replace(_HUNYUAN, qkv_bias=("use_qkv_bias", False), out_bias=_USE_BIAS, router_bias=True)
_OLMO2 = Family(qk_norm="whole")
_COHERE = Family(tied=True, norms=1, qk_norm="whole", qk_norm_if=_QK_IF_USED)
_LLAMA4 = Family(mixture="wide", shared=1)
_LIGHTNING = Family(state="lightning")
_MINIMAX_M3 = Family(qk_norm="head", mixture="wide", router_bias=True)
_MAMBA1 = Family(tied=True, norms=1, state="mamba1", single=True, defaults={"max_position_embeddings": 1 << 20})
_LFM2 = Family(tied=True, qk_norm="head", state="conv")

_LIKE_LLAMA = (
    "aquila baichuan bitnet cwm deepseek deepseek_v2 exaone granite granite_swa "
    "helium hyperclovax iquestcoder llama nemotron-nas xverse yi"
)

FAMILIES: Mapping[str, Family] = {
    **dict.fromkeys(_LIKE_LLAMA.split(), _PLAIN),
    **dict.fromkeys(("dbrx", "granitemoe", "granitemoeshared"), Family(mixture="wide")),
    "afmoe": Family(norms=4, qk_norm="head", gate="channel", full_every=4, mixture="narrow", router_bias=True),
    "apertus": Family(gated=False, qk_norm="head"),
    "apertus1p5_text": Family(gated=False, qk_norm="head"),
    "arcee": Family(gated=False),
    "bailing_moe": _BAILING,
    "bailing_moe_v2": _BAILING,
    "bamba": Family(state="mamba2"),
    "bloom": replace(_BIASED, tied=True, embed_norm=True, defaults={"max_position_embeddings": 2048}),
    "chatglm": Family(qkv_bias=("add_qkv_bias", False), out_bias=("add_bias_linear", False)),
    "codegen": _GPTJ,
    "cohere": _COHERE,
    "cohere2": replace(_COHERE, qk_norm=None, full_every=4, defaults={"sliding_window": 4096}),
    "deepseek_v3": _ROUTED,
    "deepseek_v32": _ROUTED,
    "deepseek_v4": _ROUTED,
    "dots1": replace(_QWEN3_MOE, router_bias=True),
    "ernie4_5": _ERNIE,
    "ernie4_5_moe": replace(_ERNIE, mixture="narrow", router_bias=True),
    "exaone4": Family(qk_norm="head", full_every=4),
    "exaone_moe": replace(_ROUTED, qk_norm="head", full_every=4),
    "falcon": Family(
        tied=True, norm_bias=True, gated=False, parallel=("parallel_attn", True), multi_query=True,
        qkv_bias=("bias", False), out_bias=("bias", False), mlp_bias=("bias", False),
    ),
    "falcon_h1": Family(state="mamba2", beside=True),
    "falcon_mamba": _MAMBA1,
    "flex_olmo": replace(_OLMO2, mixture="wide"),
    "gemma": _GEMMA,
    "gemma2": _GEMMA2,
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gemma4": _GEMMA4,
    "gemma4_text": _GEMMA4,
    "glm": _GLM,
    "glm4": replace(_GLM, norms=4),
    "glm4_moe": replace(_GLM4_MOE, qk_norm="head", qk_norm_if=_QK_IF_USED, defaults={"head_dim": 128}),
    "glm4_moe_lite": _ROUTED,
    "glm4v_moe_text": _GLM4_MOE,
    "glm_moe_dsa": _ROUTED,
    "gpt2": _GPT2,
    "gpt_bigcode": replace(_GPT2, multi_query=True),
    "gpt_neo": replace(_GPT2, qkv_bias=False),
    "gpt_neox": replace(_BIASED, qkv_bias=("attention_bias", True), out_bias=("attention_bias", True)),
    "gpt_oss": Family(
        qkv_bias=("attention_bias", True), out_bias=("attention_bias", True), sinks=True, expert_bias=True,
        router_bias=True, mixture="wide", full_every=2, defaults={"head_dim": 64, "sliding_window": 128},
    ),
    "gptj": _GPTJ,
    "granitemoehybrid": Family(state="mamba2"),
    "hunyuan_v1_dense": _HUNYUAN,
    "hunyuan_v1_moe": _HUNYUAN,
    "hy_v3": replace(_ROUTED, qk_norm="head"),
    "internlm": Family(qkv_bias=("bias", True), out_bias=("bias", True)),
    "internlm2": Family(qkv_bias=("bias", False), out_bias=("bias", False)),
    "internlm3": Family(qkv_bias=("qkv_bias", False), out_bias=("bias", False), mlp_bias=("bias", False)),
    "jais2": Family(norm_bias=True, gated=False),
    "jamba": Family(state="mamba1"),
    "kimi_k2": _ROUTED,
    "kimi_linear": replace(_ROUTED, state="kda"),
    "laguna": replace(_ROUTED, qk_norm="head", gate="head"),
    "lfm2": _LFM2,
    "lfm2_moe": replace(_LFM2, mixture="narrow", router_bias=True),
    "llama4": _LLAMA4,
    "llama4_text": _LLAMA4,
    "mamba": _MAMBA1,
    "mamba2": replace(_MAMBA1, tied=False, state="mamba2"),
    "mellum": Family(qk_norm="head"),
    "mimo": replace(_QWEN2, qkv_bias=("attention_bias", True)),
    "mimo_v2_flash": _ROUTED,
    "minicpm": Family(tied=True),
    "minicpm3": Family(tied=True),
    "minimax": _LIGHTNING,
    "minimax_m1": _LIGHTNING,
    "minimax_m2": Family(qk_norm="whole", mixture="wide", router_bias=True),
    "minimax_m3": _MINIMAX_M3,
    "minimax_m3_vl": _MINIMAX_M3,
    "minimax_m3_vl_text": _MINIMAX_M3,
    "minimax_text_01": _LIGHTNING,
    "ministral": _SLIDING,
    "ministral3": _SLIDING,
    "mistral": _SLIDING,
    "mixtral": replace(_SLIDING, mixture="wide"),
    "mpt": Family(tied=True, gated=False),
    "nanochat": Family(norms=0, final_norm=False, gated=False),
    "nemotron": Family(gated=False, norm_bias=True),
    "nemotron_h": Family(norms=1, gated=False, state="mamba2", single=True),
    "olmo": Family(norms=0, final_norm=False),
    "olmo2": _OLMO2,
    "olmo3": replace(_OLMO2, full_every=4),
    "olmoe": replace(_OLMO2, mixture="wide"),
    "opt": replace(_GPT2, positions=2),
    "orion": Family(norm_bias=True),
    "persimmon": replace(_BIASED, qk_norm="head", qk_norm_if=("qk_layernorm", True)),
    "phi": replace(_BIASED, norms=1, head_bias=True, qk_norm="head", qk_norm_if=("qk_layernorm", False)),
    "phi3": _SLIDING,
    "phimoe": replace(_SLIDING, mixture="wide", norm_bias=True, head_bias=("lm_head_bias", False)),
    "qwen": replace(_QWEN2, halved=True),
    "qwen2": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen2_5_vl_text": _QWEN2,
    "qwen2_moe": replace(_QWEN2, qkv_bias=("qkv_bias", True), mixture="narrow", shared_gate=True),
    "qwen2_vl": _QWEN2,
    "qwen2_vl_text": _QWEN2,
    "qwen3": _QWEN3,
    "qwen3_5": _QWEN3_5,
    "qwen3_5_moe": _QWEN3_NEXT,
    "qwen3_5_moe_text": _QWEN3_NEXT,
    "qwen3_5_text": _QWEN3_5,
    "qwen3_moe": _QWEN3_MOE,
    "qwen3_next": _QWEN3_NEXT,
    "qwen3_omni_moe_text": _QWEN3_MOE,
    "qwen3_vl_moe_text": _QWEN3_MOE,
    "qwen3_vl_text": _QWEN3,
    "seed_oss": Family(qkv_bias=("attention_bias", True), out_bias=("attention_out_bias", False)),
    "smollm3": Family(tied=True),
    "solar_open": _ROUTED,
    "stablelm": Family(
        norm_bias=True, qkv_bias=("use_qkv_bias", False), out_bias=False, parallel=("use_parallel_residual", False),
        qk_norm="whole", qk_norm_if=("qk_layernorm", False),
    ),
    "starcoder2": Family(
        tied=True, norm_bias=True, gated=False, full_every=1,
        qkv_bias=("use_bias", True), out_bias=("use_bias", True), mlp_bias=("use_bias", True),
    ),
    "vaultgemma": replace(_GEMMA, full_every=2),
    "xglm": replace(_BIASED, tied=True),
    "youtu": Family(tied=True),
}  # fmt: skip

_NO_DECODER = (
    "albert bart bert big_bird camembert clip deberta deberta-v2 distilbert electra ernie git longformer marian mbart "
    "megatron-bert modernbert modernbert-decoder mt5 mpnet nomic_bert pegasus rembert roberta roberta-prelayernorm "
    "roc_bert roformer siglip t5 umt5 vit whisper xlm xlm-roberta xlm-roberta-xl xlnet xmod"
)
_UNCOUNTABLE = (
    "blt cpmant doge dory gemma3n gemma3n_text hrm_text inkling_text inkling2_text jetmoe longcat_flash openelm "
    "recurrent_gemma rwkv rwkv5 rwkv6 rwkv7 xlstm zamba zamba2"
)
REFUSED: Mapping[str, str] = {
    # What would be read wrongly, for its keys look like those of a decoder that fleetbench knows.
    **dict.fromkeys(_NO_DECODER.split(), "is no decoder-only language model"),
    **dict.fromkeys(_UNCOUNTABLE.split(), "has layers that fleetbench does not know how to count"),
}


def family_of(model_type: str | None, architecture: str | None) -> Family | None:
    """By the model type, else by the name of the class without its purpose; None for an unknown one."""
    if model_type is not None and model_type in FAMILIES:
        return FAMILIES[model_type]
    if architecture is None:
        return None
    stem = _squeezed(architecture.partition("For")[0])
    return next((family for name, family in FAMILIES.items() if _squeezed(name) == stem), None)


def _squeezed(name: str) -> str:
    return name.replace("_", "").replace("-", "").casefold()
