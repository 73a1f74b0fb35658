"""Reads keys of a `config.json` and notes every mistake instead of raising one at a time. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

LAYERS = 10_000
CHANNELS = 1 << 24
EXPERTS = 4096
TOKENS = 1 << 30
_SHOWN = 40
_INT_SHOWN = 1 << 64

ALIASES: Mapping[str, tuple[str, ...]] = {
    # Names that other families have for what Llama's config.json calls so; the first that is there counts.
    "hidden_size": ("n_embd", "d_model", "model_dim"),
    "num_hidden_layers": ("n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_head_kv", "multi_query_group_num", "attn_config.kv_n_heads"),
    "head_dim": ("kv_channels", "attention_head_dim"),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size", "ffn_config.ffn_hidden_size"),
    "vocab_size": ("padded_vocab_size",),
    "max_position_embeddings": (
        "n_positions", "n_ctx", "max_seq_len", "max_sequence_length", "seq_length", "model_max_length",
    ),
    "num_experts": (
        "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts", "ffn_config.moe_num_experts",
    ),
    "num_experts_per_tok": (
        "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k", "top_k_experts", "ffn_config.moe_top_k",
    ),
    "n_shared_experts": ("num_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_ffn_hidden_size"),
    "shared_expert_intermediate_size": (
        "moe_shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim",
    ),
    "first_k_dense_replace": ("num_dense_layers", "moe_layer_start_index"),
    "moe_latent_size": ("routed_expert_hidden_size",),
    "num_nextn_predict_layers": ("mtp_num_hidden_layers",),
    "sliding_window": ("sliding_window_size", "window_size"),
    "layer_types": ("layers_block_type",),
    "mamba_heads": ("mamba_num_heads", "mamba_n_heads", "num_heads"),
    "mamba_head_dim": ("mamba_d_head", "head_dim"),
    "mamba_groups": ("n_groups", "mamba_n_groups"),
    "mamba_state": ("ssm_state_size", "mamba_d_state", "state_size"),
    "mamba_conv": ("conv_kernel", "mamba_d_conv"),
    "mamba_rank": ("mamba_dt_rank", "time_step_rank"),
    "mamba_expand": ("expand",),
}  # fmt: skip

Switch = bool | tuple[str, bool]
"""Whether something is there: always so, or as the key says, with what its absence means."""

Item = TypeVar("Item", int, str)


class Keys:
    """One JSON object of a config.json; `outer` is the one around it where a multimodal model nests its text model."""

    def __init__(self, raw: Mapping[str, Any], outer: Mapping[str, Any] | None = None) -> None:
        self._raw = raw
        self._outer = outer or {}
        self.defaults: Mapping[str, int] = {}
        self._sound: dict[str, int] = {}
        self.mistakes: list[str] = []

    def wrong(self, clause: str) -> None:
        if clause not in self.mistakes:
            self.mistakes.append(clause)

    def has(self, name: str) -> bool:
        return self.find(name)[1] is not None

    def nulled(self, name: str) -> bool:
        """Whether the key is there and says null: off, not left to a default."""
        return any(known in self._raw and self._raw[known] is None for known in (name, *ALIASES.get(name, ())))

    def find(self, name: str) -> tuple[str, Any]:
        """The key that is there for `name`, and its value; None for a key that is missing or null."""
        for known in (name, *ALIASES.get(name, ())):
            value: Any = self._raw
            for step in known.split("."):
                value = value.get(step) if isinstance(value, Mapping) else None
            if value is not None:
                return known, value
        return name, None

    def outside(self, name: str) -> Any:
        """The value of a key that multimodal models also keep outside of the text model; that one counts first."""
        found = self._outer.get(name)
        return self._raw.get(name) if found is None else found

    def count(self, name: str, default: int | None = None, *, most: int = CHANNELS, least: int = 1) -> int:
        """A whole number from `least` to `most`; 1 stands for one that is missing or wrong, which is noted."""
        known, value = self.find(name)
        if value is None:
            value = self.defaults.get(name, default)
        if value is None:
            self.wrong(f"{known} is missing")
            return 1
        return self._whole(known, _same(value), name, least=least, most=most)

    def optional(self, name: str, *, most: int = CHANNELS, least: int = 1) -> int | None:
        if not self.has(name) and name not in self.defaults:
            return None
        return self.count(name, most=most, least=least)

    def divides(self, whole: str, part: str) -> None:
        """Notes where the number of `whole` is no multiple of that of `part`; a wrong one was noted already."""
        if whole in self._sound and part in self._sound and self._sound[whole] % self._sound[part]:
            names = [self.find(name)[0] for name in (whole, part)]
            self.wrong(f"{names[0]} {self._sound[whole]} is no multiple of {names[1]} {self._sound[part]}")

    def flag(self, switch: Switch) -> bool:
        if isinstance(switch, bool):
            return switch
        known, value = self.find(switch[0])
        if value is None:
            return switch[1]
        if not isinstance(value, bool):
            self.wrong(f"{known} is {shown(value)}, neither true nor false")
        return value is True

    def text(self, name: str) -> str | None:
        known, value = self.find(name)
        if value is None or isinstance(value, str):
            return value
        self.wrong(f"{known} is {shown(value)}, not a word")
        return None

    def entries(
        self, name: str, kind: type[Item], count: int | None, *, longer: bool = False
    ) -> tuple[Item, ...] | None:
        """A list of `count` words or whole numbers, `longer` ones cut; None where it is missing or wrong."""
        known, value = self.find(name)
        if value is None:
            return None
        if not isinstance(value, list | tuple) or len(value) > LAYERS or not all(_is(item, kind) for item in value):
            words = "words" if kind is str else "whole numbers"
            self.wrong(f"{known} is {shown(value)}, not a list of at most {LAYERS} {words}")
            return None
        if count is not None and (len(value) < count or (len(value) > count and not longer)):
            self.wrong(f"{known} has {len(value)} entries for {count} layers")
            return None
        return tuple(value if count is None else value[:count])

    def _whole(self, known: str, value: Any, name: str, *, least: int, most: int) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(f"{known} is {shown(value)}, not a whole number")
            return 1
        if not least <= value <= most:
            self.wrong(f"{known} is {shown(value)}, not from {least} to {most}")
            return 1
        self._sound[name] = value
        return value


def shown(value: Any) -> str:
    """A value in a few words, whatever it is."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < _INT_SHOWN else "beyond 2^64"
    if isinstance(value, float):
        return str(value)
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else f"{value[:_SHOWN]}...")
    if value is None:
        return "null"
    return "an object" if isinstance(value, Mapping) else f"a {type(value).__name__}"


def _same(value: Any) -> Any:
    """One number for a list that says the same for every layer."""
    if not isinstance(value, list) or not value or any(item != value[0] for item in value):
        return value
    return value[0]


def _is(item: object, kind: type[int | str]) -> bool:
    return isinstance(item, kind) and not isinstance(item, bool)
