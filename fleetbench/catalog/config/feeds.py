"""The feed-forward half of a layer: dense, or a mixture of experts. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from fleetbench.catalog.config.families import Family
from fleetbench.catalog.config.keys import EXPERTS, Keys
from fleetbench.catalog.config.layout import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """Parameters of the half of a layer that looks at one token; width: channels that one token has in it."""

    linear: int = 0
    active: int = 0
    experts: int = 0
    other: int = 0
    width: int = 0


def feed(keys: Keys, family: Family, slot: Slot) -> Feed:
    """Of the layer that `slot` describes."""
    if slot.feed == "none":
        return Feed()
    if slot.feed == "dense":
        return _dense(keys, family, dense_width(keys, family, slot))
    return _mixture(keys, family)


def routed(keys: Keys) -> tuple[int, int]:
    """Experts of a mixture, and those that one token uses; which may not be more."""
    experts = keys.count("num_experts", most=EXPERTS)
    active = keys.count("num_experts_per_tok", most=EXPERTS)
    if active > experts:
        known = keys.find("num_experts_per_tok")[0]
        keys.wrong(f"{known} {active} is more than {keys.find('num_experts')[0]} {experts}")
    return experts, active


def dense_width(keys: Keys, family: Family, slot: Slot) -> int:
    """Channels between a dense layer's matrices."""
    if slot.width is not None:
        return slot.width
    for name in ("intermediate_size_mlp", "dense_intermediate_size"):  # Llama 4, MiniMax M3
        if keys.has(name):
            return keys.count(name)
    hidden = keys.count("hidden_size")
    ratio = keys.count("expansion_ratio", family.widen, most=1 << 10)
    known = keys.has("intermediate_size") or family.gated
    width = keys.count("intermediate_size", None if known else ratio * hidden)
    if family.halved:
        width //= 2
    if keys.flag(("block_auto_adjust_ff_dim", False)):  # LFM2
        multiple = keys.count("block_multiple_of", 256)
        width = -(-(2 * width // 3) // multiple) * multiple
    return width * 2 if slot.shared and keys.flag(("use_double_wide_mlp", False)) else width


def _dense(keys: Keys, family: Family, width: int) -> Feed:
    hidden = keys.count("hidden_size")
    linear = (3 if family.gated else 2) * hidden * width
    bias = ((2 if family.gated else 1) * width + hidden) if keys.flag(family.mlp_bias) else 0
    return Feed(linear=linear, active=linear, other=bias, width=width)


def _mixture(keys: Keys, family: Family) -> Feed:
    hidden, (experts, active) = keys.count("hidden_size"), routed(keys)
    narrow = family.mixture == "narrow" or (family.mixture is None and keys.has("moe_intermediate_size"))
    name = "moe_intermediate_size" if narrow else "intermediate_size"
    width, inner = keys.count(name), keys.count("moe_latent_size", hidden)
    matrices = 3 if family.gated else 2
    one = matrices * inner * width
    latent = 0 if inner == hidden else 2 * hidden * inner
    shared = _shared_width(keys, family, width)
    beside = _dense(keys, family, dense_width(keys, family, _DENSE)).linear if _has_both(keys) else 0
    always = matrices * hidden * shared + latent + beside
    other = experts * hidden + (experts if family.router_bias else 0)
    other += hidden if family.shared_gate and shared else 0
    other += experts * ((matrices - 1) * width + hidden) if family.expert_bias else 0
    other += hidden + experts + 3 * hidden if _has_both(keys) else 0
    return Feed(
        linear=experts * one + always,
        active=active * one + always,
        experts=experts * one,
        other=other,
        width=active * width + shared,
    )


_DENSE = Slot(mixer="none", feed="dense")


def _has_both(keys: Keys) -> bool:
    """Gemma 4: a dense feed-forward beside the experts, three norms more, and a scale for each channel and expert."""
    return keys.flag(("enable_moe_block", False))


def _shared_width(keys: Keys, family: Family, width: int) -> int:
    """Channels of the experts that every token uses."""
    size = keys.optional("shared_expert_intermediate_size", least=0)
    if size is not None:
        return size
    return keys.count("n_shared_experts", family.shared, most=EXPERTS, least=0) * width
