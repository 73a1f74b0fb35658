"""The shape of a model, out of its `config.json`: what its weights and its cache cost. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Attention = Literal["full", "sliding", "linear"]

QuantizedPart = Literal["linear", "ffn", "experts"]
"""What a published checkpoint quantizes: every linear layer, those of the feed-forward, or the routed experts alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One decoder layer; counts of parameters and channels.

    attention: `full` keeps every token in the cache, `sliding` the last `window_tok` (fewer than the model's context),
    `linear` a state of fixed size, which is 0 for a layer that mixes no tokens.
    k_channels, v_channels: channels that the cache keeps of a token, all KV heads together; both 0 where an earlier
    layer's are used. MLA: one latent that serves as key and value, k_channels = kv_lora_rank + qk_rope_head_dim and
    v_channels = 0; a sparse indexer's keys are in k_channels; one cache entry for several tokens (DeepSeek V4) counts
    as its channels for each token, rounded up, without the window beside it. kv_heads: heads that tensor parallelism
    can share the cache out by (MLA: 1, for every rank keeps the latent whole). state_channels: numbers in a linear
    layer's state, its short convolution's inputs included; also of a state beside full attention.
    linear_params: parameters of matrix multiplications that quantization covers, all experts included;
    active_params: of them, those that one token uses; attention_params, expert_params: of them, those of the
    attention (or what stands in its place), and of all routed experts; other_params: norms, biases, routers,
    convolutions.
    """

    attention: Attention
    window_tok: int | None
    heads: int
    kv_heads: int
    k_channels: int
    v_channels: int
    state_channels: int
    linear_params: int
    active_params: int
    other_params: int
    attention_params: int = 0
    expert_params: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """A decoder-only transformer; counts, in tokens, channels or parameters.

    head_dim: channels of one attention head, of its value where that is narrower. ffn: channels that one token has
    between the matrices of the widest feed-forward, its active experts together. max_context_tok: with the scaling
    of positions that the file asks for. embed_params: the embedding table; head_params: the output projection, 0
    where it is tied to the embedding; lookup_params: further tables that are looked up, never multiplied with
    (learned positions, Gemma's embeddings per layer). final_params: the last norm, and what else stands outside of
    the layers. dtype: of the published checkpoint (`bf16`, `fp16`, `fp32`), of what it does not quantize; quantized:
    the format that the rest of it is in, None where it is not quantized, and `quantized_part` which rest. experts,
    active_experts: of each MoE layer, 0 for a dense model. mtp_params: of layers for multi-token prediction that the
    checkpoint holds besides; not in `params`. uncounted: parts of a multimodal model that are not counted, by the
    names of their configs. guessed: its architecture is none that fleetbench knows, and was read as Llama's.
    """

    architecture: str
    layers: tuple[Layer, ...] = field(hash=False)
    hidden: int
    vocab_tok: int
    max_context_tok: int
    head_dim: int
    ffn: int
    embed_params: int
    head_params: int
    final_params: int
    tied: bool
    experts: int
    active_experts: int
    dtype: str
    quantized: str | None
    quantized_part: QuantizedPart = "linear"
    lookup_params: int = 0
    mtp_params: int = 0
    uncounted: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def params(self) -> int:
        """All that the main model multiplies with or looks up; without multi-token prediction and other towers."""
        inside = sum(layer.linear_params + layer.other_params for layer in self.layers)
        return self.embed_params + self.head_params + self.lookup_params + self.final_params + inside

    @property
    def active_params(self) -> int:
        """Parameters that one token is multiplied with: active experts only, no embedding table unless it is tied."""
        head = self.embed_params if self.tied else self.head_params
        return head + self.final_params + sum(layer.active_params + layer.other_params for layer in self.layers)

    @property
    def quantized_params(self) -> int:
        """Of `params`, those that the published checkpoint keeps in its `quantized` format."""
        if self.quantized is None:
            return 0
        if self.quantized_part == "experts":
            return sum(layer.expert_params for layer in self.layers)
        kept = 0 if self.quantized_part == "linear" else sum(layer.attention_params for layer in self.layers)
        return sum(layer.linear_params for layer in self.layers) - kept

    @property
    def attention(self) -> str:
        """`mha`, `gqa`, `mqa` or `mla` of its first layer with a cache; `linear` where none has one."""
        layer = next((layer for layer in self.layers if layer.k_channels), None)
        if layer is None:
            return "linear"
        if not layer.v_channels:
            return "mla"
        if layer.kv_heads == layer.heads:
            return "mha"
        return "mqa" if layer.kv_heads == 1 else "gqa"
