"""The sums that claims are judged by: every number in them comes out of `fleetbench.plan` and the catalog."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fleetbench.artifact import mixtures
from fleetbench.catalog import lookup
from fleetbench.catalog.shapes import Layer, ModelShape
from fleetbench.catalog.types import FormatInfo, GpuInfo
from fleetbench.matrix.types import KvFormat, Parallel, Recipe
from fleetbench.plan import memory, roofline, room
from fleetbench.plan.memory import Part
from tests.plan.claims.reading import Reading

ONE = Parallel()
BF16 = Recipe(name="bf16", weights="bf16")
FP16 = Recipe(name="fp16", weights="fp16")
FP8 = Recipe(name="fp8", weights="fp8", activations="fp8")
INT8 = Recipe(name="int8", weights="int8", activations="int8")
INT4 = Recipe(name="int4", weights="int4", group_size=128)
INT4_ALONE = Recipe(name="int4-alone", weights="int4")
NVFP4 = Recipe(name="nvfp4", weights="nvfp4", activations="nvfp4")
MXFP4 = Recipe(name="mxfp4", weights="mxfp4", activations="mxfp4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A shape, and how the sums call it."""

    name: str
    shape: ModelShape


def known(name: str) -> Model:
    shape = lookup.model_shape(name)
    assert shape is not None
    return Model(name=name, shape=shape)


def gpu(name: str) -> GpuInfo:
    info = lookup.gpu_info(name)
    assert info is not None
    return info


def form(name: str) -> FormatInfo:
    info = lookup.format_info(name)
    assert info is not None
    return info


LLAMA_8B, LLAMA_70B, LLAMA_405B = known("llama-3.1-8b"), known("llama-3.1-70b"), known("llama-3.1-405b")
H100 = gpu("h100")
_LAYERS, _NOMINAL = 80, 70_000_000_000
NOMINAL_70B = Model(
    name="70e9 parameters, every one in the format",
    shape=replace(
        LLAMA_70B.shape,
        layers=(
            Layer(
                attention="full", window_tok=None, heads=64, kv_heads=8, k_channels=1024, v_channels=1024,
                state_channels=0, linear_params=_NOMINAL // _LAYERS, active_params=_NOMINAL // _LAYERS, other_params=0,
            ),
        )
        * _LAYERS,
        embed_params=0,
        head_params=0,
        final_params=0,
    ),
)  # fmt: skip
"""What people mean by 70B in their heads, with the cache of the models of that size (80 layers, 8 KV heads of 128)."""


def weights(model: Model, recipe: Recipe) -> Reading:
    """GB of a checkpoint."""
    value = memory.weight_bytes(model.shape, recipe) / 1e9
    return Reading(
        assumed=f"{model.name}: {_weights_word(recipe)}",
        sum=_added(memory.weight_parts(model.shape, recipe, ONE)),
        value=value,
    )


def bits_per_weight(model: Model, recipe: Recipe) -> Reading:
    found = weights(model, recipe)
    return replace(
        found, sum=f"({found.sum}) x 8 / {model.shape.params:,}", value=found.value * 8e9 / model.shape.params
    )


def kv(model: Model, name: str, *, batch: int, context_tok: int) -> Reading:
    """GB of the cache, keys and values in one format."""
    part = memory.kv_part(model.shape, KvFormat(k=name, v=name), ONE, batch=batch, context_tok=context_tok)
    assumed = f"{model.name}, KV in {name} of {batch} x {context_tok:,} tokens"
    return Reading(assumed=assumed, sum=part.how, value=part.bytes / 1e9)


def beside_weights(model: Model, recipe: Recipe, *, batch: int, context_tok: int) -> Reading:
    """GB of cache, activations and overhead on one GPU."""
    parts = memory.footprint(model.shape, recipe, ONE, batch=batch, context_tok=context_tok).parts
    rest = [part for part in parts if not part.name.startswith("weights")]
    return Reading(
        assumed=f"{model.name}, KV in {recipe.kv}", sum=_added(rest), value=sum(part.bytes for part in rest) / 1e9
    )


def itl_floor_ms(model: Model, recipe: Recipe) -> Reading:
    """Milliseconds a token on one H100, of one sequence whose cache is next to empty."""
    floor = roofline.itl_floor(model.shape, recipe, H100, ONE, batch=1, context_tok=1)
    assert floor is not None
    assert H100.bandwidth_bytes_s is not None
    return Reading(
        assumed=f"{model.name}: {_weights_word(recipe)}",
        sum=f"{floor.read_bytes:,} B / {H100.bandwidth_bytes_s.value:.4g} B/s, {floor.bound}-bound, ms",
        value=floor.seconds * 1e3,
    )


def kv_over_weights_read(model: Model, recipe: Recipe, *, context_tok: int) -> Reading:
    """Of one decode step of one sequence: bytes of cache over bytes of weights."""
    cache = memory.kv_part(model.shape, recipe.kv, ONE, batch=1, context_tok=context_tok)
    floor = roofline.itl_floor(model.shape, recipe, H100, ONE, batch=1, context_tok=context_tok)
    assert floor is not None
    read = floor.read_bytes - cache.bytes
    return Reading(
        assumed=f"{model.name}: {_weights_word(recipe)}",
        sum=f"({cache.how} = {cache.bytes:,} B) / {read:,} B of weights",
        value=cache.bytes / read,
    )


def crossover_tok(model: Model, recipe: Recipe) -> Reading:
    """Tokens from which the cache is larger than the weights."""
    size, token = memory.weight_bytes(model.shape, recipe), memory.kv_token_bytes(model.shape, recipe.kv)
    return Reading(
        assumed=f"{model.name}: {_weights_word(recipe)}, KV in {recipe.kv}",
        sum=f"{size:,} B / {token:,.0f} B a token",
        value=size / token,
    )


def min_gpus(model: Model, recipe: Recipe, kind: GpuInfo, *, batch: int, context_tok: int) -> Reading:
    """The least power of two of GPUs that hold it by tensor parallelism; infinite where a node does not."""
    load = f"{batch} x {context_tok:,} tokens"
    found = room.smallest_tp(model.shape, recipe, kind, batch=batch, context_tok=context_tok, most=kind.gpus_per_node)
    tried = [found // 2, found] if found and found > 1 else [found or kind.gpus_per_node]
    sums = [_against(model, recipe, kind, Parallel(tp=tp), (batch, context_tok)) for tp in tried]
    return Reading(
        assumed=f"{model.name}: {_weights_word(recipe)}, KV in {recipe.kv}, {load}, by tensor parallelism",
        sum="; ".join(sums),
        value=found or math.inf,
    )


def min_gpus_in_a_row(model: Model, recipe: Recipe, kind: GpuInfo, *, batch: int, context_tok: int) -> Reading:
    """The least number of GPUs, any number, that hold it by pipeline parallelism."""
    load, found = f"{batch} x {context_tok:,} tokens", 1
    while not room.fits(
        memory.footprint(model.shape, recipe, Parallel(pp=found), batch=batch, context_tok=context_tok), kind
    ):
        found += 1
    tried = [found - 1, found] if found > 1 else [found]
    sums = [_against(model, recipe, kind, Parallel(pp=pp), (batch, context_tok)) for pp in tried]
    return Reading(
        assumed=f"{model.name}: {_weights_word(recipe)}, KV in {recipe.kv}, {load}, by pipeline parallelism",
        sum="; ".join(sums),
        value=found,
    )


def peak_tflops(kind: GpuInfo, name: str) -> Reading:
    figure = kind.flops[name]
    return Reading(assumed=f"{kind.title}, dense {name}", sum=f"{figure.value:.5g} / 1e12", value=figure.value / 1e12)


def bandwidth(kind: GpuInfo) -> Reading:
    assert kind.bandwidth_bytes_s is not None
    value = kind.bandwidth_bytes_s.value / 1e12
    return Reading(assumed=kind.title, sum=f"{value:.4g} TB/s", value=value)


def price(kind: GpuInfo) -> Reading:
    assert kind.price_usd_h is not None
    figure = kind.price_usd_h
    return Reading(assumed=f"{kind.title} ({figure.source})", sum=f"{figure.value:g} USD/h", value=figure.value)


def scale_overhead_pct(info: FormatInfo, group: int, assumed: str) -> Reading:
    """Bits of scales over bits of elements."""
    total = info.bits(group)
    return Reading(
        assumed=assumed,
        sum=f"({total:g} - {info.element_bits:g}) / {info.element_bits:g} bits x 100",
        value=(total - info.element_bits) / info.element_bits * 100,
    )


def mixture(model: Model, name: str) -> Reading:
    """GB of a GGUF file of mixed types, tensor by tensor by llama.cpp's own rules."""
    params = _by_type(name, _config(model))
    sums = {
        kind: memory.weight_bytes(_plain(model, count), Recipe(name=kind, weights=kind))
        for kind, count in params.items()
    }
    return Reading(
        assumed=f"{model.name} in {name}",
        sum=" + ".join(f"{params[kind]:,} x {form(kind).bits():g} bits ({kind})" for kind in sums),
        value=sum(sums.values()) / 1e9,
    )


def mixture_bits(model: Model, name: str) -> Reading:
    found, count = mixture(model, name), sum(_by_type(name, _config(model)).values())
    return replace(found, sum=f"({found.sum}) / {count:,}", value=found.value * 8e9 / count)


def ends_apart(model: Model, recipe: Recipe, ends: Recipe, each: int) -> Reading:
    """GB of a checkpoint whose `each` first and last layers are in another format than the rest."""
    layers = model.shape.layers
    outer = replace(
        model.shape, layers=layers[:each] + layers[-each:], embed_params=0, head_params=0, final_params=0, tied=False
    )
    inner = replace(model.shape, layers=layers[each:-each])
    return plus(
        weights(Model(name=f"{model.name}, {len(layers) - 2 * each} layers and the tables", shape=inner), recipe),
        weights(Model(name=f"{2 * each} layers", shape=outer), ends),
    )


def with_tables_narrow(model: Model) -> Model:
    """Embedding and head quantized like everything else."""
    shape = model.shape
    tables = shape.embed_params + shape.head_params
    layer = replace(shape.layers[0], linear_params=tables, active_params=tables, other_params=0)
    return Model(
        name=f"{model.name}, embedding and head in the format too",
        shape=replace(shape, layers=(*shape.layers, layer), embed_params=0, head_params=0, tied=False),
    )


def plus(first: Reading, second: Reading) -> Reading:
    return _joined(first, second, "+", first.value + second.value)


def less(first: Reading, second: Reading) -> Reading:
    return _joined(first, second, "-", first.value - second.value)


def over(first: Reading, second: Reading) -> Reading:
    return _joined(first, second, "/", first.value / second.value)


def _joined(first: Reading, second: Reading, sign: str, value: float) -> Reading:
    return Reading(
        assumed=f"[{first.assumed}] {sign} [{second.assumed}]",
        sum=f"({first.sum} = {first.value:.6g}) {sign} ({second.sum} = {second.value:.6g})",
        value=value,
    )


def _weights_word(recipe: Recipe) -> str:
    group = f" in groups of {recipe.group_size}" if recipe.group_size else ""
    return f"{recipe.weights}{group}"


def _added(parts: list[Part] | tuple[Part, ...]) -> str:
    return " + ".join(f"{part.name} {part.how} = {part.bytes:,} B" for part in parts)


def _against(model: Model, recipe: Recipe, kind: GpuInfo, parallel: Parallel, load: tuple[int, int]) -> str:
    needed = memory.footprint(model.shape, recipe, parallel, batch=load[0], context_tok=load[1])
    usable = room.usable_bytes(kind)
    assert usable is not None
    terms = " + ".join(f"{name} {needed.of(name) / 1e9:.2f}" for name in ("weights", "kv", "activations", "overhead"))
    degree = f"pp {parallel.pp}" if parallel.pp > 1 else f"tp {parallel.tp}"
    return f"{degree}: {terms} = {needed.total_bytes / 1e9:.2f} of {usable / 1e9:.2f} GB"


def _config(model: Model) -> Mapping[str, object]:
    found = lookup.published_model(model.name)
    assert found is not None
    return found.config


def _plain(model: Model, count: int) -> ModelShape:
    """One matrix of so many weights."""
    layer = replace(model.shape.layers[0], linear_params=count, active_params=count, other_params=0)
    return replace(model.shape, layers=(layer,), embed_params=0, head_params=0, final_params=0, tied=False)


def _by_type(name: str, config: Mapping[str, object]) -> Counter[str]:
    """Weights of each GGUF type in a Llama of this config; norms, a few vectors, are left out."""

    def whole(key: str) -> int:
        value = config[key]
        assert isinstance(value, int)
        return value

    hidden, ffn, layers = whole("hidden_size"), whole("intermediate_size"), whole("num_hidden_layers")
    heads, kv_heads = whole("num_attention_heads"), whole("num_key_value_heads")
    kv_width = hidden // heads * kv_heads
    network = mixtures.Network(layers=layers, heads=heads, kv_heads=kv_heads)
    matrices = {
        "attn_q": (hidden, hidden), "attn_k": (hidden, kv_width), "attn_v": (hidden, kv_width),
        "attn_output": (hidden, hidden), "ffn_gate": (hidden, ffn), "ffn_up": (hidden, ffn), "ffn_down": (ffn, hidden),
    }  # fmt: skip
    tensors = {
        f"blk.{layer}.{part}.weight": shape for layer in range(layers) for part, shape in matrices.items()
    } | dict.fromkeys((mixtures.EMBEDDING, mixtures.OUTPUT), (hidden, whole("vocab_size")))
    found: Counter[str] = Counter()
    for tensor, (row, rows) in tensors.items():
        kind = mixtures.type_of(mixtures.MIXTURES[name], network, tensor, row)
        found[kind.name.lower()] += row * rows
    return found
