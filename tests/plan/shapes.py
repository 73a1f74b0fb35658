"""Model shapes for tests: random ones, and known ones by name."""

from __future__ import annotations

from hypothesis import strategies as st

from fleetbench.catalog import lookup
from fleetbench.catalog.shapes import Attention, Layer, ModelShape
from fleetbench.catalog.types import Figure, GpuInfo

GB = 10**9


def known(name: str) -> ModelShape:
    shape = lookup.model_shape(name)
    assert shape is not None
    return shape


def gpu(name: str) -> GpuInfo:
    info = lookup.gpu_info(name)
    assert info is not None
    return info


def figure(value: float) -> Figure:
    return Figure(value=value, source="a test's own", date="2026-11-24")


def layer(
    attention: Attention = "full",
    *,
    heads: int = 8,
    kv_heads: int = 8,
    head_dim: int = 64,
    latent: int = 0,
    window_tok: int | None = None,
    state_channels: int = 0,
    linear: int = 1_000_000,
    active: int | None = None,
    other: int = 1000,
) -> Layer:
    """One layer; `latent` channels in place of keys and values by head."""
    cached = attention != "linear"
    width = kv_heads * head_dim if cached else 0
    return Layer(
        attention=attention,
        window_tok=window_tok,
        heads=heads,
        kv_heads=1 if latent else kv_heads,
        k_channels=latent or width,
        v_channels=0 if latent else width,
        state_channels=state_channels,
        linear_params=linear,
        active_params=linear if active is None else active,
        other_params=other,
    )


def shape(*layers: Layer, tied: bool = False, vocab_tok: int = 32_000, hidden: int = 512) -> ModelShape:
    table = vocab_tok * hidden
    return ModelShape(
        architecture="TestForCausalLM",
        layers=layers,
        hidden=hidden,
        vocab_tok=vocab_tok,
        max_context_tok=32_768,
        head_dim=64,
        ffn=4 * hidden,
        embed_params=table,
        head_params=0 if tied else table,
        final_params=hidden,
        tied=tied,
        experts=0,
        active_experts=0,
        dtype="bf16",
        quantized=None,
    )


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    kv_heads = draw(st.sampled_from([1, 2, 4, 8]))
    attention: Attention = draw(st.sampled_from(["full", "full", "sliding", "linear"]))
    linear = draw(st.integers(10_000, 10**9))
    return layer(
        attention,
        heads=kv_heads * draw(st.sampled_from([1, 2, 8])),
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([64, 128])),
        latent=draw(st.sampled_from([0, 0, 576])) if attention == "full" else 0,
        window_tok=draw(st.integers(1, 5000)) if attention == "sliding" else None,
        state_channels=draw(st.integers(1, 10**6)) if attention == "linear" else 0,
        linear=linear,
        active=draw(st.integers(1, linear)),
        other=draw(st.integers(0, 10**5)),
    )


@st.composite
def shapes(draw: st.DrawFn) -> ModelShape:
    kinds = draw(st.lists(layers(), min_size=1, max_size=3))
    repeated = [kind for kind in kinds for _ in range(draw(st.integers(1, 8)))]
    return shape(
        *repeated,
        tied=draw(st.booleans()),
        vocab_tok=draw(st.integers(1000, 250_000)),
        hidden=draw(st.sampled_from([512, 4096])),
    )
