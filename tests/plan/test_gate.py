from __future__ import annotations

from dataclasses import replace

import pytest

from fleetbench.catalog import lookup
from fleetbench.matrix.types import EngineInfo, KvFormat, Recipe
from fleetbench.plan.gate import gate
from tests.plan import examples

LOCAL = frozenset({"local"})


def test_a_cell_of_the_embedded_engine_passes() -> None:
    assert gate(examples.cell("q4_k"), LOCAL) is None


@pytest.mark.parametrize("name", [name for name in lookup.engine_names() if name != "llamacpp"])
def test_an_engine_that_this_version_does_not_run_is_refused_as_such(name: str) -> None:
    engine = EngineInfo(name=name, version="not found", toolchain="not found")
    refusal = gate(replace(examples.cell(), engine=engine), LOCAL)
    assert refusal is not None
    assert refusal.rule == "engine-not-implemented"
    assert refusal.sentence == f"{name} is known, but this version runs only llamacpp"


@pytest.mark.parametrize(
    ("recipe", "rule"),
    [
        (Recipe(name="x", weights="int4"), "weights"),
        (Recipe(name="x", weights="f16", kv=KvFormat(v="fp8")), "kv"),
        (Recipe(name="x", weights="f16", activations="fp8"), "activations"),
        (Recipe(name="x", weights="q4_k", method="gptq"), "method"),
        (Recipe(name="x", weights="f16", attention="fp8"), "attention"),
    ],
)
def test_a_refusal_names_the_axis_that_cannot_be_had(recipe: Recipe, rule: str) -> None:
    refusal = gate(examples.cell(recipe=recipe), LOCAL)
    assert refusal is not None
    assert refusal.rule == rule
