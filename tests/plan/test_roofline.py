from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.catalog import lookup
from fleetbench.catalog.shapes import Layer, ModelShape
from fleetbench.catalog.types import GpuInfo
from fleetbench.matrix.types import Draft, KvFormat, LoadPoint, Parallel, Recipe
from fleetbench.plan import roofline
from fleetbench.plan.roofline import CellFloors, Floor, peak_flop_s
from tests.plan.examples import cell, quality_cell
from tests.plan.shapes import figure, gpu, known, layer, shape, shapes

ONE = Parallel()
H100 = gpu("h100")
BANDWIDTH, BF16_PEAK, FP8_PEAK = 3.35e12, 989e12, 1979e12
DEGREES = (1, 2, 4, 8, 16)
KINDS = [gpu(name) for name in lookup.gpu_names()]
FORMATS = ("bf16", "fp16", "fp8", "fp8_e5m2", "int8", "mxfp8", "mxfp6", "mxfp4", "nvfp4")
batches, contexts, degrees = st.integers(1, 512), st.integers(1, 200_000), st.sampled_from(DEGREES)
some = settings(max_examples=50, deadline=None)


def recipe(weights: str = "bf16", activations: str = "bf16", kv: str = "bf16") -> Recipe:
    return Recipe(name=weights, weights=weights, activations=activations, kv=KvFormat(k=kv, v=kv))


recipes = st.builds(
    recipe,
    st.sampled_from(("int4", "nvfp4", "mxfp4", "fp8", "q4_k", "q4_k_m", "q8_0", "f16", "bf16")),
    st.sampled_from(("auto", "bf16", "f16", "fp8", "int8", "nvfp4")),
    st.sampled_from(("int4", "fp8", "q8_0", "bf16")),
)


def itl(
    model: ModelShape,
    how: Recipe,
    kind: GpuInfo = H100,
    parallel: Parallel = ONE,
    *,
    batch: int = 1,
    context_tok: int = 1,
) -> Floor:
    found = roofline.itl_floor(model, how, kind, parallel, batch=batch, context_tok=context_tok)
    assert found is not None
    return found


def ttft(
    model: ModelShape, how: Recipe, kind: GpuInfo = H100, parallel: Parallel = ONE, *, context_tok: int = 1
) -> Floor:
    found = roofline.ttft_floor(model, how, kind, parallel, context_tok=context_tok)
    assert found is not None
    return found


def faster(kind: GpuInfo, *, bandwidth: float = 1.0, peak: float = 1.0) -> GpuInfo:
    assert kind.bandwidth_bytes_s is not None
    return replace(
        kind,
        bandwidth_bytes_s=figure(bandwidth * kind.bandwidth_bytes_s.value),
        flops={name: figure(peak * each.value) for name, each in kind.flops.items()},
    )


# Hand-computed floors.


def test_one_sequence_reads_the_weights_and_its_cache_but_no_embedding() -> None:
    """Llama-3.1-70B at 16 bits: 70,553,706,496 parameters but for a table of 128,256 x 8192, and 1000 tokens."""
    floor = itl(known("llama-3.1-70b"), recipe(), context_tok=1000)
    assert floor.read_bytes == 2 * (70_553_706_496 - 128_256 * 8192) + 327_680_000
    assert floor.seconds == pytest.approx(floor.read_bytes / BANDWIDTH)
    assert floor.bound == "memory"


def test_a_tied_table_is_read_for_it_is_the_head() -> None:
    model = known("llama-3.2-1b")
    assert model.tied
    assert itl(model, recipe()).read_bytes == 2 * model.params + 16 * 2 * 8 * 64 * 2


def test_a_mixture_reads_its_active_experts_only() -> None:
    """Mixtral: attention, 2 of 8 experts, routers and norms of 32 layers, the last norm, the head, one token."""
    active = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 2 * 3 * 4096 * 14_336)
    other = 32 * (2 * 4096 + 8 * 4096) + 4096
    floor = itl(known("mixtral-8x7b"), recipe())
    assert floor.read_bytes == 2 * (active + other + 32_000 * 4096) + 131_072
    assert floor.flop == 2 * (active + other + 32_000 * 4096)


def test_a_protected_layer_of_a_mixture_is_read_at_16_bits_as_far_as_it_is_active() -> None:
    model = shape(layer(linear=1000 * 10**6, active=10**6), layer(linear=10**6))
    guarded = replace(recipe("fp8"), protect=("first 1",))
    assert itl(model, guarded).read_bytes - itl(model, recipe("fp8")).read_bytes == 10**6


def test_a_mixture_in_its_publishers_format_reads_attention_at_16_bits() -> None:
    model = known("gpt-oss-120b")
    attention = 36 * model.layers[0].attention_params
    plain = replace(model, quantized=None)
    more = itl(model, recipe("mxfp4")).read_bytes - itl(plain, recipe("mxfp4")).read_bytes
    assert more == pytest.approx(attention * (16 - 4.25) / 8, abs=4)


def test_a_long_prompt_takes_its_products_and_half_a_square_of_attention() -> None:
    """Llama-3.1-8B, 8192 tokens, dense BF16 peak of an H100."""
    model, tokens = known("llama-3.1-8b"), 8192
    linear = 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024 + 3 * 4096 * 14_336)
    products = 2 * linear * tokens + 2 * 128_256 * 4096
    attention = 32 * 4 * 32 * 128 * tokens * tokens / 2
    floor = ttft(model, recipe(), context_tok=tokens)
    assert floor.flop == pytest.approx(products + attention)
    assert floor.seconds == pytest.approx((products + attention) / BF16_PEAK)
    assert floor.bound == "compute"


def test_a_short_prompt_is_bound_by_one_read_of_the_weights() -> None:
    floor = ttft(known("llama-3.1-8b"), recipe(), context_tok=1)
    assert floor.bound == "memory"
    assert floor.seconds == pytest.approx(2 * (8_030_261_248 - 128_256 * 4096) / BANDWIDTH)


def test_the_first_token_of_a_tied_model_takes_a_product_with_its_table() -> None:
    tied, untied = (shape(layer(), tied=tied) for tied in (True, False))
    assert ttft(tied, recipe()).flop == ttft(untied, recipe()).flop


def test_a_window_bounds_what_a_prompt_looks_back_at() -> None:
    wide, narrow = (shape(layer("sliding", window_tok=window, linear=1)) for window in (10_000, 100))
    ratio = ttft(wide, recipe(), context_tok=10_000).flop / ttft(narrow, recipe(), context_tok=10_000).flop
    assert 30 < ratio <= 100


# Scaling.


@given(shapes(), recipes, batches, contexts, st.floats(1.5, 10))
@some
def test_floors_scale_with_the_figures_that_set_them(
    model: ModelShape, how: Recipe, batch: int, context_tok: int, factor: float
) -> None:
    both = faster(H100, bandwidth=factor, peak=factor)
    for before, after in (
        (
            itl(model, how, batch=batch, context_tok=context_tok),
            itl(model, how, both, batch=batch, context_tok=context_tok),
        ),
        (ttft(model, how, context_tok=context_tok), ttft(model, how, both, context_tok=context_tok)),
    ):
        assert after.seconds == pytest.approx(before.seconds / factor)
        assert (after.bound, after.read_bytes, after.flop) == (before.bound, before.read_bytes, before.flop)


@given(shapes(), recipes, batches, contexts)
@some
def test_only_the_figure_that_binds_moves_a_floor(model: ModelShape, how: Recipe, batch: int, context_tok: int) -> None:
    floor = itl(model, how, batch=batch, context_tok=context_tok)
    other = faster(H100, peak=2) if floor.bound == "memory" else faster(H100, bandwidth=2)
    assert itl(model, how, other, batch=batch, context_tok=context_tok).seconds == floor.seconds


@given(shapes(), recipes, degrees, batches, contexts)
@some
def test_more_sequences_or_tokens_never_lower_a_floor(
    model: ModelShape, how: Recipe, tp: int, batch: int, context_tok: int
) -> None:
    parallel = Parallel(tp=tp)
    here = itl(model, how, H100, parallel, batch=batch, context_tok=context_tok).seconds
    assert itl(model, how, H100, parallel, batch=batch + 1, context_tok=context_tok).seconds >= here
    assert itl(model, how, H100, parallel, batch=batch, context_tok=context_tok + 1).seconds >= here
    first = ttft(model, how, H100, parallel, context_tok=context_tok).seconds
    assert ttft(model, how, H100, parallel, context_tok=context_tok + 1).seconds >= first


@given(shapes(), recipes, batches, contexts)
@some
def test_more_ranks_never_raise_a_floor_and_n_of_them_are_at_most_n_times_faster(
    model: ModelShape, how: Recipe, batch: int, context_tok: int
) -> None:
    decode = [itl(model, how, H100, Parallel(tp=tp), batch=batch, context_tok=context_tok).seconds for tp in DEGREES]
    first = [ttft(model, how, H100, Parallel(tp=tp), context_tok=context_tok).seconds for tp in DEGREES]
    for times in (decode, first):
        assert times == sorted(times, reverse=True)
        for tp, seconds in zip(DEGREES, times, strict=True):
            assert seconds * tp >= times[0] * (1 - 1e-9) - tp * 1e-11


@given(shapes(), batches, contexts)
@some
def test_narrower_weights_and_cache_never_raise_a_floor(model: ModelShape, batch: int, context_tok: int) -> None:
    steps = (recipe("bf16", "bf16", "bf16"), recipe("fp8", "fp8", "fp8"), recipe("int4", "fp8", "int4"))
    times = [itl(model, how, batch=batch, context_tok=context_tok).seconds for how in steps]
    assert times == sorted(times, reverse=True)
    firsts = [ttft(model, how, context_tok=context_tok).seconds for how in steps]
    assert firsts == sorted(firsts, reverse=True)


@given(shapes(), recipes, st.integers(1, 8), batches, contexts)
@some
def test_pipeline_stages_never_raise_a_floor_and_never_spare_a_read_of_the_weights(
    model: ModelShape, how: Recipe, pp: int, batch: int, context_tok: int
) -> None:
    """Stages read their weights in turn; only cache and products may be shared out among them."""
    one, many = (itl(model, how, H100, Parallel(pp=stages), batch=batch, context_tok=context_tok) for stages in (1, pp))
    weights = itl(replace(model, layers=tuple(map(uncached, model.layers))), how).read_bytes
    assert weights <= many.read_bytes <= one.read_bytes
    assert many.seconds <= one.seconds
    assert (
        ttft(model, how, H100, Parallel(pp=pp), context_tok=context_tok).seconds
        <= ttft(model, how, context_tok=context_tok).seconds
    )


def test_stages_share_the_sequences_out_as_far_as_there_are_any() -> None:
    model, token = shape(layer(kv_heads=8, head_dim=64)), 2 * 8 * 64 * 2
    reads = {
        (pp, batch): itl(model, recipe(), H100, Parallel(pp=pp), batch=batch, context_tok=100).read_bytes
        for pp, batch in ((1, 1), (1, 2), (4, 2), (4, 8))
    }
    weights = reads[1, 1] - 100 * token
    assert reads[1, 2] == reads[4, 8] == weights + 2 * 100 * token
    assert reads[4, 2] == weights + 100 * token


def uncached(each: Layer) -> Layer:
    return replace(each, k_channels=0, v_channels=0, state_channels=0)


def test_ranks_may_share_a_latent_out_by_sequences_though_each_could_keep_it_whole() -> None:
    """So 16 of them read a sixteenth each: the floor is of the best layout, not of the usual one."""
    model = known("deepseek-v3")
    one, many = (itl(model, recipe("fp8"), H100, Parallel(tp=tp), batch=256, context_tok=8192) for tp in (1, 16))
    weights = [itl(model, recipe("fp8"), H100, Parallel(tp=tp)).read_bytes for tp in (1, 16)]
    assert many.read_bytes - weights[1] == pytest.approx((one.read_bytes - weights[0]) / 16, rel=1e-3)


# Peaks: a floor must hold, so what products run at is bounded from above.


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_no_format_is_bounded_below_its_own_figure_or_a_wider_ones(kind: GpuInfo) -> None:
    for name in FORMATS:
        peak = peak_flop_s(kind, name)
        wider = [each.value for other, each in kind.flops.items() if bits(other) >= bits(name)]
        assert peak is None or peak >= max(wider, default=0.0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_known_16_bit_peak_is_taken_as_it_is(kind: GpuInfo) -> None:
    if "bf16" in kind.flops:
        assert peak_flop_s(kind, "bf16") == max(kind.flops["bf16"].value, kind.flops["fp16"].value)


@pytest.mark.parametrize(
    ("name", "asked", "bounded_by"),
    [
        ("b200", "mxfp8", "nvfp4"),  # native, without a figure: no slower format's peak may stand for it
        ("b300", "mxfp4", "nvfp4"),
        ("b300", "mxfp6", "nvfp4"),
        ("rtx-5090", "mxfp4", "nvfp4"),
        ("rtx-5090", "int8", "nvfp4"),
        ("rtx-pro-6000", "mxfp4", "nvfp4"),
        ("h100", "fp8_e5m2", "fp8"),
        ("h100", "nvfp4", "fp8"),  # not native: widened to at least eight bits
        ("a100-80g", "fp8", "int8"),
        ("mi300x", "mxfp4", "fp8"),
        ("b200", "nvfp4", "nvfp4"),
        ("b200", "fp8", "fp8"),
    ],
)
def test_a_format_without_a_figure_is_bounded_by_one_that_is_no_slower(name: str, asked: str, bounded_by: str) -> None:
    assert peak_flop_s(gpu(name), asked) == gpu(name).flops[bounded_by].value


def test_a_wider_unit_that_is_faster_bounds_a_slow_narrow_one() -> None:
    kind = replace(H100, flops={"bf16": figure(2250e12), "int8": figure(153e12)}, native=("bf16", "int8"))
    assert peak_flop_s(kind, "int8") == 2250e12


@pytest.mark.parametrize("name", ["apple-m3-ultra", "cpu"])
def test_nothing_bounds_products_where_only_wider_figures_are_known(name: str) -> None:
    assert peak_flop_s(gpu(name), "bf16") is None


def test_without_a_peak_only_memory_sets_the_floor() -> None:
    floor = ttft(known("llama-3.1-8b"), recipe(), gpu("apple-m3-ultra"), context_tok=8192)
    assert floor.bound == "memory"
    assert floor.seconds == pytest.approx(2 * (8_030_261_248 - 128_256 * 4096) / 819e9)


def test_without_a_bandwidth_there_is_no_floor() -> None:
    model, unknown = known("llama-3.1-8b"), gpu("cpu")
    assert roofline.itl_floor(model, recipe(), unknown, ONE, batch=1, context_tok=1) is None
    assert roofline.ttft_floor(model, recipe(), unknown, ONE, context_tok=1) is None


@pytest.mark.parametrize(
    ("weights", "activations", "peak"),
    [
        ("bf16", "bf16", BF16_PEAK),
        ("int4", "bf16", BF16_PEAK),
        ("int4", "auto", BF16_PEAK),
        ("int4", "int8", FP8_PEAK),  # W4A8 runs in units of eight bits
        ("fp8", "fp8", FP8_PEAK),
        ("fp8", "auto", FP8_PEAK),
        ("fp8", "bf16", BF16_PEAK),
        ("int8", "int8", FP8_PEAK),
        ("q4_k", "f16", FP8_PEAK),  # llama.cpp narrows activations to eight bits by itself
        ("q4_k_m", "f16", FP8_PEAK),
        ("mxfp4", "f16", FP8_PEAK),
        ("mxfp4", "bf16", BF16_PEAK),
        ("f16", "f16", BF16_PEAK),
    ],
)
def test_products_run_in_units_of_the_activations_width(weights: str, activations: str, peak: float) -> None:
    model = shape(layer("linear", linear=10**9), vocab_tok=1, hidden=1)
    floor = ttft(model, recipe(weights, activations), context_tok=10_000)
    assert floor.bound == "compute"
    assert floor.seconds == pytest.approx(floor.flop / peak)


@pytest.mark.parametrize(
    ("attention", "kv", "peak"),
    [("auto", "bf16", BF16_PEAK), ("fp8", "bf16", FP8_PEAK), ("auto", "fp8", FP8_PEAK), ("auto", "q8_0", FP8_PEAK)],
)
def test_attention_may_run_as_narrow_as_its_cache(attention: str, kv: str, peak: float) -> None:
    model = shape(layer(heads=64, kv_heads=1, linear=1, other=0), vocab_tok=1, hidden=1)
    how = replace(recipe(kv=kv), attention=attention)
    floor = ttft(model, how, context_tok=100_000)
    assert floor.seconds == pytest.approx(floor.flop / peak, rel=1e-3)


@pytest.mark.parametrize(("name", "bits_"), [("nvfp4", 4.5), ("fp8", 16), ("q4_k", 4.5)])
def test_a_table_that_some_engine_narrows_is_read_narrow(name: str, bits_: float) -> None:
    """NVFP4 in a GGUF file has a narrow head; the floor must hold for it too."""
    one, two = (itl(shape(layer(), vocab_tok=size), recipe(name)).read_bytes for size in (10_000, 20_000))
    assert two - one == 10_000 * 512 * bits_ / 8


# Of a cell.


def floors(
    how: Recipe, hardware: str = "h100", *, batch: int | None = 8, parallel: Parallel = ONE, model: str = "llama-3.1-8b"
) -> CellFloors:
    plain = cell(recipe=how, context=2048)
    one = replace(
        plain,
        hardware=hardware,
        parallel=parallel,
        model=replace(plain.model, shape=lookup.model_shape(model)),
        work=LoadPoint(batch=batch, context_tok=2048, output_tok=32),
    )
    return roofline.cell_floors(one, roofline.cell_roof(one))


def test_a_cells_floors_are_those_of_its_load_in_milliseconds() -> None:
    model, how = known("llama-3.1-8b"), recipe("fp8", "fp8", "fp8")
    found = floors(how)
    assert found.ttft_ms == pytest.approx(1000 * ttft(model, how, context_tok=2048).seconds)
    assert found.itl_ms == pytest.approx(1000 * itl(model, how, batch=8, context_tok=2048).seconds)


def test_replicas_share_the_sequences_out() -> None:
    assert floors(recipe(), parallel=Parallel(dp=4)) == floors(recipe(), batch=2)
    assert floors(recipe(), batch=None) == floors(recipe(), batch=1)


def test_a_draft_leaves_no_floor_of_single_tokens() -> None:
    drafted = replace(recipe(), draft=Draft(method="ngram", model=None, tokens=4))
    assert floors(drafted).itl_ms is None
    assert floors(drafted).ttft_ms == floors(recipe()).ttft_ms


@pytest.mark.parametrize(
    ("hardware", "model"), [("cpu", "llama-3.1-8b"), ("h100", "nobody-knows"), ("abacus", "llama-3.1-8b")]
)
def test_unknown_hardware_or_models_have_no_floors(hardware: str, model: str) -> None:
    assert floors(recipe(), hardware, model=model) == CellFloors()


def test_a_cell_of_quality_has_no_floors() -> None:
    assert roofline.cell_floors(quality_cell(), roofline.cell_roof(quality_cell())) == CellFloors()


def bits(name: str) -> float:
    info = lookup.format_info(name)
    assert info is not None
    return info.element_bits
