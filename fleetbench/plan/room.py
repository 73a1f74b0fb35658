"""Whether a deployment has room on its GPUs, and what is the most that fits. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from fleetbench.catalog import lookup
from fleetbench.catalog.shapes import ModelShape
from fleetbench.catalog.types import GpuInfo
from fleetbench.matrix.types import Cell, LoadPoint, Parallel, Recipe
from fleetbench.plan.memory import MOST_TOK, Demand, Footprint, demand, kinds

ALONE = Parallel()

USABLE_RATIO = 0.92
"""Of the memory that a GPU reports; the rest is for gaps between allocations and for what the terms leave out.
Source: vLLM's default for `gpu_memory_utilization` (0.32.0, config/cache.py, read 2026-11-24)."""
DEFAULT_RATIO_SOURCE = "vLLM's default"
MOST_DEGREE = 1 << 11


def smallest_tp(
    shape: ModelShape,
    recipe: Recipe,
    gpu: GpuInfo,
    parallel: Parallel = ALONE,
    *,
    batch: int,
    context_tok: int,
    most: int,
) -> int | None:
    """The least of `degrees` at which it fits; None where none does, or nobody knows the memory."""
    return least(degrees(shape, recipe, gpu, parallel, most=most), usable_bytes(gpu), batch, context_tok)


def degrees(shape: ModelShape, recipe: Recipe, gpu: GpuInfo, parallel: Parallel, *, most: int) -> dict[int, Demand]:
    """What each tensor-parallel degree asks of a GPU: powers of two up to `most` GPUs that divide the heads.

    The pipeline degree stays as in `parallel`.
    """
    steps = [1 << power for power in range(MOST_DEGREE.bit_length()) if 1 << power <= max(most, 1)]
    return {tp: demand(shape, recipe, replace(parallel, tp=tp), gpu.vendor) for tp in steps if divides(shape, tp)}


def least(by_degree: Mapping[int, Demand], usable: int | None, batch: int, context_tok: int) -> int | None:
    """The least degree at which a load fits; None where none does, or nobody knows the memory."""
    if usable is None:
        return None
    return min((tp for tp, asked in by_degree.items() if asked.total_bytes(batch, context_tok) <= usable), default=None)


def cell_demand(cell: Cell) -> tuple[Demand | None, int | None]:
    """What any load of a cell's start asks of a GPU, and what it may fill there; None where nobody knows."""
    gpu, shape = lookup.gpu_info(cell.hardware), cell.model.shape
    if gpu is None:
        return None, None
    asked = demand(shape, cell.recipe, cell.parallel, gpu.vendor) if shape is not None else None
    return asked, usable_bytes(gpu)


def needed_bytes(cell: Cell, asked: Demand | None) -> int | None:
    """Of one GPU; None where the load does not say how many sequences there are at once (a rate, a suite)."""
    work = cell.work
    if asked is None or not isinstance(work, LoadPoint) or work.batch is None:
        return None
    return asked.total_bytes(replica_batch(work.batch, cell.parallel), work.context_tok + work.output_tok)


def replica_batch(batch: int, parallel: Parallel) -> int:
    """Sequences at once on the fullest replica."""
    return -(-batch // parallel.dp)


def largest_batch(shape: ModelShape, recipe: Recipe, gpu: GpuInfo, parallel: Parallel, *, context_tok: int) -> int:
    """The most sequences of `context_tok` tokens that fit; 0 where not even one does."""
    return most_sequences(demand(shape, recipe, parallel, gpu.vendor), usable_bytes(gpu), context_tok)


def most_sequences(asked: Demand, room: int | None, context_tok: int) -> int:
    """The same, of a demand and the bytes that it may fill; None where nobody knows them."""
    return _most(lambda batch: room is None or asked.total_bytes(batch, context_tok) <= room, MOST_TOK)


def largest_context(shape: ModelShape, recipe: Recipe, gpu: GpuInfo, parallel: Parallel, *, batch: int) -> int:
    """The most tokens a sequence that fit, never more than the model was made for; 0 where not even one does."""
    asked = demand(shape, recipe, parallel, gpu.vendor)
    return _most(lambda context_tok: within(asked.total_bytes(batch, context_tok), gpu), shape.max_context_tok)


def fits(needed: Footprint, gpu: GpuInfo) -> bool:
    """Whether it is within what an engine may use of the device; True where nobody knows its memory."""
    return within(needed.total_bytes, gpu)


def within(needed: int, gpu: GpuInfo) -> bool:
    """The same, of a sum."""
    usable = usable_bytes(gpu)
    return usable is None or needed <= usable


def usable_bytes(gpu: GpuInfo) -> int | None:
    """What an engine may fill of one device; None where nobody knows its memory, or which part it may use."""
    ratio, _ = usable_ratio(gpu)
    return None if gpu.memory_bytes is None or ratio is None else int(ratio * gpu.memory_bytes.value)


def usable_ratio(gpu: GpuInfo) -> tuple[float | None, str]:
    """Which part of its memory that is, and whose word: the catalog's, all of a CPU's, of a GPU what vLLM takes.

    Of unified memory a GPU may use a part that only its maker knows: None where the catalog does not have it.
    """
    if gpu.usable_ratio is not None:
        return gpu.usable_ratio.value, gpu.usable_ratio.source
    if gpu.vendor == "apple":
        return None, "not known"
    return (1.0, "of a CPU all") if gpu.vendor == "cpu" else (USABLE_RATIO, DEFAULT_RATIO_SOURCE)


def divides(shape: ModelShape, tp: int) -> bool:
    """Whether every layer's heads can be shared out evenly, those of the cache also by keeping copies."""
    return all(
        layer.heads % tp == 0 and (layer.kv_heads % tp == 0 or tp % layer.kv_heads == 0)
        for layer in kinds(shape)
        if layer.heads
    )


def _most(holds: Callable[[int], bool], limit: int) -> int:
    """The largest number up to `limit` for which `holds`, which never becomes true again once it was false."""
    low, high = 0, 1
    while high <= limit and holds(high):
        low, high = high, high * 2
    high = min(high, limit + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
