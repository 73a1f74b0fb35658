"""The answer of `fleetbench fit` as tables and as one document."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fleetbench.catalog.shapes import ModelShape
from fleetbench.catalog.types import GpuInfo
from fleetbench.matrix.identity import recipe_axes
from fleetbench.matrix.resolve import scheme
from fleetbench.matrix.types import Cell
from fleetbench.plan.fit import Degree, Fit
from fleetbench.plan.gate import Objection
from fleetbench.plan.roofline import Floor
from fleetbench.plan.room import usable_bytes, usable_ratio
from fleetbench.plan.types import Ruling
from fleetbench.report.cell import Form
from fleetbench.report.result import Panel, Result

BYTES = Form(grouped=True)
TERMS = ("weights", "kv", "activations", "overhead")


def panels(
    cell: Cell, gpu: GpuInfo, ruled: Ruling | Objection, found: Fit, *, batch: int, context_tok: int
) -> list[Panel]:
    """The sum at the degree that was asked for, every degree beside each other, and the floors."""
    parallel = cell.parallel
    degree = f"tp {parallel.tp}" + (f" pp {parallel.pp}" if parallel.pp > 1 else "")
    load = f"{batch:,} x {context_tok:,} tokens"
    title = f"{cell.model.name} as {cell.recipe.name} ({scheme(cell.recipe)}) on {gpu.name}, {degree}: {load}"
    return [
        Panel(
            name="sum",
            title=title,
            result=_sum(found.asked, gpu),
            keys=1,
            notes=(*_verdict(found, gpu, ruled), *map(_sentence, caveats(cell.model.shape))),
        ),
        Panel(name="degrees", title="GB a GPU, by tensor-parallel degree", result=degrees(found), keys=1),
        Panel(
            name="floors",
            title=f"At best, at {degree}",
            result=_floors(found, batch, context_tok),
            keys=1,
            notes=(_least(found, gpu, batch, context_tok), _ruled(cell, ruled)),
        ),
    ]


def caveats(shape: ModelShape | None) -> tuple[str, ...]:
    """What a sum of a model's bytes leaves out or takes for granted."""
    if shape is None:
        return ()
    towers = ", ".join(name.removesuffix("_config").replace("_", " ") + " tower" for name in shape.uncounted)
    guessed = ("its architecture is not known here: read as Llama's",) if shape.guessed else ()
    return (*guessed, *((f"not counted: {towers}",) if towers else ()))


def document(
    cell: Cell, gpu: GpuInfo, ruled: Ruling | Objection, found: Fit, *, batch: int, context_tok: int
) -> dict[str, Any]:
    """Everything, bytes as whole numbers; what is unknown is null."""
    shape = cell.model.shape
    return {
        "model": cell.model.name,
        "params": cell.model.params,
        "active_params": shape.active_params if shape else None,
        "guessed": shape.guessed if shape else None,
        "uncounted": list(shape.uncounted) if shape else None,
        "recipe": {"name": cell.recipe.name, "scheme": scheme(cell.recipe), **recipe_axes(cell.recipe)},
        "gpu": gpu.name,
        "memory_bytes": _figure(gpu),
        "usable_bytes": usable_bytes(gpu),
        "batch": batch,
        "context_tok": context_tok,
        "tp": cell.parallel.tp,
        "pp": cell.parallel.pp,
        "parts": [asdict(part) for part in found.asked.needed.parts],
        **_terms(found.asked),
        "fits": fits(found, ruled),
        "degrees": [{"tp": one.tp, **_terms(one), "fits": one.fits} for one in found.degrees],
        "smallest_tp": found.smallest_tp,
        "largest_batch": None if usable_bytes(gpu) is None else found.largest_batch,
        "largest_context_tok": None if usable_bytes(gpu) is None else found.largest_context,
        "ttft_prompt_tok": context_tok,
        "ttft_floor_ms": _ms(found.ttft),
        "itl_floor_ms": _ms(found.itl),
        "floors": {
            name: asdict(floor) if floor else None for name, floor in (("ttft", found.ttft), ("itl", found.itl))
        },
        "engine": {
            "name": cell.engine.name,
            "version": cell.engine.version,
            "verdict": ruled.verdict,
            "kernel": ruled.kernel if isinstance(ruled, Ruling) else None,
            "rule": ruled.rule if isinstance(ruled, Objection) else None,
            "sentence": ruled.sentence,
            "source": ruled.source,
        },
    }


def degrees(found: Fit) -> Result:
    """One row for each degree, in GB."""
    rows = tuple(
        (one.tp, *(one.needed.of(name) / 1e9 for name in TERMS), one.needed.total_bytes / 1e9, _word(one.fits))
        for one in found.degrees
    )
    gb = Form(decimals=2)
    return Result(columns=("tp", *TERMS, "total", "fits"), rows=rows, forms=(Form(), *([gb] * 5), None))


def _sum(asked: Degree, gpu: GpuInfo) -> Result:
    rows: list[tuple[object, ...]] = [(part.name, part.bytes, part.how) for part in asked.needed.parts]
    rows.append(("sum", asked.needed.total_bytes, None))
    if gpu.memory_bytes is not None:
        rows.append((f"{gpu.name} has", int(gpu.memory_bytes.value), gpu.memory_bytes.source))
        ratio, source = usable_ratio(gpu)
        rows.append(("an engine fills", usable_bytes(gpu), f"{ratio:.0%} of it ({source})" if ratio else source))
    return Result(columns=("part", "bytes", "how"), rows=tuple(rows), forms=(None, BYTES, None))


def fits(found: Fit, ruled: Ruling | Objection) -> bool | None:
    """Whether it can be laid out so: memory, and what degrees and context ask; None where nobody knows the memory."""
    return False if ruled.verdict == "does_not_fit" else found.asked.fits


def _verdict(found: Fit, gpu: GpuInfo, ruled: Ruling | Objection) -> tuple[str, ...]:
    if fits(found, ruled) is False and found.asked.fits is not False:
        return (f"It does not fit: {ruled.sentence}.",)
    if found.asked.fits is None:
        return (f"Whether it fits nobody can say: {_unknown(gpu)} is not known.",)
    return ("It fits." if found.asked.fits else "It does not fit.",)


def _least(found: Fit, gpu: GpuInfo, batch: int, context_tok: int) -> str:
    if usable_bytes(gpu) is None:
        return f"The largest batch and context are not known: {_unknown(gpu)} is not."
    smallest = f"tp {found.smallest_tp} is the least that fits" if found.smallest_tp else "no degree of a node fits"
    if not found.largest_batch:
        return f"{smallest}; not even one sequence of {context_tok:,} tokens fits at the asked degree."
    if not found.largest_context:
        return (
            f"{smallest}; at the asked degree at most {found.largest_batch:,} sequences of {context_tok:,} tokens, "
            f"and not {batch:,} of any length."
        )
    return (
        f"{smallest}; at the asked degree at most {found.largest_batch:,} sequences of {context_tok:,} tokens, "
        f"or {batch:,} of {found.largest_context:,}."
    )


def _unknown(gpu: GpuInfo) -> str:
    """What would have to be known of it."""
    return f"the memory of {gpu.name}" if gpu.memory_bytes is None else f"which part of its memory {gpu.name} may use"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _ruled(cell: Cell, ruled: Ruling | Objection) -> str:
    kernel = f" by kernel {ruled.kernel}" if isinstance(ruled, Ruling) and ruled.kernel else ""
    why = f": {ruled.sentence}" if ruled.sentence else ""
    return f"{cell.engine.name} {cell.engine.version} there: {ruled.verdict.replace('_', ' ')}{kernel}{why}"


def _floors(found: Fit, batch: int, context_tok: int) -> Result:
    sequences = "1 sequence" if batch == 1 else f"{batch:,} sequences"
    ttft, itl = f"TTFT, a prompt of {context_tok:,} tokens", f"ITL, {sequences} of {context_tok:,} tokens"
    rows = tuple(
        (name, _ms(floor), floor.bound if floor else None, floor.read_bytes if floor else None,
         f"{floor.flop:.3g}" if floor else None)
        for name, floor in ((ttft, found.ttft), (itl, found.itl))
    )  # fmt: skip
    return Result(
        columns=("floor", "ms", "bound", "bytes read", "FLOP"), rows=rows, forms=(None, None, None, BYTES, None)
    )


def _terms(one: Degree) -> dict[str, int]:
    return {**{f"{name}_bytes": one.needed.of(name) for name in TERMS}, "total_bytes": one.needed.total_bytes}


def _figure(gpu: GpuInfo) -> int | None:
    return int(gpu.memory_bytes.value) if gpu.memory_bytes else None


def _ms(floor: Floor | None) -> float | None:
    return floor.seconds * 1000 if floor else None


def _word(fits: bool | None) -> str | None:  # noqa: FBT001 - one value to one word
    return None if fits is None else ("yes" if fits else "no")
