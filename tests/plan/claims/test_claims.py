from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml

from fleetbench.artifact import mixtures
from fleetbench.catalog import lookup
from fleetbench.matrix.types import KvFormat, Parallel, Recipe
from fleetbench.plan import memory, roofline, room
from tests.plan.claims import sums
from tests.plan.claims.reading import Reading, Verdict, holds, judged, shown
from tests.plan.claims.readings import READINGS
from tests.plan.claims.sums import BF16, FP8, FP16, H100, INT4, INT4_ALONE, LLAMA_8B, LLAMA_70B, NOMINAL_70B, NVFP4

FILE = yaml.safe_load((Path(__file__).parent / "arithmetic.yaml").read_text(encoding="utf-8"))
CLAIMS: dict[str, dict[str, Any]] = {claim["id"]: claim for claim in FILE["claims"]}
ABOUT_140 = {"op": "about", "value": 140, "tolerance": 0.03}


def reading(value: float) -> Reading:
    return Reading(assumed=f"taken as {value}", sum=f"{value} x 1", value=value)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claims_verdict_is_what_its_sums_say(name: str) -> None:
    claim, readings = CLAIMS[name], READINGS[name]()
    found = judged(readings, claim["expected"])
    assert found == claim["verdict"], f"{claim['statement']}: {found}\n{shown(readings, claim['expected'])}"


def test_each_of_the_65_claims_is_read_and_no_other() -> None:
    assert len(FILE["claims"]) == len(CLAIMS) == 65
    assert set(CLAIMS) == set(READINGS)


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_says_where_it_stands_and_why_it_is_judged_so(name: str) -> None:
    claim = CLAIMS[name]
    assert claim["verdict"] in get_args(Verdict)
    assert claim["document"] in FILE["documents"]
    assert all(claim[key].strip() for key in ("statement", "metric", "section", "because"))


@pytest.mark.parametrize("name", READINGS)
def test_readings_differ_in_what_they_assume_and_show_numbers(name: str) -> None:
    readings = READINGS[name]()
    assert len({one.assumed for one in readings}) == len(readings)
    for one in readings:
        assert math.isfinite(one.value), one
        assert any(letter.isdigit() for letter in one.sum), one


def test_a_failing_claim_shows_every_sum_and_whether_it_holds() -> None:
    lines = shown((reading(139.0), reading(99.5)), ABOUT_140).splitlines()
    assert "'value': 140" in lines[0]
    assert lines[1].split() == ["in", "taken", "as", "139.0:", "139.0", "x", "1", "=", "139"]
    assert lines[2].split() == ["out", "taken", "as", "99.5:", "99.5", "x", "1", "=", "99.5"]


@pytest.mark.parametrize(
    ("values", "verdict"),
    [((140.0, 144.0), "confirmed"), ((100.0, 200.0), "refuted"), ((140.0, 150.0), "underspecified")],
)
def test_only_agreement_of_all_readings_confirms_or_refutes(values: tuple[float, ...], verdict: Verdict) -> None:
    assert judged([reading(value) for value in values], ABOUT_140) == verdict


@pytest.mark.parametrize(
    ("expected", "inside", "outside"),
    [
        ({"op": "about", "value": 100, "tolerance": 0.05}, (95.0, 105.0), (94.9, 105.1)),
        ({"op": "about", "value": 3, "tolerance": 0}, (3.0,), (2.0, 4.0)),
        ({"op": "between", "low": 20, "high": 30}, (20.0, 30.0), (19.9, 30.1)),
        ({"op": "at_most", "value": 4}, (4.0, 2.0), (4.1, math.inf)),
        ({"op": "at_least", "value": 1}, (1.0, math.inf), (0.99,)),
    ],
)
def test_expectations_hold_up_to_their_bounds(
    expected: dict[str, object], inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    assert all(holds(value, expected) for value in inside)
    assert not any(holds(value, expected) for value in outside)


def test_an_expectation_of_another_kind_is_an_error() -> None:
    with pytest.raises(ValueError, match="roughly"):
        holds(1.0, {"op": "roughly", "value": 1})


# Firm sums, each by itself.


@pytest.mark.parametrize(("recipe", "gigabytes"), [(FP16, 140.0), (FP8, 70.0), (NVFP4, 39.375), (INT4_ALONE, 35.0)])
def test_seventy_billion_weights_take_140_70_39_and_35_gb(recipe: Recipe, gigabytes: float) -> None:
    assert memory.weight_bytes(NOMINAL_70B.shape, recipe) == gigabytes * 1e9


def test_a_real_70b_in_int4_with_its_tables_at_16_bits_is_39_gb_too() -> None:
    """68,451,041,280 x 4.125 / 8, 2 x 1,050,673,152 x 2, and norms of 1,318,912 x 2."""
    assert memory.weight_bytes(LLAMA_70B.shape, INT4) == 35_295_068_160 + 4_202_692_608 + 2_637_824


@pytest.mark.parametrize(("recipe", "floor_ms"), [(BF16, 41.79), (FP8, 20.90), (INT4_ALONE, 10.45)])
def test_a_70b_on_an_h100_cannot_decode_faster_than_42_21_and_10_5_ms(recipe: Recipe, floor_ms: float) -> None:
    """140, 70 and 35 GB over 3.35 TB/s."""
    floor = roofline.itl_floor(NOMINAL_70B.shape, recipe, H100, Parallel(), batch=1, context_tok=1)
    assert floor is not None
    assert floor.bound == "memory"
    assert floor.seconds * 1e3 == pytest.approx(floor_ms, abs=0.005)


FIRM = (
    "p20-weights-70b-fp16",
    "p20-weights-70b-fp8-int8",
    "p20-budget-nvfp4",
    "p20-floor-bf16",
    "p20-floor-fp8",
    "p20-floor-int4",
)


@pytest.mark.parametrize("name", FIRM)
def test_the_firm_claims_hold_where_every_weight_is_in_the_format(name: str) -> None:
    nominal = [one for one in READINGS[name]() if one.assumed.startswith(NOMINAL_70B.name)]
    assert judged(nominal, CLAIMS[name]["expected"]) == "confirmed"


@pytest.mark.parametrize(
    ("batch", "context_tok", "gigabytes"), [(1, 131_072, 42.949672960), (128, 2048, 85.899345920), (1, 100_000, 32.768)]
)
def test_a_70bs_cache_at_16_bits_is_327_680_bytes_a_token(batch: int, context_tok: int, gigabytes: float) -> None:
    """So 43 GB at 128k tokens, and then 86 at 128 x 2k and 33 at 100k: documents that say otherwise contradict it."""
    kv = KvFormat(k="bf16", v="bf16")
    assert memory.kv_token_bytes(LLAMA_70B.shape, kv) == 80 * 8 * 128 * 2 * 2 == 327_680
    part = memory.kv_part(LLAMA_70B.shape, kv, Parallel(), batch=batch, context_tok=context_tok)
    assert part.bytes == pytest.approx(gigabytes * 1e9)


@pytest.mark.parametrize("model", [NOMINAL_70B, LLAMA_70B])
def test_int4_weights_with_fp8_cache_at_128_by_2k_do_not_fit_an_h100_but_with_int4_cache_do(model: sums.Model) -> None:
    """81 to 85 GB against about 60 to 63."""
    footprints = {
        name: memory.footprint(
            model.shape, replace(INT4, kv=KvFormat(k=name, v=name)), Parallel(), batch=128, context_tok=2048
        )
        for name in ("fp8", "int4")
    }
    assert 81e9 < footprints["fp8"].total_bytes < 85e9
    assert 59e9 < footprints["int4"].total_bytes < 64e9
    assert not room.fits(footprints["fp8"], H100)
    assert room.fits(footprints["int4"], H100)


MIXED = sorted(name for name in lookup.format_names("weights") if sums.form(name).mixed)


def test_every_gguf_mixture_of_the_catalog_has_rules() -> None:
    assert MIXED
    assert set(MIXED) <= set(mixtures.MIXTURES)


@pytest.mark.parametrize("name", MIXED)
def test_the_catalogs_mean_of_a_gguf_mixture_is_what_its_rules_give_for_llama_8b(name: str) -> None:
    assert sums.mixture_bits(LLAMA_8B, name).value == pytest.approx(sums.form(name).element_bits, rel=0.01)
