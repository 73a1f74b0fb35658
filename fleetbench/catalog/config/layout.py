"""Which layer is what: full, sliding or linear attention, dense or a mixture, however a file says so. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from fleetbench.catalog.config.families import Family
from fleetbench.catalog.config.keys import CHANNELS, EXPERTS, LAYERS, TOKENS, Keys, shown

Mixer = Literal["full", "sliding", "chunked", "linear", "both", "none"]
Feed = Literal["dense", "sparse", "none"]

_TYPES: Mapping[str, Mixer] = {
    "full_attention": "full", "attention": "full", "global": "full", "hybrid": "both",
    "indexed_attention": "full", "deepseek_sparse_attention": "full",
    "sliding_attention": "sliding", "local": "sliding", "sliding_window_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear", "mamba": "linear", "mamba2": "linear", "conv": "linear",
    "compressed_sparse_attention": "full", "heavily_compressed_attention": "full",
    "moe": "none", "mlp": "none",
}  # fmt: skip
_RATIOS = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
_LETTERS = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}
_FULL_EVERY = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What a layer is made of.

    ratio: tokens that one cache entry stands for, 0 where each has its own; shared: keys and values, or the indexer,
    are those of an earlier layer; kv_heads, width: of this layer alone, None for the model's.
    """

    mixer: Mixer
    feed: Feed
    ratio: int = 0
    shared: bool = False
    kv_heads: int | None = None
    width: int | None = None


def slots(keys: Keys, family: Family) -> tuple[Slot, ...]:
    """One for each layer; empty where that cannot be said, which is noted."""
    blocks = keys.find("block_configs")[1]
    if blocks is not None:
        return _searched(keys, blocks)
    named = _named(keys)
    count = len(named) if named and not keys.has("num_hidden_layers") else keys.count("num_hidden_layers", most=LAYERS)
    if named is not None and len(named) != count:
        keys.wrong(f"{keys.find('layer_types')[0]} has {len(named)} entries for {count} layers")
        return ()
    mixers = _mixers(keys, family, named, count)
    feeds = _feeds(keys, family, named, count)
    found = tuple(Slot(mixer=mixer, feed=feed) for mixer, feed in zip(mixers, feeds, strict=True))
    found = _compressed(keys, named, found)
    return _sharing(keys, found)


def _named(keys: Keys) -> tuple[str, ...] | None:
    """The types of all layers where the file lists them; unknown ones are noted."""
    pattern = keys.text("hybrid_override_pattern")
    if pattern is not None:
        named: tuple[str, ...] | None = tuple(_LETTERS.get(letter, letter) for letter in pattern[: LAYERS + 1])
    else:
        named = keys.entries("layer_types", str, None)
    for strange in sorted(set(named or ()) - _TYPES.keys())[:3]:
        known = "hybrid_override_pattern" if pattern is not None else keys.find("layer_types")[0]
        keys.wrong(f"{known} names {shown(strange)}, which fleetbench does not know")
    return named


def _mixers(keys: Keys, family: Family, named: tuple[str, ...] | None, count: int) -> list[Mixer]:
    if named is not None:
        return [_TYPES.get(name, "full") for name in named]
    if family.beside:
        return ["both"] * count
    found = _linear_layers(keys, family, count) or _marked_layers(keys, count) or _sliding_layers(keys, family, count)
    return found or ["linear" if family.single or family.state == "mamba2" else "full"] * count


def _linear_layers(keys: Keys, family: Family, count: int) -> list[Mixer] | None:
    """Layers with a state of fixed size among those with attention, by interval, period or index."""
    if keys.has("full_attention_interval") or family.state == "delta":
        every = keys.count("full_attention_interval", _FULL_EVERY, most=LAYERS)
        return ["linear" if (index + 1) % every else "full" for index in range(count)]
    if keys.has("attn_layer_period"):
        period = keys.count("attn_layer_period", most=LAYERS)
        offset = keys.count("attn_layer_offset", 0, most=LAYERS, least=0)
        return ["full" if index % period == offset else "linear" for index in range(count)]
    nested = keys.find("linear_attn_config.full_attn_layers")[1]
    if isinstance(nested, list):
        full = {index - 1 for index in keys.entries("linear_attn_config.full_attn_layers", int, None) or ()}
        return ["full" if index in full else "linear" for index in range(count)]
    for name in ("attn_layer_indices", "full_attn_idxs"):
        if keys.has(name):
            full = set(keys.entries(name, int, None) or ())
            return ["full" if index in full else "linear" for index in range(count)]
    return None


def _marked_layers(keys: Keys, count: int) -> list[Mixer] | None:
    """Lists of 0 and 1, whose meaning is each family's own."""
    marks: tuple[tuple[str, Mixer, Mixer], ...] = (
        ("attn_type_list", "linear", "full"),
        ("hybrid_layer_pattern", "full", "sliding"),
        ("no_rope_layers", "full", "chunked"),
    )
    for name, zero, one in marks:
        found = keys.entries(name, int, count) if keys.has(name) else None
        if found:
            return [one if mark else zero for mark in found]
    if keys.has("attention_chunk_size") and keys.has("interleave_moe_layer_step"):  # Llama 4
        every = keys.count("no_rope_layer_interval", _FULL_EVERY, most=LAYERS)
        return ["chunked" if (index + 1) % every else "full" for index in range(count)]
    return None


def _sliding_layers(keys: Keys, family: Family, count: int) -> list[Mixer] | None:
    if keys.flag(("use_sliding_window", False)):  # Qwen
        first = keys.count("max_window_layers", 0, most=LAYERS, least=0)
        return ["sliding" if index >= first else "full" for index in range(count)]
    if keys.has("use_sliding_window") or not family.full_every or keys.nulled("sliding_window"):
        return None
    if keys.optional("sliding_window", most=TOKENS) is None:
        return None
    pattern = keys.find("sliding_window_pattern")[1]
    if isinstance(pattern, str) and pattern and len(pattern) <= LAYERS:  # EXAONE's "LLLG"
        return ["full" if pattern[index % len(pattern)] == "G" else "sliding" for index in range(count)]
    every = keys.count("sliding_window_pattern", family.full_every, most=LAYERS)
    return ["sliding" if every == 1 or (index + 1) % every else "full" for index in range(count)]


def _feeds(keys: Keys, family: Family, named: tuple[str, ...] | None, count: int) -> list[Feed]:
    if family.single:
        kinds: dict[str, Feed] = {"moe": "sparse", "mlp": "dense"}
        return [kinds.get(name, "none") for name in named] if named is not None else ["none"] * count
    if not _mixes(keys, family):
        return ["dense"] * count
    found = keys.entries("mlp_layer_types", str, count)
    if found is not None:
        return ["dense" if word == "dense" else "sparse" for word in found]
    for name in ("moe_layer_freq", "is_moe_layer"):
        if isinstance(keys.find(name)[1], list):
            marked = _marks(keys, name, count)
            return ["sparse" if mark else "dense" for mark in marked]
    chosen = keys.entries("moe_layers", int, None)
    if chosen is not None:
        return ["sparse" if index in set(chosen) else "dense" for index in range(count)]
    return ["sparse" if sparse else "dense" for sparse in _by_step(keys, count)]


def _mixes(keys: Keys, family: Family) -> bool:
    """Whether there are experts; a file that speaks of them without their number is noted."""
    if not keys.flag(("enable_moe_block", True)):
        return False
    if family.mixture or keys.has("num_experts_per_tok") or keys.has("moe_intermediate_size"):
        return keys.count("num_experts", least=0, most=EXPERTS) > 1
    return (keys.optional("num_experts", least=0, most=EXPERTS) or 0) > 1


def _marks(keys: Keys, name: str, count: int) -> tuple[int, ...]:
    value = keys.find(name)[1]
    if len(value) != count or not all(isinstance(item, int) for item in value):
        keys.wrong(f"{name} is {shown(value)} of {len(value)} entries, not one number for each of {count} layers")
        return (1,) * count
    return tuple(value)


def _by_step(keys: Keys, count: int) -> list[bool]:
    first = keys.count("first_k_dense_replace", 0, most=LAYERS, least=0)
    last = keys.count("moe_layer_end_index", count, most=LAYERS, least=-1)
    last = count if last < 0 else last
    step = keys.count("decoder_sparse_step", 1, most=LAYERS)
    step = keys.count("interleave_moe_layer_step", step, most=LAYERS)
    step = keys.count("moe_layer_interval", step, most=LAYERS)
    period = keys.count("expert_layer_period", 1, most=LAYERS)
    offset = keys.count("expert_layer_offset", 0, most=LAYERS, least=0)
    frequency = keys.count("moe_layer_freq", 1, most=LAYERS)
    dense = set(keys.entries("mlp_only_layers", int, None) or ())
    return [
        first <= index <= last
        and (index + 1) % step == 0
        and index % period == offset
        and index % frequency == 0
        and index not in dense
        for index in range(count)
    ]


def _compressed(keys: Keys, named: tuple[str, ...] | None, found: tuple[Slot, ...]) -> tuple[Slot, ...]:
    """DeepSeek V4: a ratio for every layer, 0 for one that keeps its window only."""
    if named is not None and set(named) & _RATIOS.keys():
        ratios: tuple[int, ...] | None = tuple(_RATIOS.get(name, 0) for name in named)
    else:
        ratios = keys.entries("compress_ratios", int, len(found), longer=True)
    if ratios is None:
        return found
    for ratio in {ratio for ratio in ratios if not 0 <= ratio <= CHANNELS}:
        keys.wrong(f"compress_ratios names {shown(ratio)}, not from 0 to {CHANNELS}")
    return tuple(
        replace(slot, ratio=ratio) if ratio > 0 else replace(slot, mixer="sliding")
        for slot, ratio in zip(found, ratios, strict=True)
    )


def _sharing(keys: Keys, found: tuple[Slot, ...]) -> tuple[Slot, ...]:
    """Layers that take keys and values, or the choice of tokens, over from an earlier one."""
    last = keys.count("num_kv_shared_layers", 0, most=LAYERS, least=0)
    modes = keys.entries("indexer_types", str, len(found)) if keys.has("indexer_types") else None
    return tuple(
        replace(slot, shared=True) if index >= len(found) - last or (modes and modes[index] == "shared") else slot
        for index, slot in enumerate(found)
    )


def _searched(keys: Keys, blocks: Any) -> tuple[Slot, ...]:
    """Nemotron's searched layers: each block says what it kept of attention and feed-forward."""
    if not isinstance(blocks, list) or not 0 < len(blocks) <= LAYERS:
        keys.wrong(f"block_configs is {shown(blocks)}, not a list of 1 to {LAYERS} objects")
        return ()
    if keys.count("num_hidden_layers", len(blocks), most=LAYERS) != len(blocks):
        keys.wrong(f"block_configs has {len(blocks)} entries for {keys.count('num_hidden_layers')} layers")
    found = []
    for index, raw in enumerate(blocks):
        block = Keys(raw if isinstance(raw, dict) else {})
        if not all(isinstance(block.find(part)[1], dict) for part in ("attention", "ffn")):
            keys.wrong(f"block_configs[{index}] lacks attention or ffn")
            return ()
        found.append(_block(keys, block, index))
    return tuple(found)


def _block(keys: Keys, block: Keys, index: int) -> Slot:
    heads, hidden = keys.count("num_attention_heads"), keys.count("hidden_size")
    attends = not block.flag(("attention.no_op", False)) and not block.flag(("attention.replace_with_linear", False))
    feeds = not block.flag(("ffn.no_op", False)) and not block.flag(("ffn.replace_with_linear", False))
    group = block.count("attention.n_heads_in_group", least=1) if attends else 1
    width = block.optional("ffn.intermediate_size")
    scale = block.find("ffn.ffn_mult")[1]
    if feeds and width is None:
        if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= CHANNELS / hidden:
            block.wrong(f"ffn.ffn_mult is {shown(scale)}, not a number above 0")
            scale = 1.0
        width = -(-int(2 * scale * hidden / 3) // 256) * 256
    for mistake in block.mistakes:
        keys.wrong(f"block_configs[{index}].{mistake}")
    if attends and heads % group:
        keys.wrong(f"block_configs[{index}].attention.n_heads_in_group {group} does not divide {heads} heads")
    return Slot(
        mixer="full" if attends else "none",
        feed="dense" if feeds else "none",
        kv_heads=max(1, heads // group),
        width=width,
    )
