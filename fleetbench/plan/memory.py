"""What a deployment needs of each GPU's memory, part by part in bytes, and what is the most that fits. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

from fleetbench.catalog import lookup
from fleetbench.catalog.shapes import Layer, ModelShape
from fleetbench.catalog.types import FormatInfo, Vendor
from fleetbench.matrix.types import KvFormat, Parallel, Recipe

STARTS = 4096
"""Deployments whose sums are kept: cells of one launch differ in their load alone."""
SIXTEEN_BYTES = 2
STEP_TOK = 8192
"""Tokens of one prefill step at most: vLLM's usual `--max-num-batched-tokens` on a large GPU."""
CONTEXT_BYTES = 551 * 2**20
NCCL_BYTES = {1: 0, 2: 342 * 2**20}
NCCL_MANY_BYTES = 392 * 2**20
"""Driver, runtime and communication buffers on NVIDIA's GPUs. Source: ai-dynamo/aiconfigurator @ 095f58a (2026-08-21),
systems/*.yaml: `nccl_mem` 0, 342 and 392 MB for 1, 2 and 4 or more GPUs; `other_mem` before its safety margin, 551 MB.
Nobody says AMD's: taken as large. Of other devices none is counted."""
SHARED = frozenset({"bf16", "mxfp4", "nvfp4"})
"""Formats that GGUF has too, and whose checkpoints are mostly of the other kind."""
LOGIT_BYTES = 4
STATE_BYTES = 4
"""A linear layer's state is kept in 32 bits."""
MOST_TOK = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One term of a sum, on one GPU: what it is, its bytes, and how they were worked out."""

    name: str
    bytes: int
    how: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """What one GPU of a deployment holds; the terms are in `parts`, and the sum is `total_bytes`."""

    parts: tuple[Part, ...]

    @property
    def total_bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def of(self, name: str) -> int:
        """Bytes of the parts whose name begins with `name`: `weights`, `kv`, `activations`, `overhead`."""
        return sum(part.bytes for part in self.parts if part.name.startswith(name))


def footprint(
    shape: ModelShape,
    recipe: Recipe,
    parallel: Parallel,
    *,
    batch: int,
    context_tok: int,
    vendor: Vendor = "nvidia",
) -> Footprint:
    """Bytes on the fullest GPU of one replica.

    Args:
        shape: of the model.
        recipe: resolved.
        parallel: tensor and pipeline degree; every replica of `dp` holds the same.
        batch: sequences at once.
        context_tok: tokens of each sequence, prompt and output together.
        vendor: of the GPU: what the driver and communication take is counted where it is known.
    """
    return Footprint(
        parts=(
            *weight_parts(shape, recipe, parallel),
            kv_part(shape, recipe.kv, parallel, batch=batch, context_tok=context_tok),
            _activations(shape, parallel, batch=batch, context_tok=context_tok),
            _overhead(parallel, vendor),
        )
    )


@lru_cache(maxsize=STARTS)
def weight_parts(shape: ModelShape, recipe: Recipe, parallel: Parallel, *, least: bool = False) -> tuple[Part, ...]:
    """The weights' terms on the fullest GPU: what is quantized, what is not, the tables, and what every rank repeats.

    Args:
        shape: of the model.
        recipe: resolved.
        parallel: tensor and pipeline degree.
        least: with tables as narrow as any engine keeps them; they differ on formats that GGUF shares with others.
    """
    tp, stage = parallel.tp, _stage(shape, parallel)
    form = lookup.format_info(recipe.weights)
    bits = 16.0 if form is None else form.bits(recipe.group_size)
    table_bits = bits if form is not None and _covers_tables(form, least=least) else 16.0
    embed_bits = 16.0 if "embeddings" in recipe.protect else table_bits
    head_bits = 16.0 if "lm_head" in recipe.protect else table_bits
    narrow, left, kept = _split(shape, recipe)
    other = shape.final_params + sum(layer.other_params for layer in shape.layers)
    tables = [
        _term("weights: embedding", shape.embed_params, embed_bits, tp, note="tied to the head" if shape.tied else ""),
        _term("weights: lm_head", shape.head_params, head_bits, tp),
    ]
    if parallel.pp > 1:  # one is on the first stage and the other on the last
        tables = [max(tables, key=lambda part: part.bytes)]
    parts = (
        _term("weights: linear layers", narrow, bits, tp, stage, note=recipe.weights),
        _term("weights: linear layers that the publisher left", left, 16.0, tp, stage),
        _term("weights: protected layers", kept, 16.0, tp, stage, note="kept at 16 bits"),
        *tables,
        _term("weights: tables beside the embedding", shape.lookup_params, table_bits, tp),
        _term("weights: norms, biases, routers", other, 16.0, 1, stage, note="on every rank"),
    )
    return tuple(part for part in parts if part.bytes)


def weight_bytes(shape: ModelShape, recipe: Recipe) -> int:
    """Of the whole checkpoint, on however many GPUs."""
    return sum(part.bytes for part in weight_parts(shape, recipe, Parallel()))


def kv_token_bytes(shape: ModelShape, kv: KvFormat) -> float:
    """Cache of one more token, all layers that keep every token together; sliding and linear layers add nothing."""
    keys, values = _kv_bits(kv)
    return sum(
        count * (layer.k_channels * keys + layer.v_channels * values) / 8
        for layer, count in kinds(shape).items()
        if layer.attention == "full"
    )


def kv_part(shape: ModelShape, kv: KvFormat, parallel: Parallel, *, batch: int, context_tok: int) -> Part:
    """The attention cache on one GPU, see `kv_bytes`."""
    held: dict[tuple[int | None, Fraction], float] = {}
    for window, share, size in _held(shape, kv, parallel.tp):
        tokens = None if window is None else min(window, context_tok)
        held[tokens, share] = held.get((tokens, share), 0.0) + size
    stage = _shared(1, _stage(shape, parallel))
    terms = [
        f"{batch} x "
        + (f"{_number(size)} B of state" if tokens is None else f"{tokens:,} tokens x {_number(size)} B")
        + stage
        + _by_heads(share, parallel.tp)
        for (tokens, share), size in held.items()
    ]
    size = kv_bytes(shape, kv, parallel, batch=batch, context_tok=context_tok)
    return Part(name="kv cache", bytes=size, how=" + ".join(terms) or "no layer keeps any")


def kv_bytes(shape: ModelShape, kv: KvFormat, parallel: Parallel, *, batch: int, context_tok: int) -> int:
    """The attention cache on one GPU.

    Tensor parallelism shares it out by KV heads, so that more ranks than heads keep copies (and all of MLA's latent);
    pipeline parallelism by layers, and the longest stage counts.
    """
    return round(batch * _kv_terms(shape, kv, parallel).sequence_bytes(context_tok))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """What one sequence keeps on one GPU.

    fixed_bytes: whatever its length; windows: tokens kept at most, and bytes a token; the window of layers that keep
    every token is beyond any context.
    """

    fixed_bytes: float
    windows: tuple[tuple[int, float], ...]

    def sequence_bytes(self, context_tok: int) -> float:
        """Of a sequence of so many tokens."""
        total = self.fixed_bytes
        for window_tok, token_bytes in self.windows:
            total += (min(window_tok, context_tok)) * token_bytes
        return total


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The numbers of `footprint` for one deployment, ready for many loads; all of one GPU.

    weights_bytes, overhead_bytes: whatever the load; token_bytes: activations of a token of a prefill step;
    vocab_bytes: logits of a sequence.
    """

    weights_bytes: int
    overhead_bytes: int
    cache: Cache
    token_bytes: int
    vocab_bytes: int
    tp: int

    def terms(self, batch: int, context_tok: int) -> tuple[int, int, int, int]:
        """Bytes of weights, cache, activations and overhead for `batch` sequences of `context_tok` tokens."""
        step = min(batch * context_tok, STEP_TOK)
        activations = step * self.token_bytes + batch * self.vocab_bytes // self.tp
        cache = round(batch * self.cache.sequence_bytes(context_tok))
        return self.weights_bytes, cache, activations, self.overhead_bytes

    def total_bytes(self, batch: int, context_tok: int) -> int:
        """Their sum."""
        return sum(self.terms(batch, context_tok))


def demand(shape: ModelShape, recipe: Recipe, parallel: Parallel, vendor: Vendor = "nvidia") -> Demand:
    """What a deployment asks of each GPU, before a load is known."""
    return Demand(
        weights_bytes=sum(part.bytes for part in weight_parts(shape, recipe, parallel)),
        overhead_bytes=_overhead(parallel, vendor).bytes,
        cache=_kv_terms(shape, recipe.kv, parallel),
        token_bytes=_width(shape, parallel) * SIXTEEN_BYTES,
        vocab_bytes=shape.vocab_tok * LOGIT_BYTES,
        tp=parallel.tp,
    )


@cache
def kinds(shape: ModelShape) -> Counter[Layer]:
    """Its layers, equal ones counted together."""
    return Counter(shape.layers)


@lru_cache(maxsize=STARTS)
def _kv_terms(shape: ModelShape, kv: KvFormat, parallel: Parallel) -> Cache:
    fixed, windows, stage = 0.0, dict[int, float](), _stage(shape, parallel)
    for window, share, size in _held(shape, kv, parallel.tp):
        here = size * float(stage * share)
        if window is None:
            fixed += here
        else:
            windows[window] = windows.get(window, 0.0) + here
    return Cache(fixed_bytes=fixed, windows=tuple(windows.items()))


def _held(shape: ModelShape, kv: KvFormat, tp: int) -> Iterator[tuple[int | None, Fraction, float]]:
    """What all layers of a kind keep of a sequence: tokens at most (None: of no token), a rank's share, and bytes."""
    keys, values = _kv_bits(kv)
    for layer, count in kinds(shape).items():
        if layer.state_channels:
            yield None, Fraction(1, tp), float(count * layer.state_channels * STATE_BYTES)
        if layer.attention != "linear" and layer.k_channels:
            share = Fraction(-(-layer.kv_heads // tp), layer.kv_heads)
            size = count * (layer.k_channels * keys + layer.v_channels * values) / 8
            yield layer.window_tok or MOST_TOK, share, size


@cache
def _kv_bits(kv: KvFormat) -> tuple[float, float]:
    forms = (lookup.format_info(kv.k), lookup.format_info(kv.v))
    return (forms[0].bits() if forms[0] else 16.0, forms[1].bits() if forms[1] else 16.0)


def _split(shape: ModelShape, recipe: Recipe) -> tuple[int, int, int]:
    """Parameters of linear layers: in the recipe's format, left at 16 bits by the publisher, kept so by the recipe."""
    first = max((int(word.split()[1]) for word in recipe.protect if word.startswith("first ")), default=0)
    last = max((int(word.split()[1]) for word in recipe.protect if word.startswith("last ")), default=0)
    count = len(shape.layers)
    part = shape.quantized_part if recipe.weights == shape.quantized else "linear"
    narrow = left = kept = 0
    for index, layer in enumerate(shape.layers):
        if index < first or index >= count - last:
            kept += layer.linear_params
            continue
        apart = {"linear": 0, "ffn": layer.attention_params, "experts": layer.linear_params - layer.expert_params}[part]
        narrow += layer.linear_params - apart
        left += apart
    return narrow, left, kept


def _covers_tables(form: FormatInfo, *, least: bool) -> bool:
    """Whether embedding and output are in the format too, as in GGUF's own types; the others leave them at 16 bits."""
    own = form.ggml is not None and (least or bool(form.unit))
    return own or form.mixed or form.element_bits > 16  # noqa: PLR2004 - fp32 and tf32


def _stage(shape: ModelShape, parallel: Parallel) -> Fraction:
    """The share of the layers that the longest pipeline stage has."""
    count = max(1, len(shape.layers))
    return Fraction(-(-count // parallel.pp), count)


def _term(name: str, params: int, bits: float, tp: int, stage: Fraction = Fraction(1), *, note: str = "") -> Part:
    how = f"{params:,} x {_number(bits)} bits" + _shared(tp, stage) + (f" ({note})" if note else "")
    return Part(name=name, bytes=round(params * bits / 8 / tp * stage), how=how)


def _activations(shape: ModelShape, parallel: Parallel, *, batch: int, context_tok: int) -> Part:
    """The widest moment of a prefill step, and the logits of every sequence in 32 bits; nominal, engines differ."""
    step, width = min(STEP_TOK, batch * context_tok), _width(shape, parallel)
    how = (
        f"{step:,} tokens x {width:,} channels x {SIXTEEN_BYTES} B + {batch} x {shape.vocab_tok:,} logits x "
        f"{LOGIT_BYTES} B{_shared(parallel.tp, Fraction(1))} (nominal)"
    )
    logits = batch * shape.vocab_tok * LOGIT_BYTES // parallel.tp
    return Part(name="activations", bytes=step * width * SIXTEEN_BYTES + logits, how=how)


def _width(shape: ModelShape, parallel: Parallel) -> int:
    """Channels of a token that are there at once."""
    return 4 * shape.hidden + 2 * shape.ffn // parallel.tp


@cache
def _overhead(parallel: Parallel, vendor: Vendor) -> Part:
    if vendor not in {"nvidia", "amd"}:
        return Part(name="overhead", bytes=0, how="none counted: no figure for such a device")
    nccl = NCCL_BYTES.get(parallel.tp * parallel.pp, NCCL_MANY_BYTES)
    how = f"{CONTEXT_BYTES >> 20} MiB of driver and runtime" + (f" + {nccl >> 20} MiB of NCCL" if nccl else "")
    how += " (nominal)" if vendor == "nvidia" else " (nominal: NVIDIA's, AMD's are not known)"
    return Part(name="overhead", bytes=CONTEXT_BYTES + nccl, how=how)


def _shared(tp: int, stage: Fraction) -> str:
    """As factors: of the sum, one GPU has so much."""
    return (f" x {stage} of the layers" if stage < 1 else "") + (f" / tp {tp}" if tp > 1 else "")


def _by_heads(share: Fraction, tp: int) -> str:
    """The same, of a cache that is shared out by heads: where there are too few, ranks keep copies."""
    if share * tp == 1:
        return _shared(tp, Fraction(1))
    return " (on every rank)" if share == 1 else f" x {share} of the heads"


def _number(value: float) -> str:
    """With all digits that it has."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")
