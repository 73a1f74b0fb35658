"""Recorded flags and the adapters' command lines against real wheels, in a folder that a variable names."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from fleetbench.engine import flags, sglang, vllm
from fleetbench.engine.protocol import EngineAdapter
from fleetbench.matrix.types import Draft, KvFormat, Parallel, Recipe
from tests.engine.adapters import command, value
from tests.engines.wheel_flags import read_wheel

pytestmark = [pytest.mark.slow, pytest.mark.engines]

FOLDER = "FLEETBENCH_WHEELS"
ADAPTERS: dict[str, EngineAdapter] = {"vllm": vllm.Vllm(), "sglang": sglang.Sglang()}
FULL = Recipe(
    name="all",
    weights="mxfp8",  # that every version makes while it loads
    activations="mxfp8",
    kv=KvFormat(k="fp8", v="fp8"),
    lora=("/adapters/one",),
    draft=Draft(method="eagle3", model="/models/head", tokens=3),
)


found = cache(read_wheel)


def wheels() -> list[Path]:
    named = os.environ.get(FOLDER)
    there = sorted(Path(named).glob("*.whl")) if named else []
    return [wheel for wheel in there if wheel.name.split("-")[0] in ADAPTERS]


THERE: list[Path | None] = [*wheels()] or [None]


@pytest.fixture(params=THERE, ids=lambda wheel: wheel.name if wheel else "none")
def wheel(request: pytest.FixtureRequest) -> Path:
    if request.param is None:
        pytest.skip(
            f"{FOLDER} names no folder with wheels of vllm or sglang: pip download --no-deps -d FOLDER vllm==0.33.0"
        )
    given: Path = request.param
    return given


def test_the_recorded_flags_are_the_wheels(wheel: Path) -> None:
    engine, version = wheel.name.split("-")[:2]
    assert flags.known(engine, version) == found(wheel)


def test_the_adapters_flags_are_the_wheels(wheel: Path) -> None:
    engine, version = wheel.name.split("-")[:2]
    argv = command(ADAPTERS[engine], version, recipe=FULL, dummy=True, parallel=Parallel(tp=4, pp=2, dp=2)).argv
    assert [word for word in argv[3:] if word.startswith("--") and word not in found(wheel)] == []
    for flag in ("--quantization", "--kv-cache-dtype"):
        assert f"{flag}={value(argv, flag)}" in found(wheel)
