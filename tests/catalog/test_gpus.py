from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date

import pytest

from fleetbench.catalog import lookup
from fleetbench.catalog.types import Figure, GpuInfo

KINDS = lookup.gpu_names()
ARCH = {"nvidia": r"sm\d+", "amd": r"gfx\d+", "intel": r"gaudi\d", "apple": "apple", "cpu": "x86"}


def known(name: str) -> GpuInfo:
    info = lookup.gpu_info(name)
    assert info is not None
    return info


def figures(info: GpuInfo) -> Iterator[Figure]:
    single = (
        info.memory_bytes,
        info.usable_ratio,
        info.bandwidth_bytes_s,
        info.power_w,
        info.link_bytes_s,
        info.price_usd_h,
    )
    yield from (figure for figure in single if figure is not None)
    yield from info.flops.values()


@pytest.mark.parametrize("name", KINDS)
def test_a_figure_is_positive_and_says_where_and_when_it_was_read(name: str) -> None:
    for figure in figures(known(name)):
        assert figure.value > 0
        assert figure.source.strip()
        date.fromisoformat(figure.date)


@pytest.mark.parametrize("name", KINDS)
def test_names_have_a_source_and_the_architecture_is_the_vendors(name: str) -> None:
    info = known(name)
    assert info.devices_source.strip()
    assert info.native_source.strip()
    assert re.fullmatch(ARCH[info.vendor], info.arch)


def test_a_device_and_an_alias_mean_one_kind() -> None:
    kinds = [known(name) for name in KINDS]
    devices = Counter(device for info in kinds for device in info.devices)
    spelled = Counter(word.casefold() for info in kinds for word in (info.name, *info.aliases))
    assert [word for word, count in (devices + spelled).items() if count > 1] == []


@pytest.mark.parametrize(
    ("name", "units", "fma_a_clock", "clock_hz"),
    [
        ("a100-80g", 432, 256, 1410e6),
        ("h100", 528, 512, 1830e6),
        ("mi300x", 1216, 256, 2100e6),
        ("mi355x", 1024, 512, 2400e6),
        ("gaudi3", 8, 256 * 256, 1600e6),
    ],
)
def test_the_peak_is_that_of_dense_arithmetic(name: str, units: int, fma_a_clock: int, clock_hz: float) -> None:
    """Units, FMAs and clocks: stas00/ml-engineering @ 744d01e, compute/accelerator/README.md."""
    assert known(name).flops["bf16"].value == pytest.approx(2 * units * fma_a_clock * clock_hz, rel=0.01)


@pytest.mark.parametrize("name", KINDS)
def test_fewer_bits_are_no_faster_than_the_units_allow(name: str) -> None:
    """A figure with 2:4 sparsity beside a dense one would double the ratio."""
    flops = known(name).flops
    pairs = (("fp16", "bf16", 1.0), ("fp8", "bf16", 2.0), ("mxfp8", "fp8", 1.0), ("mxfp6", "fp8", 2.0))
    for narrow, wide, ratio in (*pairs, ("mxfp4", "fp8", 2.0), ("nvfp4", "fp8", 4.0)):
        if narrow in flops and wide in flops:
            assert flops[narrow].value / flops[wide].value <= ratio * 1.03, (narrow, wide)


def test_nvfp4_has_units_on_blackwell_only() -> None:
    assert {info.arch for info in map(known, KINDS) if "nvfp4" in info.native} == {"sm100", "sm103", "sm120"}


@pytest.mark.parametrize("name", KINDS)
def test_of_unified_memory_a_part_is_usable(name: str) -> None:
    ratio = known(name).usable_ratio
    assert (ratio is not None) == (known(name).vendor == "apple")
    assert ratio is None or ratio.value < 1
