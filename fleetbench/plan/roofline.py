"""The least time that the hardware's memory and matrix units allow: what is measured below it is a measuring error.

Every term is a lower bound: weights and cache are read once, at the full bandwidth; products run at the dense peak of
the fastest units that could take them; nothing else takes time. Source of the model: Williams, Waterman, Patterson,
"Roofline", CACM 52(4), 2009.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache, lru_cache

from fleetbench.catalog import lookup
from fleetbench.catalog.shapes import Layer, ModelShape
from fleetbench.catalog.types import FormatInfo, GpuInfo
from fleetbench.matrix.types import Cell, LoadPoint, Parallel, Recipe
from fleetbench.plan.memory import MOST_TOK, STARTS, Cache, demand, kinds, weight_parts

SIXTEEN_BITS = 16.0
_GGUF_WIDE = ("f16", "f32")
"""GGUF's own words for wide formats: an engine that uses them reads such files."""


ALONE = Parallel()
"""One GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Seconds at least, and what sets them.

    read_bytes: what each GPU reads; flop: what each GPU computes; bound: `memory` or `compute`.
    """

    seconds: float
    read_bytes: int
    flop: float
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """The floors of one deployment, ready for many loads.

    bandwidth_bytes_s: of one GPU; read_bytes: weights that one token needs, on one GPU; cache: of a sequence, all ranks
    together; token_flop: products of one token with all active weights, layer_flop: with those of layers, head_flop:
    with the head, all of them on all ranks; windows: of a prompt's attention, tokens seen at most, and FLOP for each
    pair of tokens; product_s, attention_s: of one FLOP at the peak, 0 where none is known.
    """

    bandwidth_bytes_s: float
    read_bytes: int
    cache: Cache
    token_flop: float
    head_flop: float
    layer_flop: float
    windows: tuple[tuple[int, float], ...]
    product_s: float
    attention_s: float
    tp: int
    pp: int

    def itl(self, batch: int, context_tok: int) -> Floor:
        """Of one output token, see `itl_floor`."""
        staged = batch / self.pp if batch > self.pp else 1.0
        held = round(round(self.cache.sequence_bytes(context_tok)) * staged / self.tp)
        flop = self.token_flop * staged / self.tp
        return self._floor(self.read_bytes + held, flop, 0.0)

    def ttft(self, context_tok: int) -> Floor:
        """Of the first token of a prompt, see `ttft_floor`."""
        attention = 0.0
        for window_tok, flop in self.windows:
            attention += flop * context_tok * (min(window_tok, context_tok))
        ranks = self.tp * self.pp
        products = self.head_flop + self.layer_flop * context_tok
        return self._floor(self.read_bytes, products / ranks, attention / ranks)

    def _floor(self, read: int, products: float, attention: float) -> Floor:
        reading = read / self.bandwidth_bytes_s
        computing = products * self.product_s + attention * self.attention_s
        if reading >= computing:
            return Floor(seconds=reading, read_bytes=read, flop=products + attention, bound="memory")
        return Floor(seconds=computing, read_bytes=read, flop=products + attention, bound="compute")


def roof(shape: ModelShape, recipe: Recipe, gpu: GpuInfo, parallel: Parallel) -> Roof | None:
    """What bounds a deployment; None where the bandwidth is unknown."""
    if gpu.bandwidth_bytes_s is None:
        return None
    layers, windows = 0.0, dict[int, float]()
    for layer, count in kinds(shape).items():
        layers += count * 2.0 * layer.active_params
        if layer.attention != "linear":
            window = layer.window_tok or MOST_TOK
            windows[window] = windows.get(window, 0.0) + count * 2.0 * layer.heads * shape.head_dim
    return Roof(
        bandwidth_bytes_s=gpu.bandwidth_bytes_s.value,
        read_bytes=_read_bytes(shape, recipe, parallel.tp),
        cache=demand(shape, recipe, ALONE).cache,
        token_flop=2.0 * shape.active_params,
        head_flop=2.0 * (shape.embed_params if shape.tied else shape.head_params),
        layer_flop=layers,
        windows=tuple(windows.items()),
        product_s=_flop_s(gpu, _of_products(recipe)),
        attention_s=_flop_s(gpu, _of_attention(recipe)),
        tp=parallel.tp,
        pp=parallel.pp,
    )


def itl_floor(
    shape: ModelShape, recipe: Recipe, gpu: GpuInfo, parallel: Parallel, *, batch: int, context_tok: int
) -> Floor | None:
    """Seconds per output token of one sequence; None where the bandwidth is unknown.

    Reads of a decode step: the weights that one token is multiplied with (of a mixture only its own experts, as if
    all sequences chose the same), no embedding table unless it is the head, and the cache of `batch` sequences, of
    which ranks may each read a part even where they cannot share it by heads (by sequences, or by tokens).
    Pipeline stages read their weights one after another, but may share the sequences out among them.

    Args:
        shape: of the model.
        recipe: resolved.
        gpu: one of the GPUs.
        parallel: tensor and pipeline degree.
        batch: sequences at once, on one replica.
        context_tok: tokens that each sequence holds at least while it decodes: its prompt.
    """
    found = roof(shape, recipe, gpu, parallel)
    return None if found is None else found.itl(batch, context_tok)


def ttft_floor(
    shape: ModelShape, recipe: Recipe, gpu: GpuInfo, parallel: Parallel, *, context_tok: int
) -> Floor | None:
    """Seconds from a request to its first token, were it alone; None where the bandwidth is unknown.

    Products with every weight for every prompt token, the head for the last one, attention over what came before
    (half of the square, within the window where it slides), against one read of the weights. Pipeline stages may
    work on parts of the prompt at once.
    """
    found = roof(shape, recipe, gpu, parallel)
    return None if found is None else found.ttft(context_tok)


def peak_flop_s(gpu: GpuInfo, name: str) -> float | None:
    """FLOP/s that products of numbers in a format cannot exceed; None where no figure at hand bounds them.

    The format's own units run them, or where it is not native the next wider ones, or any wider still: the greatest
    of these peaks. Where the catalog lacks the peak of the units, that of narrower ones bounds it, for halving the
    width never slows a matrix unit down; without narrower ones nothing does.

    Args:
        gpu: the kind of hardware.
        name: of the format.
    """
    bits, native = _bits(name), {each: _bits(each) for each in gpu.native}
    if name not in native:
        wider = [width for width in native.values() if width >= bits]
        bits = min(wider, default=bits)
    figures = [(each, _bits(each), figure.value) for each, figure in gpu.flops.items()]
    known = any(each == name if name in native else width == bits for each, width, _ in figures)
    if known:
        return max(value for _, width, value in figures if width >= bits)
    return max(value for *_, value in figures) if any(width <= bits for _, width, _ in figures) else None


def _of_products(recipe: Recipe) -> str:
    """The format in which weights and activations meet: the activations', for weights are widened to them.

    llama.cpp narrows activations by itself where weights are in a quantized type of GGUF: to 8 bits, or for types that
    GGUF shares with others (MXFP4, NVFP4) to the type itself. What nobody chose may be as narrow as the weights.
    """
    form = lookup.format_info(recipe.weights)
    if form is not None and _in_gguf(form):
        if form.unit:
            return "int8"
        if recipe.activations in _GGUF_WIDE:
            return form.name
    return _operand(recipe.weights if recipe.activations == "auto" else recipe.activations)


def _of_attention(recipe: Recipe) -> str:
    """The narrowest that queries, keys and values may meet in: engines differ in when they widen a narrow cache."""
    named = (recipe.activations, recipe.attention, recipe.kv.k, recipe.kv.v)
    return min(map(_operand, named), key=_bits)


def _operand(name: str) -> str:
    """What units multiply for a format, `bf16` for everything of 16 bits and more."""
    form = lookup.format_info(name)
    if form is None:
        return "bf16"
    if form.unit and _in_gguf(form):
        return "int8"
    unit = form.unit or form.name
    return unit if _bits(unit) < SIXTEEN_BITS else "bf16"


def _in_gguf(form: FormatInfo) -> bool:
    """Whether it is a quantized type of GGUF files, or a mixture of such."""
    return form.mixed or (form.ggml is not None and form.element_bits < SIXTEEN_BITS)


@cache
def _bits(name: str) -> float:
    form = lookup.format_info(name)
    return form.element_bits if form else SIXTEEN_BITS


@lru_cache(maxsize=STARTS)
def _read_bytes(shape: ModelShape, recipe: Recipe, tp: int) -> int:
    """Weights that one token needs, on one GPU: other experts, and tables that it looks up, stay where they are."""
    looked_up = {"weights: tables beside the embedding", *(() if shape.tied else ("weights: embedding",))}
    parts = weight_parts(_of_one_token(shape), recipe, Parallel(tp=tp), least=True)
    return sum(part.bytes for part in parts if part.name not in looked_up)


@cache
def _of_one_token(shape: ModelShape) -> ModelShape:
    """With the active experts only."""

    def active(layer: Layer) -> Layer:
        resting = layer.linear_params - layer.active_params
        return replace(layer, linear_params=layer.active_params, expert_params=max(0, layer.expert_params - resting))

    return replace(shape, layers=tuple(active(layer) for layer in shape.layers))


def _flop_s(gpu: GpuInfo, name: str) -> float:
    """Seconds of one product in a format; where no peak is known for it, its products take no time."""
    peak = peak_flop_s(gpu, name)
    return 1.0 / peak if peak else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CellFloors:
    """Milliseconds that a cell cannot beat; None where the hardware's figures or the model's shape are unknown."""

    ttft_ms: float | None = None
    itl_ms: float | None = None


def cell_roof(cell: Cell) -> Roof | None:
    """What bounds a cell, whatever its load: the same for all cells of a launch."""
    gpu, shape = lookup.gpu_info(cell.hardware), cell.model.shape
    return None if gpu is None or shape is None else roof(shape, cell.recipe, gpu, cell.parallel)


def cell_floors(cell: Cell, bound: Roof | None) -> CellFloors:
    """Floors of one load point: TTFT of a request that is alone, ITL while `batch` prompts are in the cache.

    Args:
        cell: the load point; with speculative decoding it has no floor of ITL, for a step brings several tokens.
        bound: of `cell_roof`.
    """
    work = cell.work
    if bound is None or not isinstance(work, LoadPoint):
        return CellFloors()
    batch = max(1, (work.batch or 1) // cell.parallel.dp)
    itl_ms = None if cell.recipe.draft is not None else bound.itl(batch, work.context_tok).seconds * 1e3
    return CellFloors(ttft_ms=bound.ttft(work.context_tok).seconds * 1e3, itl_ms=itl_ms)
