"""A Llama in torch as functions over its parameters, which carry Hugging Face's names."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from fleetbench.artifact.hf import hf_name
from fleetbench.artifact.llama import Shape, layer_shapes

Params = dict[str, Tensor]
_PLAIN_ATTENTION_TOK = 256


def initial(shape: Shape, seed: int) -> Params:
    """Parameters to start from: norms 1, matrices normal, those that write to the residual stream smaller."""
    draws = torch.Generator().manual_seed(seed)

    def normal(dims: tuple[int, ...], deviation: float) -> Tensor:
        return (torch.randn(dims, generator=draws) * deviation).requires_grad_()

    table = (shape.vocab, shape.width)
    params = {"model.embed_tokens.weight": normal(table, 0.5)}
    for layer in range(shape.layers):
        for name, dims in layer_shapes(shape).items():
            to_stream = name in {"attn_output", "ffn_down"}
            deviation = 0.02 / math.sqrt(2 * shape.layers) if to_stream else 0.02
            params[hf_name(layer, name)] = (
                torch.ones(dims, requires_grad=True) if len(dims) == 1 else normal(dims, deviation)
            )
    params["model.norm.weight"] = torch.ones(shape.width, requires_grad=True)
    params["lm_head.weight"] = normal(table, 0.02)
    return params


def hidden(params: Params, ids: Tensor, shape: Shape) -> Tensor:
    """Final states [sequences, tokens, width] of token ids [sequences, tokens]; `lm_head` makes them logits."""
    states = functional.embedding(ids, params["model.embed_tokens.weight"])
    turns = _turns(ids.shape[1], shape)
    for layer in range(shape.layers):
        weights = {name: params[hf_name(layer, name)] for name in layer_shapes(shape)}
        states = states + _attention(weights, _norm(states, weights["attn_norm"], shape), turns, shape)
        states = states + _feed_forward(weights, _norm(states, weights["ffn_norm"], shape))
    return _norm(states, params["model.norm.weight"], shape)


def _norm(states: Tensor, scale: Tensor, shape: Shape) -> Tensor:
    return functional.rms_norm(states, (shape.width,), scale, shape.norm_eps)


def _turns(tokens: int, shape: Shape) -> tuple[Tensor, Tensor]:
    """Cosine and sine [tokens, head_dim / 2] of each position's rotations."""
    frequency = 1.0 / shape.rope_theta ** (torch.arange(0, shape.head_dim, 2).float() / shape.head_dim)
    angle = torch.outer(torch.arange(tokens).float(), frequency)
    return torch.cos(angle), torch.sin(angle)


def _rotate(heads: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate channel i of each head with channel i + head_dim / 2."""
    cosine, sine = turns
    half = heads.shape[-1] // 2
    first, second = heads[..., :half], heads[..., half:]
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], -1)


def _attention(weights: Params, states: Tensor, turns: tuple[Tensor, Tensor], shape: Shape) -> Tensor:
    sequences, tokens, _ = states.shape

    def heads(name: str, count: int) -> Tensor:
        return functional.linear(states, weights[name]).view(sequences, tokens, count, shape.head_dim).transpose(1, 2)

    query = _rotate(heads("attn_q", shape.heads), turns)
    share = shape.heads // shape.kv_heads
    key = _rotate(heads("attn_k", shape.kv_heads), turns).repeat_interleave(share, 1)
    value = heads("attn_v", shape.kv_heads).repeat_interleave(share, 1)
    mixed = _mix(query, key, value).transpose(1, 2).reshape(sequences, tokens, -1)
    return functional.linear(mixed, weights["attn_output"])


def _mix(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    tokens = query.shape[-2]
    if tokens > _PLAIN_ATTENTION_TOK:
        return functional.scaled_dot_product_attention(query, key, value.to(query.dtype), is_causal=True)
    # Short sequences on a CPU: plain products are about three times as fast as the fused kernel.
    scores = (query @ key.transpose(-1, -2)).float() / math.sqrt(query.shape[-1])
    later = torch.ones(tokens, tokens, dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -1e9).softmax(-1).to(value.dtype) @ value


def _feed_forward(weights: Params, states: Tensor) -> Tensor:
    gate = functional.silu(functional.linear(states, weights["ffn_gate"]))
    return functional.linear(gate * functional.linear(states, weights["ffn_up"]), weights["ffn_down"])
