"""One question answered: does a model, so quantized, fit so many of these GPUs, and how fast could it be at best?"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fleetbench.catalog.shapes import ModelShape
from fleetbench.catalog.types import GpuInfo
from fleetbench.matrix.types import Parallel, Recipe
from fleetbench.plan import memory, room
from fleetbench.plan.memory import Footprint
from fleetbench.plan.roofline import Floor, itl_floor, ttft_floor


@dataclass(frozen=True, slots=True, kw_only=True)
class Degree:
    """The answer at one tensor-parallel degree; fits: None where nobody knows what is usable of the GPU's memory."""

    tp: int
    needed: Footprint
    fits: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The whole answer.

    asked: at the degree that was asked for; degrees: powers of two within a node that divide the heads; smallest_tp:
    the least that fits, None where none does; largest_batch: sequences of the asked context, largest_context: tokens
    of each of the asked sequences, both at the asked degree; ttft, itl: floors there, None where figures are unknown.
    """

    asked: Degree
    degrees: tuple[Degree, ...]
    smallest_tp: int | None
    largest_batch: int
    largest_context: int
    ttft: Floor | None
    itl: Floor | None


def fit(shape: ModelShape, recipe: Recipe, gpu: GpuInfo, parallel: Parallel, *, batch: int, context_tok: int) -> Fit:
    """Work everything out.

    Args:
        shape: of the model.
        recipe: resolved.
        gpu: one of the GPUs.
        parallel: how the model is laid over them.
        batch: sequences at once.
        context_tok: tokens of each sequence, prompt and output together.
    """

    def degree(layout: Parallel) -> Degree:
        needed = memory.footprint(shape, recipe, layout, batch=batch, context_tok=context_tok, vendor=gpu.vendor)
        fits = None if usable is None else needed.total_bytes <= usable
        return Degree(tp=layout.tp, needed=needed, fits=fits)

    usable = room.usable_bytes(gpu)
    by_degree = room.degrees(shape, recipe, gpu, parallel, most=gpu.gpus_per_node)
    return Fit(
        asked=degree(parallel),
        degrees=tuple(degree(replace(parallel, tp=tp)) for tp in by_degree),
        smallest_tp=room.least(by_degree, usable, batch, context_tok),
        largest_batch=room.largest_batch(shape, recipe, gpu, parallel, context_tok=context_tok),
        largest_context=room.largest_context(shape, recipe, gpu, parallel, batch=batch),
        ttft=ttft_floor(shape, recipe, gpu, parallel, context_tok=context_tok),
        itl=itl_floor(shape, recipe, gpu, parallel, batch=batch, context_tok=context_tok),
    )
