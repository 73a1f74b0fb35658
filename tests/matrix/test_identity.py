from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.matrix import identity
from fleetbench.matrix.types import Calibration, Draft, EngineInfo, KvFormat, LoadPoint, Parallel, QualityPoint, Recipe

RECIPE = Recipe(name="q4-kv8", weights="q4_k", kv=KvFormat(k="q8_0", v="q8_0"), protect=("a", "b"))
POINT = LoadPoint(batch=4, context_tok=64, output_tok=32)
PARTS: dict[str, Any] = {
    "artifact_id": "0123456789abcdef",
    "recipe": RECIPE,
    "engine": EngineInfo(name="llamacpp", version="1", toolchain="t"),
    "hardware": "local",
    "parallel": Parallel(),
    "work": POINT,
    "seed": 0,
}
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner, max_size=4)
)


def cell(**changed: Any) -> str:
    parts = PARTS | changed
    work = parts.pop("work")
    return identity.cell_id(identity.start_axes(**parts), identity.work_axes(work))


@given(TREES)
def test_a_digest_knows_no_order_of_keys(tree: Any) -> None:
    def backwards(part: Any) -> Any:
        if not isinstance(part, dict):
            return part
        return {key: backwards(part[key]) for key in reversed(list(part))}

    assert identity.digest(tree) == identity.digest(backwards(tree))


def test_what_has_no_json_has_no_digest() -> None:
    with pytest.raises(ValueError, match="JSON"):
        identity.digest({"a": math.nan})


def test_ids_stay_the_same_in_every_version() -> None:
    assert identity.artifact_id("00", RECIPE, "t") == "a4200dd36fce89d9"
    assert cell() == "5fc6cf93b85ab608"
    assert identity.trial_id("r", "c", 0, "measure") == "caf81568627365a2"


@pytest.mark.parametrize(
    "changed",
    [
        {"artifact_id": "x"},
        {"hardware": "h100"},
        {"seed": 1},
        {"parallel": Parallel(tp=2)},
        {"parallel": Parallel(pp=2)},
        {"parallel": Parallel(dp=2)},
        {"engine": EngineInfo(name="llamacpp", version="2", toolchain="t")},
        {"engine": EngineInfo(name="vllm", version="1", toolchain="t")},
        {"work": dataclasses.replace(POINT, batch=8)},
        {"work": dataclasses.replace(POINT, context_tok=65)},
        {"work": dataclasses.replace(POINT, output_tok=33)},
        {"work": dataclasses.replace(POINT, batch=None, rate=4.0, arrivals="poisson")},
        {"work": dataclasses.replace(POINT, batch=None, rate=4.0, arrivals="constant")},
        {"work": QualityPoint(suite="embedded", version="1", items=300)},
        {"work": QualityPoint(suite="embedded", version="2", items=300)},
        {"work": QualityPoint(suite="embedded", version="1", items=301)},
        {"recipe": dataclasses.replace(RECIPE, weights="q5_k")},
        {"recipe": dataclasses.replace(RECIPE, activations="fp8")},
        {"recipe": dataclasses.replace(RECIPE, kv=KvFormat(k="q8_0", v="q4_0"))},
        {"recipe": dataclasses.replace(RECIPE, kv=KvFormat(k="q4_0", v="q8_0"))},
        {"recipe": dataclasses.replace(RECIPE, attention="fp8")},
        {"recipe": dataclasses.replace(RECIPE, kv=dataclasses.replace(RECIPE.kv, k_scales="per_head"))},
        {"recipe": dataclasses.replace(RECIPE, scales="static")},
        {"recipe": dataclasses.replace(RECIPE, lora=("adapter",))},
        {"recipe": dataclasses.replace(RECIPE, draft=Draft(method="ngram", model=None, tokens=4))},
        {"engine": EngineInfo(name="llamacpp", version="1", toolchain="t", args=("--x",))},
    ],
)
def test_whatever_is_measured_changes_the_cell(changed: dict[str, Any]) -> None:
    assert cell(**changed) != cell()


def test_all_cells_that_differ_have_ids_that_differ() -> None:
    points = [dataclasses.replace(POINT, batch=batch, context_tok=tok) for batch in range(1, 50) for tok in range(50)]
    assert len({cell(work=point) for point in points}) == len(points)


@pytest.mark.parametrize(
    "changed",
    [
        {"recipe": dataclasses.replace(RECIPE, name="other")},
        {"recipe": dataclasses.replace(RECIPE, protect=("b", "a"))},
        {"engine": EngineInfo(name="llamacpp", version="1", toolchain="other")},
    ],
)
def test_names_and_orders_do_not_change_the_cell(changed: dict[str, Any]) -> None:
    assert cell(**changed) == cell()


def test_an_artifact_is_what_makes_its_bytes() -> None:
    same = identity.artifact_id("d", RECIPE, "t")
    assert identity.artifact_id("d", dataclasses.replace(RECIPE, name="x", kv=KvFormat(), attention="x"), "t") == same
    for changed in (
        {"weights": "q5_k"},
        {"method": "gptq"},
        {"group_size": 64},
        {"calibration": Calibration(path="c4.txt", sha256="00")},
        {"protect": ("a",)},
        {"activations": "fp8"},
        {"scales": "static"},
    ):
        assert identity.artifact_id("d", dataclasses.replace(RECIPE, **changed), "t") != same
    read, moved, other = (
        dataclasses.replace(RECIPE, calibration=Calibration(path=path, sha256=sha256))
        for path, sha256 in (("a.txt", "00"), ("b.txt", "00"), ("a.txt", "01"))
    )
    assert identity.artifact_id("d", read, "t") == identity.artifact_id("d", moved, "t")
    assert identity.artifact_id("d", read, "t") != identity.artifact_id("d", other, "t")
    assert identity.artifact_id("e", RECIPE, "t") != same
    assert identity.artifact_id("d", RECIPE, "u") != same


def test_a_trial_is_its_run_cell_repeat_and_role() -> None:
    trials = {
        identity.trial_id(run, cell_id, repeat, role)
        for run in ("r", "s")
        for cell_id in ("c", "d")
        for repeat in (0, 1)
        for role in ("measure", "control")
    }
    assert len(trials) == 16
