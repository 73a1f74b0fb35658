"""Attention, and what stands in its place, of one layer: parameters, and channels of its cache or state. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fleetbench.catalog.config.families import Family
from fleetbench.catalog.config.keys import CHANNELS, TOKENS, Keys
from fleetbench.catalog.config.layout import Slot
from fleetbench.catalog.shapes import Attention


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The half of a layer that mixes tokens; fields as in Layer."""

    attention: Attention = "linear"
    window_tok: int | None = None
    heads: int = 1
    kv_heads: int = 1
    k_channels: int = 0
    v_channels: int = 0
    state_channels: int = 0
    linear: int = 0
    other: int = 0


def mixer(keys: Keys, family: Family, slot: Slot) -> Part:
    """Of the layer that `slot` describes."""
    if slot.mixer == "none":
        return Part(heads=keys.count("num_attention_heads", 1))
    if slot.mixer == "linear":
        return _state(keys, family)
    found = _attention(keys, family, slot)
    if slot.mixer != "both":
        return found
    beside = _state(keys, family)
    return Part(
        attention="full", heads=found.heads, kv_heads=found.kv_heads,
        k_channels=found.k_channels, v_channels=found.v_channels, state_channels=beside.state_channels,
        linear=found.linear + beside.linear, other=found.other + beside.other,
    )  # fmt: skip


def head_channels(keys: Keys, heads: int) -> int:
    """Channels of one query head, as the file says or hidden_size over heads."""
    found = keys.optional("head_dim")
    if found is not None:
        return found
    keys.divides("hidden_size", "num_attention_heads")
    return max(1, keys.count("hidden_size") // heads)


def query_heads(keys: Keys) -> int:
    return keys.count("num_attention_heads", most=1 << 16)


def _attention(keys: Keys, family: Family, slot: Slot) -> Part:
    if keys.has("o_lora_rank") and keys.has("o_groups"):
        return _compressing(keys, slot)
    if keys.has("kv_lora_rank") or keys.has("qk_nope_head_dim"):
        return _latent(keys, slot)
    return _heads(keys, family, slot)


def _heads(keys: Keys, family: Family, slot: Slot) -> Part:
    """Queries, keys and values by head."""
    hidden, heads, kv = keys.count("hidden_size"), query_heads(keys), _kv_heads(keys, family, slot)
    wide = head_channels(keys, heads)
    value = keys.count("v_head_dim", wide)
    if slot.mixer == "sliding":  # MiMo V2
        heads, kv = keys.count("swa_num_attention_heads", heads), keys.count("swa_num_key_value_heads", kv)
        wide, value = keys.count("swa_head_dim", wide), keys.count("swa_v_head_dim", value)
    broad = keys.optional("global_head_dim") if slot.mixer == "full" else None
    if broad is not None:  # Gemma 4
        wide = value = broad
        kv = keys.count("num_global_key_value_heads", kv)
    one = slot.mixer == "full" and keys.flag(("attention_k_eq_v", False))
    own = not slot.shared
    projected = (kv * wide + (0 if one else kv * value)) if own else 0
    linear = hidden * (heads * wide + projected + heads * value)
    if family.gate is not None and keys.flag(("attn_output_gate", True)):
        linear += hidden * heads * (wide if family.gate == "channel" else 1)
    other = _index(keys, hidden) + (heads if family.sinks or _sinks(keys, slot) else 0)
    if keys.flag(family.qkv_bias):
        other += heads * wide + projected
    if keys.flag(family.out_bias):
        other += hidden
    if family.qk_norm is not None and keys.flag(family.qk_norm_if):
        normed = (wide, wide) if family.qk_norm == "head" else (heads * wide, kv * wide)
        other += normed[0] + (normed[1] if own else 0)
    window = _window(keys, slot)
    return Part(
        attention="full" if window is None else "sliding",
        window_tok=window,
        heads=heads,
        kv_heads=kv,
        k_channels=kv * wide + _index_channels(keys) if own else 0,
        v_channels=kv * value if own else 0,
        linear=linear,
        other=other,
    )


def _kv_heads(keys: Keys, family: Family, slot: Slot) -> int:
    heads = query_heads(keys)
    if slot.kv_heads is not None:
        return slot.kv_heads
    if family.multi_query and not keys.flag(("new_decoder_architecture", False)):
        return 1 if keys.flag(("multi_query", True)) else heads
    found = keys.count("num_key_value_heads", heads, most=1 << 16)
    keys.divides("num_attention_heads", "num_key_value_heads")
    return found


def _sinks(keys: Keys, slot: Slot) -> bool:
    kind = "full" if slot.mixer == "full" else "swa"
    return keys.flag((f"add_{kind}_attention_sink_bias", False))


def _window(keys: Keys, slot: Slot) -> int | None:
    if slot.mixer == "sliding":
        return keys.count("sliding_window", most=TOKENS)
    if slot.mixer == "chunked":
        return keys.count("attention_chunk_size", most=TOKENS)
    return None


def _index(keys: Keys, hidden: int) -> int:
    """MiniMax M3's choice of blocks; its few matrices count as not quantized."""
    if not keys.flag(("sparse_attention_config.use_sparse_attention", False)):
        return 0
    wide, heads = _index_channels(keys), keys.count("sparse_attention_config.sparse_num_index_heads")
    return hidden * (heads + 1) * wide + 2 * wide


def _index_channels(keys: Keys) -> int:
    return keys.count("sparse_attention_config.sparse_index_dim", 0, least=0)


def _latent(keys: Keys, slot: Slot) -> Part:
    """Multi-head latent attention: the cache keeps one latent and one rotary key, whatever the heads."""
    hidden, heads = keys.count("hidden_size"), query_heads(keys)
    latent, rotary = keys.count("kv_lora_rank"), keys.count("qk_rope_head_dim")
    plain, value = keys.count("qk_nope_head_dim"), keys.count("v_head_dim")
    rank = keys.optional("q_lora_rank")
    query = heads * (plain + rotary)
    linear = hidden * query if rank is None else rank * (hidden + query)
    linear += hidden * (latent + rotary) + latent * heads * (plain + value) + heads * value * hidden
    other = latent + (rank or 0)
    if keys.flag(("attention_bias", False)):
        other += (rank or query) + latent + rotary + hidden
    channels = latent + rotary
    if keys.has("index_head_dim") and not slot.shared:  # DeepSeek V3.2: the indexer keeps a key of its own
        wide, many = keys.count("index_head_dim"), keys.count("index_n_heads")
        linear += wide * many * (rank or hidden) + hidden * (wide + many)
        other += 2 * wide
        channels += wide
    return Part(attention="full", heads=heads, kv_heads=1, k_channels=channels, linear=linear, other=other)


def _compressing(keys: Keys, slot: Slot) -> Part:
    """DeepSeek V4: one key that is also the value, a window of them, and one entry for `ratio` tokens beyond."""
    hidden, heads, wide = keys.count("hidden_size"), query_heads(keys), keys.count("head_dim")
    rank, out, groups = keys.count("q_lora_rank"), keys.count("o_lora_rank"), keys.count("o_groups")
    linear = rank * (hidden + heads * wide) + hidden * wide + heads * wide * out + groups * out * hidden
    other = heads + rank + wide
    if not slot.ratio:
        window = keys.count("sliding_window", most=TOKENS)
        return Part(attention="sliding", window_tok=window, heads=heads, k_channels=wide, linear=linear, other=other)
    pairs = 2 if slot.ratio < 128 else 1  # noqa: PLR2004 - the two kinds: overlapping windows of 4, and of 128
    linear += 2 * hidden * wide * pairs
    other += slot.ratio * wide * pairs + wide
    kept = wide
    if pairs == 2:  # noqa: PLR2004
        index, many = keys.count("index_head_dim"), keys.count("index_n_heads")
        linear += 2 * hidden * 2 * index + rank * many * index + hidden * many
        other += slot.ratio * 2 * index + index
        kept += index
    channels = -(-kept // slot.ratio)
    return Part(attention="full", heads=heads, k_channels=channels, linear=linear, other=other)


def _state(keys: Keys, family: Family) -> Part:
    if family.state == "delta" or keys.has("linear_num_value_heads"):
        return _delta(keys)
    if family.state == "kda":
        return _kda(keys)
    if family.state == "lightning":
        return _lightning(keys)
    if family.state == "mamba1":
        return _mamba1(keys)
    if family.state == "conv":
        return _conv(keys)
    return _mamba2(keys, family)


def _delta(keys: Keys) -> Part:
    """Gated DeltaNet of Qwen3-Next: a matrix for each value head, and the inputs of a short convolution."""
    hidden = keys.count("hidden_size")
    many, wide = keys.count("linear_num_key_heads"), keys.count("linear_key_head_dim")
    values, value = keys.count("linear_num_value_heads"), keys.count("linear_value_head_dim")
    kernel = keys.count("linear_conv_kernel_dim", most=1 << 10)
    mixed = 2 * many * wide + values * value
    return Part(
        heads=values,
        kv_heads=many,
        state_channels=values * wide * value + mixed * (kernel - 1),
        linear=hidden * (mixed + values * value + 2 * values) + values * value * hidden,
        other=mixed * kernel + 2 * values + value,
    )


def _kda(keys: Keys) -> Part:
    """Kimi Delta Attention."""
    hidden = keys.count("hidden_size")
    nested = keys.has("linear_attn_config.num_heads")
    heads = keys.count("linear_attn_config.num_heads" if nested else "linear_num_heads")
    wide = keys.count("linear_attn_config.head_dim" if nested else "linear_head_dim")
    kernel = keys.count(
        "linear_attn_config.short_conv_kernel_size" if nested else "linear_conv_kernel_dim", most=1 << 10
    )
    inner = heads * wide
    full_gate = keys.flag(("linear_attn_config.use_full_rank_gate", False))
    gate = hidden * inner if full_gate else hidden * wide + wide * inner
    return Part(
        heads=heads,
        kv_heads=heads,
        state_channels=inner * wide + 3 * inner * (kernel - 1),
        linear=4 * hidden * inner + hidden * wide + wide * inner + hidden * heads + gate,
        other=3 * inner * kernel + inner + heads + wide,
    )


def _lightning(keys: Keys) -> Part:
    """Lightning attention of MiniMax 01."""
    hidden, heads = keys.count("hidden_size"), query_heads(keys)
    wide = head_channels(keys, heads)
    inner = heads * wide
    return Part(heads=heads, kv_heads=heads, state_channels=inner * wide, linear=5 * hidden * inner, other=inner)


def _mamba1(keys: Keys) -> Part:
    hidden, state = keys.count("hidden_size"), keys.count("mamba_state")
    inner = keys.count("mamba_expand", 2, most=64) * hidden
    kernel, rank = keys.count("mamba_conv", 4, most=1 << 10), keys.count("mamba_rank", -(-hidden // 16))
    normed = rank + 2 * state if keys.has("attn_layer_period") else 0  # Jamba
    return Part(
        heads=1,
        state_channels=inner * (state + kernel - 1),
        linear=hidden * 2 * inner + inner * (rank + 2 * state) + rank * inner + inner * hidden,
        other=inner * (kernel + 1) + inner + inner * state + inner + normed,
    )


def _mamba2(keys: Keys, family: Family) -> Part:
    hidden, heads, wide = keys.count("hidden_size"), keys.count("mamba_heads"), keys.count("mamba_head_dim")
    state, groups = keys.count("mamba_state"), keys.count("mamba_groups", 1)
    kernel = keys.count("mamba_conv", 4, most=1 << 10)
    inner = min(heads * wide, CHANNELS)
    mixed = inner + 2 * groups * state
    normed = inner if not family.beside or keys.flag(("mamba_rms_norm", False)) else 0
    return Part(
        heads=heads,
        kv_heads=heads,
        state_channels=inner * state + mixed * (kernel - 1),
        linear=hidden * (inner + mixed + heads) + inner * hidden,
        other=mixed * (kernel + 1) + 3 * heads + normed,
    )


def _conv(keys: Keys) -> Part:
    """The gated short convolution of LFM2."""
    hidden, kernel = keys.count("hidden_size"), keys.count("conv_L_cache", 3, most=1 << 10)
    return Part(heads=1, state_channels=hidden * kernel, linear=4 * hidden * hidden, other=hidden * kernel)
