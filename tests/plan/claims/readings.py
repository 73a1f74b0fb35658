"""For each claim everything that an engineer could mean by it.

Where a claim says "70B" it is read twice: as 70e9 weights, all in the format, and as the real Llama-3.1-70B, whose
embedding and head stay at 16 bits. Where it names no model, the 8B is read too, for there the two weigh more. "INT4"
without a group is read as four bits alone and as the usual groups of 128. "H100" is the SXM module, which the documents
mean by their figures. Where a document says elsewhere what it means, that is all that is read; see `because`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product

from fleetbench.catalog.types import Figure, GpuInfo
from fleetbench.matrix.types import KvFormat, Recipe
from tests.plan.claims import sums
from tests.plan.claims.reading import Reading
from tests.plan.claims.sums import (
    BF16,
    FP8,
    FP16,
    H100,
    INT4,
    INT4_ALONE,
    INT8,
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_405B,
    MXFP4,
    NOMINAL_70B,
    NVFP4,
    Model,
)

Readings = Callable[[], tuple[Reading, ...]]
_70B = (NOMINAL_70B, LLAMA_70B)
_ANY = (NOMINAL_70B, LLAMA_70B, LLAMA_8B)
_ANY_INT4 = (INT4_ALONE, INT4)
_H200, _B200 = sums.gpu("h200"), sums.gpu("b200")
_LONG = 131_072
_100K = 100_000


def _recipe(weights: str, kv: str = "auto", *, group_size: int | None = None) -> Recipe:
    return Recipe(name=weights, weights=weights, kv=KvFormat(k=kv, v=kv), group_size=group_size)


def _with_kv(recipe: Recipe, kv: str) -> Recipe:
    return replace(recipe, kv=KvFormat(k=kv, v=kv))


def _weights(*recipes: Recipe, models: tuple[Model, ...] = _70B) -> Readings:
    return lambda: tuple(sums.weights(model, recipe) for model, recipe in product(models, recipes))


def _weights_ratio(recipes: tuple[Recipe, ...], against: Recipe, models: tuple[Model, ...] = _ANY) -> Readings:
    return lambda: tuple(
        sums.over(sums.weights(model, recipe), sums.weights(model, against))
        for model, recipe in product(models, recipes)
    )


def _floors(*recipes: Recipe) -> Readings:
    return lambda: tuple(sums.itl_floor_ms(model, recipe) for model, recipe in product(_70B, recipes))


def _kv(*formats: str, batch: int, context_tok: int, models: tuple[Model, ...] = (LLAMA_70B,)) -> Readings:
    return lambda: tuple(
        sums.kv(model, name, batch=batch, context_tok=context_tok) for model, name in product(models, formats)
    )


def _kv_ratio(formats: tuple[str, ...], against: str) -> Readings:
    def one(name: str) -> Reading:
        return sums.kv(LLAMA_70B, name, batch=1, context_tok=_LONG)

    return lambda: tuple(sums.over(one(name), one(against)) for name in formats)


def _weights_and_kv(*recipes: Recipe) -> Readings:
    """GB of weights and of the cache of one sequence of 100,000 tokens."""
    return lambda: tuple(
        sums.plus(sums.weights(model, recipe), sums.kv(model, recipe.kv.k, batch=1, context_tok=_100K))
        for model, recipe in product(_70B, recipes)
    )


def _gpus(*recipes: Recipe) -> Readings:
    """H100s that hold a 70B and one sequence of 100,000 tokens."""
    return lambda: tuple(
        count(model, recipe, H100, batch=1, context_tok=_100K)
        for model, recipe, count in product(_70B, recipes, (sums.min_gpus, sums.min_gpus_in_a_row))
    )


def _node(recipe: Recipe) -> Readings:
    """H200s that hold the 405B with one short sequence, one as long as it goes, and a usual batch."""
    loads = ((1, 2048), (1, _LONG), (128, 2048))
    return lambda: tuple(
        sums.min_gpus(LLAMA_405B, recipe, _H200, batch=batch, context_tok=context_tok) for batch, context_tok in loads
    )


def _peaks(*pairs: tuple[GpuInfo, str, GpuInfo, str]) -> Readings:
    return lambda: tuple(
        sums.over(sums.peak_tflops(kind, name), sums.peak_tflops(other, against))
        for kind, name, other, against in pairs
    )


def _crossovers(models: tuple[Model, ...], *recipes: Recipe) -> Readings:
    return lambda: tuple(sums.crossover_tok(model, recipe) for model, recipe in product(models, recipes))


def _overhead(group: int) -> Readings:
    """Bits of scales over bits of elements: scales of 16 bits, and quantized to 8 bits themselves."""
    int4 = sums.form("int4")
    return lambda: (
        sums.scale_overhead_pct(int4, group, f"INT4, a scale of {int4.scale_bits:g} bits for {group} weights"),
        sums.scale_overhead_pct(replace(int4, scale_bits=8.0), group, f"INT4, a scale of 8 bits for {group} weights"),
    )


def _fits_one_h100() -> tuple[Reading, ...]:
    models = product(_70B, ("fp16", "fp8"))
    at_load = tuple(sums.min_gpus(model, _with_kv(INT4, kv), H100, batch=128, context_tok=2048) for model, kv in models)
    return (
        *at_load,
        *(sums.min_gpus(model, _with_kv(INT4, "fp16"), H100, batch=1, context_tok=2048) for model in _70B),
    )


def _kv_in_production() -> tuple[Reading, ...]:
    return tuple(
        sums.kv(model, kv, batch=128, context_tok=2048) for model, kv in product((LLAMA_8B, LLAMA_70B), ("fp16", "fp8"))
    )


def _beside_the_weights() -> tuple[Reading, ...]:
    return tuple(
        sums.beside_weights(LLAMA_70B, _with_kv(INT4, kv), batch=128, context_tok=2048) for kv in ("fp16", "fp8")
    )


def _fp8_savings() -> tuple[Reading, ...]:
    """Bytes that FP8 saves over those that INT4 saves, and how many times smaller FP8 is over how many times INT4."""
    found = []
    for model, int4 in product(_70B, _ANY_INT4):
        wide, half, quarter = (sums.weights(model, recipe) for recipe in (BF16, FP8, int4))
        found += [
            sums.over(sums.less(wide, half), sums.less(wide, quarter)),
            sums.over(sums.over(wide, half), sums.over(wide, quarter)),
        ]
    return tuple(found)


def _kv_read() -> tuple[Reading, ...]:
    return tuple(
        sums.kv_over_weights_read(model, _with_kv(recipe, "fp16"), context_tok=_LONG)
        for model, recipe in product(_70B, _ANY_INT4)
    )


def _eight_layers() -> tuple[Reading, ...]:
    """Four layers at each end in FP8 or BF16, the document's two examples of higher precision."""
    return tuple(
        sums.over(sums.ends_apart(model, INT4, ends, 4), sums.weights(model, INT4))
        for model, ends in product(_70B, (FP8, BF16))
    )


def _mixed_stack() -> tuple[Reading, ...]:
    """Percent of what uniform INT4 saves: of weights alone, and with a cache in FP8 against one in INT4."""
    wide, mixed = sums.weights(LLAMA_70B, BF16), sums.ends_apart(LLAMA_70B, INT4, FP8, 2)
    uniform = sums.weights(sums.with_tables_narrow(LLAMA_70B), INT4)
    saved = sums.less(wide, mixed)
    found = [
        sums.over(saved, sums.less(wide, sums.weights(LLAMA_70B, INT4))),
        sums.over(saved, sums.less(wide, uniform)),
    ]
    for batch, context_tok in ((1, _LONG), (128, 2048)):
        wide_kv, half_kv, quarter_kv = (
            sums.kv(LLAMA_70B, kv, batch=batch, context_tok=context_tok) for kv in ("bf16", "fp8", "int4")
        )
        all_wide = sums.plus(wide, wide_kv)
        saved = sums.less(all_wide, sums.plus(mixed, half_kv))
        found.append(sums.over(saved, sums.less(all_wide, sums.plus(uniform, quarter_kv))))
    return tuple(replace(one, sum=f"100 x {one.sum}", value=100 * one.value) for one in found)


def _tiers() -> tuple[Reading, ...]:
    """131,072 tokens: the newest in FP8, older ones in INT4, and the oldest kept, half of them gone, or most."""
    whole = sums.kv(LLAMA_70B, "fp16", batch=1, context_tok=_LONG)
    found = []
    for newest, kept in product((4096, 8192), (_LONG, _LONG // 2, _LONG // 4)):
        tiers = sums.plus(
            sums.kv(LLAMA_70B, "fp8", batch=1, context_tok=newest),
            sums.kv(LLAMA_70B, "int4", batch=1, context_tok=kept - newest),
        )
        found.append(sums.over(whole, tiers))
    return tuple(found)


def _prices() -> tuple[Reading, ...]:
    """On demand at one seller, rented for three years, and what the machines cost a large owner."""

    def at(kind: GpuInfo, usd: float, terms: str) -> Reading:
        source = f"InferenceX-app @ 77ca49a: {terms}"
        return sums.price(replace(kind, price_usd_h=Figure(value=usd, source=source, date="2026-04-03")))

    return (
        sums.over(sums.price(_B200), sums.price(H100)),
        sums.over(at(_B200, 2.90, "three years"), at(H100, 1.30, "three years")),
        sums.over(at(_B200, 2.34, "a large owner"), at(H100, 1.69, "a large owner")),
    )


def _q4_k_m() -> tuple[Reading, ...]:
    return tuple(
        sums.over(sums.mixture(model, "q4_k_m"), sums.weights(model, _recipe("f16"))) for model in (LLAMA_8B, LLAMA_70B)
    )


def _mixture_bits(name: str) -> Readings:
    """By the catalog's mean, which is of Llama-3.1-8B, and tensor by tensor."""
    return lambda: (
        sums.bits_per_weight(LLAMA_8B, _recipe(name)),
        *(sums.mixture_bits(model, name) for model in (LLAMA_8B, LLAMA_70B)),
    )


READINGS: Mapping[str, Readings] = {
    "pq-weights-70b-fp16": _weights(FP16),
    "pq-weights-70b-int4": _weights(*_ANY_INT4),
    "pq-kv-128x2k": _kv("fp16", "fp8", batch=128, context_tok=2048),
    "pq-int4-fits-one-h100": _fits_one_h100,
    "pq-kv-production": _kv_in_production,
    "pq-kv-trap-70b": _beside_the_weights,
    "pq-fp8-savings-half": _fp8_savings,
    "pq-fp4-half-bytes": _weights_ratio((NVFP4, MXFP4), FP8),
    "dr-fp8-memory": _weights_ratio((FP8,), BF16),
    "dr-awq-memory": _weights_ratio(_ANY_INT4, FP16),
    "dr-h100-fp8-tflops": lambda: (sums.peak_tflops(H100, "fp8"),),
    "dr-h100-bf16-tflops": lambda: (sums.peak_tflops(H100, "bf16"),),
    "dr-h200-bandwidth": lambda: (sums.over(sums.bandwidth(_H200), sums.bandwidth(H100)),),
    "dr-b200-fp8": _peaks((_B200, "fp8", H100, "fp8"), (_B200, "fp8", _H200, "fp8")),
    "dr-q4km-size": _q4_k_m,
    "ps-fp4-doubles-fp8": _peaks((_B200, "nvfp4", _B200, "fp8"), (_B200, "mxfp4", _B200, "fp8")),
    "ps-int4-4x": _weights_ratio(_ANY_INT4, FP16),
    "ps-fp8-tensor-2x": _peaks((H100, "fp8", H100, "fp16"), (_H200, "fp8", _H200, "fp16")),
    "ps-kv-read-128k": _kv_read,
    "ps-q4km-bits": _mixture_bits("q4_k_m"),
    "ps-q5km-bits": _mixture_bits("q5_k_m"),
    "p20-weights-llama70-int4": _weights(*_ANY_INT4, models=(LLAMA_70B,)),
    "p20-weights-70b-fp16": _weights(FP16),
    "p20-weights-70b-fp8-int8": _weights(FP8, INT8),
    "p20-weights-70b-int4": _weights(*_ANY_INT4),
    "p20-weights-70b-fp4": _weights(_recipe("fp4"), NVFP4, MXFP4),
    "p20-floor-bf16": _floors(BF16),
    "p20-floor-fp8": _floors(FP8),
    "p20-floor-int4": _floors(*_ANY_INT4),
    "p20-budget-fp32": _weights(_recipe("fp32")),
    "p20-budget-bf16-fp16": _weights(BF16, FP16),
    "p20-budget-fp8": _weights(FP8),
    "p20-budget-int8": _weights(INT8),
    "p20-budget-int4": _weights(INT4),
    "p20-budget-nvfp4": _weights(NVFP4),
    "p20-budget-q2_k": lambda: (*_weights(_recipe("q2_k"))(), sums.mixture(LLAMA_70B, "q2_k_m")),
    "p20-budget-ternary": _weights(_recipe("ternary"), _recipe("tq1_0")),
    "p20-nvfp4-bits": lambda: (sums.bits_per_weight(NOMINAL_70B, NVFP4),),
    "p20-overhead-g128": _overhead(128),
    "p20-overhead-g64": _overhead(64),
    "p20-overhead-g32": _overhead(32),
    "p20-mixed-8-layers": _eight_layers,
    "p20-mixed-savings": _mixed_stack,
    "p20-kv-128k": lambda: tuple(
        sums.kv(LLAMA_70B, "fp16", batch=1, context_tok=context_tok) for context_tok in (_LONG, 128_000)
    ),
    "p20-kv-fp8-mem": _kv_ratio(("fp8",), "fp16"),
    "p20-kv-int4-mem": _kv_ratio(("int4", "q4_0"), "fp16"),
    "p20-kivi-8x": _kv_ratio(("int2", "int2_kivi"), "bf16"),
    "p20-kv-crossover-fp16": _crossovers(_70B, _recipe("fp16", "fp16")),
    "p20-kv-crossover-fp8": _crossovers(_70B, *(_with_kv(one, "fp8") for one in (FP16, FP8, INT4))),
    "p20-kv-crossover-100k": _crossovers(_ANY, *(_with_kv(one, "fp16") for one in (FP16, FP8, INT4_ALONE, INT4))),
    "p20-kv-tiering": _tiers,
    "p20-fp4-4x-fp16": _peaks((_B200, "nvfp4", _B200, "fp16"), (_B200, "mxfp4", _B200, "fp16")),
    "p20-w4a4-17gb": _weights(NVFP4),
    "p20-mem100k-bf16": _weights_and_kv(_recipe("bf16", "bf16")),
    "p20-kv100k-bf16": _kv("bf16", batch=1, context_tok=_100K),
    "p20-gpus100k-bf16": _gpus(_recipe("bf16", "bf16")),
    "p20-mem100k-fp8": _weights_and_kv(_with_kv(FP8, "fp8")),
    "p20-kv100k-fp8": _kv("fp8", batch=1, context_tok=_100K),
    "p20-gpus100k-fp8": _gpus(_with_kv(FP8, "fp8")),
    "p20-mem100k-int4": _weights_and_kv(*(_with_kv(one, "fp8") for one in _ANY_INT4)),
    "p20-kv100k-int4": _kv("fp8", batch=1, context_tok=_100K),
    "p20-gpus100k-int4": _gpus(*(_with_kv(one, "fp8") for one in _ANY_INT4)),
    "p20-b200-price": _prices,
    "p20-405b-fp8": _node(_with_kv(FP8, "fp16")),
    "p20-405b-int4": _node(_with_kv(INT4, "fp16")),
}
