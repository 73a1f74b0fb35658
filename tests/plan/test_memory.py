from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fleetbench.catalog.shapes import ModelShape
from fleetbench.catalog.types import GpuInfo
from fleetbench.matrix.types import KvFormat, Parallel, Recipe
from fleetbench.plan import memory, room
from tests.plan.shapes import GB, figure, gpu, known, layer, shape, shapes

ONE = Parallel()
TABLES_AT_16 = ("int2", "int4", "mxfp4", "nvfp4", "mxfp6", "fp8", "mxfp8", "bf16", "fp32")
GGUF = ("iq1_s", "q2_k", "q3_k", "q4_0", "q4_k", "q5_k", "q6_k", "q8_0", "f16", "f32")
"""Each from narrow to wide."""
KV = ("int2", "int4", "q4_0", "fp8", "q8_0", "bf16")
DEGREES = (1, 2, 4, 8, 16)
weights = st.sampled_from(TABLES_AT_16 + GGUF)
degrees = st.sampled_from(DEGREES)
batches = st.integers(1, 512)
contexts = st.integers(1, 200_000)


def recipe(weights: str = "bf16", kv: str = "bf16", **rest: object) -> Recipe:
    return replace(Recipe(name=weights, weights=weights, kv=KvFormat(k=kv, v=kv)), **rest)  # type: ignore[arg-type]


recipes = st.builds(recipe, weights, st.sampled_from(KV))
"""Of weights and cache."""
some = settings(max_examples=50, deadline=None)


def total(model: ModelShape, how: Recipe, parallel: Parallel = ONE, *, batch: int = 1, context_tok: int = 1) -> int:
    return memory.footprint(model, how, parallel, batch=batch, context_tok=context_tok).total_bytes


def kv(model: ModelShape, name: str = "bf16", parallel: Parallel = ONE, *, batch: int = 1, context_tok: int = 1) -> int:
    return memory.kv_part(model, KvFormat(k=name, v=name), parallel, batch=batch, context_tok=context_tok).bytes


def weights_of(model: ModelShape, how: Recipe, parallel: Parallel = ONE) -> int:
    return sum(part.bytes for part in memory.weight_parts(model, how, parallel))


def with_memory(gigabytes: float) -> GpuInfo:
    """A GPU of which so much is usable."""
    return replace(gpu("h100"), memory_bytes=figure(gigabytes * GB / room.USABLE_RATIO), gpus_per_node=8)


# Hand-computed sums of known models.


def test_llama_3_70b_is_as_large_as_its_matrices_add_up_to() -> None:
    attention = 8192 * 8192 * 2 + 8192 * 1024 * 2
    linear = 80 * (attention + 3 * 8192 * 28_672)
    tables, norms = 2 * 128_256 * 8192, 80 * 2 * 8192 + 8192
    model = known("llama-3-70b")
    assert model.params == linear + tables + norms == 70_553_706_496
    assert weights_of(model, recipe("bf16")) == 2 * 70_553_706_496
    assert weights_of(model, recipe("fp8")) == linear + 2 * (tables + norms)
    assert weights_of(model, recipe("int4", group_size=128)) == linear * 33 // 64 + 2 * (tables + norms)
    assert weights_of(model, recipe("q4_k")) == (linear + tables) * 9 // 16 + 2 * norms


def test_mixtral_holds_all_its_experts() -> None:
    linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 8 * 3 * 4096 * 14_336)
    other = 32 * (2 * 4096 + 8 * 4096) + 4096
    model = known("mixtral-8x7b")
    assert weights_of(model, recipe("bf16")) == 2 * (linear + 2 * 32_000 * 4096 + other) == 93_405_585_408
    assert kv(model, context_tok=32_768) == 32 * 2 * 8 * 128 * 2 * 32_768


def test_deepseek_v3_keeps_576_channels_of_a_token_in_each_of_61_layers() -> None:
    model = known("deepseek-v3")
    assert memory.kv_token_bytes(model, KvFormat(k="bf16", v="bf16")) == 61 * (512 + 64) * 2 == 70_272
    assert kv(model, "fp8", batch=3, context_tok=1000) == 3 * 1000 * 61 * 576


def test_gpt_oss_slides_in_every_other_layer() -> None:
    """Of 36 layers, 18 keep all tokens and 18 the last 128; 8 KV heads of 64, keys and values."""
    model, token = known("gpt-oss-120b"), 8 * 64 * 2 * 2
    assert kv(model, context_tok=131_072) == 18 * token * (131_072 + 128)
    assert kv(model, context_tok=100) == 36 * token * 100
    assert memory.kv_token_bytes(model, KvFormat()) == 18 * token


def test_gpt_oss_in_its_own_format_keeps_its_attention_at_16_bits() -> None:
    experts = 36 * 128 * 3 * 2880 * 2880
    attention = 36 * (2 * 2880 * 64 * 64 + 2 * 2880 * 8 * 64)
    model = known("gpt-oss-120b")
    rest = 2 * (model.params - experts)
    assert weights_of(model, recipe("mxfp4")) == pytest.approx(experts * 4.25 / 8 + rest, abs=1)
    narrow = replace(model, quantized=None)
    assert weights_of(narrow, recipe("mxfp4")) == pytest.approx(
        (experts + attention) * 4.25 / 8 + rest - 2 * attention, abs=2
    )


def test_qwen3_next_keeps_a_state_of_fixed_size_in_its_linear_layers() -> None:
    model = known("qwen3-next-80b-a3b")
    token = 12 * 2 * 256 * 2 * 2
    state = 36 * 548_864 * memory.STATE_BYTES
    assert kv(model, batch=4, context_tok=5000) == 4 * (5000 * token + state)


# What is said is what was summed.

UNITS = (
    (r"\([^()]*\)", ""),
    (r" (tokens|channels|logits)| of (the layers|the heads|state|driver and runtime|NCCL)|(?<=/) tp", ""),
    (r",", ""),
    (r" bits", " / 8"),
    (r" MiB", " * 1048576"),
    (r" B\b", ""),
    (r" x ", " * "),
)
MODELS = (
    "llama-3.1-70b",
    "deepseek-v3",
    "gpt-oss-120b",
    "qwen3-next-80b-a3b",
    "gemma-2-9b",
    "qwen2.5-0.5b",
    "kimi-k2.5",
)


def worked_out(how: str) -> float:
    """The arithmetic of a sentence."""
    for pattern, instead in UNITS:
        how = re.sub(pattern, instead, how)
    total = Fraction(0)
    for term in how.split(" + "):
        product = Fraction(1)
        for sign, factor in zip(*[iter(f"* {term.replace('/', ' / ')}".split())] * 2, strict=True):
            product = product * Fraction(factor) if sign == "*" else product / Fraction(factor)
        total += product
    return float(total)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("parallel", [ONE, Parallel(tp=8), Parallel(tp=16, pp=3), Parallel(tp=3), Parallel(pp=2)])
@pytest.mark.parametrize("how", [recipe("bf16"), recipe("int4", "int4", group_size=128), recipe("q4_k_m", "q8_0")])
def test_how_a_part_was_worked_out_gives_its_bytes(name: str, parallel: Parallel, how: Recipe) -> None:
    for vendor in ("nvidia", "amd"):
        needed = memory.footprint(known(name), how, parallel, batch=7, context_tok=3001, vendor=vendor)
        for part in needed.parts:
            assert worked_out(part.how) == pytest.approx(part.bytes, rel=1e-9, abs=2), part


def test_what_a_driver_takes_is_counted_of_gpus_that_somebody_looked_at() -> None:
    spent = {
        vendor: memory.footprint(known("llama-3.1-8b"), recipe(), ONE, batch=1, context_tok=1, vendor=vendor)
        for vendor in ("nvidia", "amd", "intel", "apple", "cpu")
    }
    counted = {vendor: needed.of("overhead") for vendor, needed in spent.items()}
    assert counted["nvidia"] == counted["amd"] == 551 * 2**20
    assert (counted["intel"], counted["apple"], counted["cpu"]) == (0, 0, 0)
    assert "AMD's are not known" in spent["amd"].parts[-1].how


# Monotony.


@given(shapes(), recipes, degrees, batches, contexts)
@some
def test_more_sequences_or_tokens_never_take_less(
    model: ModelShape, how: Recipe, tp: int, batch: int, context_tok: int
) -> None:
    parallel = Parallel(tp=tp)
    here = total(model, how, parallel, batch=batch, context_tok=context_tok)
    assert total(model, how, parallel, batch=batch + 1, context_tok=context_tok) >= here
    assert total(model, how, parallel, batch=batch, context_tok=context_tok + 1) >= here


@given(shapes(), st.sampled_from((TABLES_AT_16, GGUF)))
@some
def test_wider_weights_never_take_less(model: ModelShape, formats: tuple[str, ...]) -> None:
    sizes = [memory.weight_bytes(model, recipe(name)) for name in formats]
    assert sizes == sorted(sizes)


@given(shapes(), batches, contexts)
@some
def test_a_wider_cache_never_takes_less(model: ModelShape, batch: int, context_tok: int) -> None:
    sizes = [kv(model, name, batch=batch, context_tok=context_tok) for name in KV]
    assert sizes == sorted(sizes)


@given(shapes(), weights, st.integers(1, 8))
@some
def test_smaller_groups_never_take_less(model: ModelShape, name: str, power: int) -> None:
    small, large = (
        memory.weight_bytes(model, recipe(name, group_size=size)) for size in (1 << power, 1 << (power + 1))
    )
    assert small >= large


def test_keys_and_values_are_counted_apart() -> None:
    model = shape(layer(kv_heads=8, head_dim=64))
    mixed = memory.kv_part(model, KvFormat(k="bf16", v="fp8"), ONE, batch=1, context_tok=10)
    assert mixed.bytes == 10 * 512 * (2 + 1)


# Parallelism.


@given(shapes(), weights, batches, contexts)
@some
def test_more_tensor_ranks_never_raise_what_one_of_them_holds_of_weights_and_cache(
    model: ModelShape, name: str, batch: int, context_tok: int
) -> None:
    how = recipe(name)
    held = [weights_of(model, how, Parallel(tp=tp)) for tp in DEGREES]
    cached = [kv(model, parallel=Parallel(tp=tp), batch=batch, context_tok=context_tok) for tp in DEGREES]
    assert held == sorted(held, reverse=True)
    assert cached == sorted(cached, reverse=True)


@given(shapes(), weights, degrees, degrees)
@some
def test_all_ranks_together_hold_no_less_than_the_whole(model: ModelShape, name: str, tp: int, pp: int) -> None:
    """But for one of the two tables, which the fullest of several stages does not have."""
    parts = {part.name: part.bytes for part in memory.weight_parts(model, recipe(name), Parallel(tp=tp, pp=pp))}
    whole = {part.name: part.bytes for part in memory.weight_parts(model, recipe(name), ONE)}
    for term, held in parts.items():
        assert (held + 1) * tp * pp >= whole[term]
    assert len(whole) - len(parts) in {0, 1 if pp > 1 and not model.tied else 0}


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_ranks_beyond_the_kv_heads_keep_copies(kv_heads: int) -> None:
    model = shape(layer(kv_heads=kv_heads))
    cached = {tp: kv(model, parallel=Parallel(tp=tp), context_tok=1000) for tp in DEGREES}
    for tp in DEGREES:
        assert cached[tp] == cached[1] // min(tp, kv_heads)


def test_heads_that_do_not_share_out_evenly_fill_the_fullest_rank() -> None:
    model = shape(layer(heads=12, kv_heads=6))
    assert kv(model, parallel=Parallel(tp=4), context_tok=300) == 2 * kv(model, context_tok=300) // 6


@given(degrees)
@some
def test_every_rank_keeps_the_whole_latent(tp: int) -> None:
    model = known("deepseek-v3")
    assert kv(model, parallel=Parallel(tp=tp), batch=2, context_tok=777) == 2 * 777 * 70_272


def test_the_longest_of_uneven_pipeline_stages_counts() -> None:
    """31 of 61 layers."""
    model, stages = known("deepseek-v3"), Parallel(pp=2)
    parts = {part.name: part.bytes for part in memory.weight_parts(model, recipe("fp8"), stages)}
    linear = sum(each.linear_params for each in model.layers)
    assert parts["weights: linear layers"] == pytest.approx(linear * 31 / 61, abs=1)
    assert kv(model, parallel=stages, context_tok=61_000) == 61_000 * 31 * 576 * 2


def test_a_stage_has_the_embedding_or_the_head_but_not_both() -> None:
    table = 32_000 * 512 * 2
    model = shape(layer(), layer())
    one, two = (memory.weight_parts(model, recipe(), Parallel(pp=pp)) for pp in (1, 2))
    assert [part.bytes for part in one if part.name in {"weights: embedding", "weights: lm_head"}] == [table, table]
    assert [part.bytes for part in two if part.name in {"weights: embedding", "weights: lm_head"}] == [table]


# Cache.


@given(shapes(), contexts)
@some
def test_a_window_caps_what_a_sliding_layer_keeps(model: ModelShape, context_tok: int) -> None:
    sliding = replace(model, layers=(layer("sliding", window_tok=1000),))
    assert kv(sliding, context_tok=context_tok) == kv(sliding, context_tok=min(context_tok, 1000))


@given(batches, contexts)
@some
def test_a_linear_layer_keeps_its_state_whatever_the_context(batch: int, context_tok: int) -> None:
    model = shape(layer("linear", state_channels=1234))
    assert kv(model, batch=batch, context_tok=context_tok) == batch * 1234 * memory.STATE_BYTES


def test_ranks_share_a_state_out() -> None:
    model = shape(layer("linear", state_channels=1600))
    assert kv(model, parallel=Parallel(tp=8)) == 200 * memory.STATE_BYTES


def test_a_state_beside_attention_is_kept_too() -> None:
    model = shape(layer(kv_heads=1, head_dim=64, state_channels=100))
    assert kv(model, context_tok=10) == 10 * 2 * 64 * 2 + 100 * memory.STATE_BYTES


# Weights that stay wide.


@given(shapes(), st.integers(0, 10), st.integers(0, 10))
@some
def test_protected_layers_add_exactly_the_bits_that_they_keep(model: ModelShape, first: int, last: int) -> None:
    count = len(model.layers)
    kept = {*range(min(first, count)), *range(max(0, count - last), count)}
    added = sum(model.layers[index].linear_params for index in kept) * (16 - 4) / 8
    plain, guarded = recipe("int4"), recipe("int4", protect=(f"first {first}", f"last {last}"))
    assert memory.weight_bytes(model, guarded) - memory.weight_bytes(model, plain) == pytest.approx(added, abs=2)


def test_protecting_everything_is_16_bits() -> None:
    model = known("llama-3.1-8b")
    protect = ("embeddings", "lm_head", "first 32")
    assert memory.weight_bytes(model, recipe("q4_k", protect=protect)) == memory.weight_bytes(model, recipe("bf16"))


@pytest.mark.parametrize(("name", "bits"), [("fp8", 16), ("nvfp4", 16), ("mxfp4", 16), ("q4_k", 4.5), ("f32", 32)])
def test_only_gguf_types_and_wider_numbers_reach_embedding_and_head(name: str, bits: float) -> None:
    parts = {part.name: part.bytes for part in memory.weight_parts(known("llama-3.1-8b"), recipe(name), ONE)}
    assert parts["weights: embedding"] == parts["weights: lm_head"] == 128_256 * 4096 * bits / 8


def test_a_tied_table_is_held_once() -> None:
    names = [part.name for part in memory.weight_parts(shape(layer(), tied=True), recipe(), ONE)]
    assert names.count("weights: embedding") == 1
    assert "weights: lm_head" not in names


def test_tables_beside_the_embedding_are_held() -> None:
    model = shape(layer())
    more = replace(model, lookup_params=5_000_000)
    assert memory.weight_bytes(more, recipe()) - memory.weight_bytes(model, recipe()) == 10_000_000


# What fits.


@given(shapes(), recipes, degrees, st.integers(1, 50_000), st.floats(0.5, 200))
@some
def test_the_largest_batch_fits_and_one_more_does_not(
    model: ModelShape, how: Recipe, tp: int, context_tok: int, gigabytes: float
) -> None:
    parallel, kind = Parallel(tp=tp), with_memory(gigabytes)
    most = room.largest_batch(model, how, kind, parallel, context_tok=context_tok)
    assume(most < memory.MOST_TOK)
    if most:
        assert room.fits(memory.footprint(model, how, parallel, batch=most, context_tok=context_tok), kind)
    assert not room.fits(memory.footprint(model, how, parallel, batch=most + 1, context_tok=context_tok), kind)


@given(shapes(), recipes, batches, st.floats(0.5, 200), st.integers(1, 1 << 20))
@some
def test_the_largest_context_fits_and_one_more_token_does_not_or_is_beyond_the_model(
    model: ModelShape, how: Recipe, batch: int, gigabytes: float, limit: int
) -> None:
    kind, bounded = with_memory(gigabytes), replace(model, max_context_tok=limit)
    most = room.largest_context(bounded, how, kind, ONE, batch=batch)
    assert most <= limit
    if most:
        assert room.fits(memory.footprint(bounded, how, ONE, batch=batch, context_tok=most), kind)
    beyond = memory.footprint(bounded, how, ONE, batch=batch, context_tok=most + 1)
    assert most == limit or not room.fits(beyond, kind)


@given(shapes(), recipes, batches, st.floats(0.5, 200), st.integers(1, 16))
@some
def test_the_smallest_degree_fits_and_no_lower_one_that_divides_the_heads_does(
    model: ModelShape, how: Recipe, batch: int, gigabytes: float, most: int
) -> None:
    kind, context_tok = with_memory(gigabytes), 2048
    fitting = [
        tp
        for tp in DEGREES
        if tp <= most
        and room.divides(model, tp)
        and room.fits(memory.footprint(model, how, Parallel(tp=tp), batch=batch, context_tok=context_tok), kind)
    ]
    found = room.smallest_tp(model, how, kind, batch=batch, context_tok=context_tok, most=most)
    assert found == min(fitting, default=None)


def test_a_degree_that_does_not_divide_the_heads_is_passed_over() -> None:
    model = shape(layer(heads=6, kv_heads=2, linear=10 * GB))
    assert room.smallest_tp(model, recipe(), with_memory(12), batch=1, context_tok=1, most=8) == 2
    assert room.smallest_tp(model, recipe(), with_memory(8), batch=1, context_tok=1, most=8) is None


def test_an_engine_may_not_fill_all_that_the_device_reports() -> None:
    kind = gpu("h100")
    assert room.usable_bytes(kind) == int(0.92 * 85_520_809_984)
    part = memory.Part(name="weights", bytes=int(0.95 * 85_520_809_984), how="")
    assert not room.fits(memory.Footprint(parts=(part,)), kind)


def test_of_unified_memory_the_part_that_the_catalog_says_and_of_a_cpus_all_is_usable() -> None:
    apple = gpu("apple-m3-max")
    assert room.usable_bytes(apple) == 0.75 * 137_438_953_472
    assert room.usable_bytes(replace(apple, usable_ratio=None)) is None
    assert room.usable_bytes(replace(gpu("cpu"), memory_bytes=figure(64e9))) == 64_000_000_000
    assert room.usable_bytes(replace(gpu("h100"), usable_ratio=figure(0.5))) == 85_520_809_984 // 2


def test_no_degree_is_the_least_where_nobody_knows_the_memory() -> None:
    assert room.smallest_tp(known("llama-3.1-8b"), recipe(), gpu("cpu"), batch=1, context_tok=1, most=8) is None


def test_what_is_usable_may_be_filled_to_the_byte() -> None:
    kind = gpu("h100")
    usable = room.usable_bytes(kind)
    assert usable is not None
    full, more = (memory.Part(name="weights", bytes=usable + extra, how="") for extra in (0, 1))
    assert room.fits(memory.Footprint(parts=(full,)), kind)
    assert not room.fits(memory.Footprint(parts=(more,)), kind)


def test_everything_fits_where_nobody_knows_the_memory() -> None:
    unknown = gpu("cpu")
    assert room.usable_bytes(unknown) is None
    assert room.fits(memory.footprint(known("deepseek-v3"), recipe(), ONE, batch=1, context_tok=1), unknown)


@given(shapes(), weights, degrees, batches, contexts)
@some
def test_the_parts_are_the_sum(model: ModelShape, name: str, tp: int, batch: int, context_tok: int) -> None:
    needed = memory.footprint(model, recipe(name), Parallel(tp=tp), batch=batch, context_tok=context_tok)
    terms = ("weights", "kv", "activations", "overhead")
    assert sum(needed.of(term) for term in terms) == needed.total_bytes == sum(part.bytes for part in needed.parts)
    assert all(part.how for part in needed.parts)


@given(shapes(), recipes, degrees, batches, contexts)
@some
def test_the_sum_alone_is_that_of_the_parts(
    model: ModelShape, how: Recipe, tp: int, batch: int, context_tok: int
) -> None:
    parallel = Parallel(tp=tp, pp=2)
    needed = memory.demand(model, how, parallel).total_bytes(batch, context_tok)
    assert needed == total(model, how, parallel, batch=batch, context_tok=context_tok)
