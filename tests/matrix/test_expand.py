from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleetbench import resources
from fleetbench.matrix import expand, identity, read
from fleetbench.matrix.document import Lines, parse
from fleetbench.matrix.types import EngineAsk, EngineInfo, LoadPoint, Matrix, ModelInfo, QualityPoint

TINY = ModelInfo(
    name="tiny", digest="d1", max_context_tok=1024, vocab_tok=128, params=2, random_weights=False, suites=("embedded",)
)
LADDER = ModelInfo(
    name="ladder-75m", digest="d2", max_context_tok=4096, vocab_tok=128, params=75, random_weights=True, suites=()
)
MODELS = {"tiny": TINY, "ladder-75m": LADDER}
ENGINES = {EngineAsk(name="llamacpp"): EngineInfo(name="llamacpp", version="1", toolchain="t")}
QUICKSTART = (resources.root("matrices") / "smoke" / "quickstart.yaml").read_text(encoding="utf-8")


def matrix(**changed: Any) -> Matrix:
    return read.read_text(yaml.safe_dump(yaml.safe_load(QUICKSTART) | changed), "m.yaml")


def ids(of: Matrix) -> list[str]:
    return [cell.cell_id for cell in expand.expand(of, MODELS, ENGINES).cells]


def test_the_quickstart_has_twenty_speed_and_five_quality_cells() -> None:
    expansion = expand.expand(matrix(), MODELS, ENGINES)
    kinds = [cell.kind for cell in expansion.cells]
    assert (kinds.count("speed"), kinds.count("quality"), expansion.excluded) == (20, 5, ())
    assert expand.count(matrix()) == len(expansion.cells)
    assert {cell.model.name for cell in expansion.cells if cell.kind == "quality"} == {"tiny"}
    assert {cell.recipe.name for cell in expansion.cells if cell.reference} == {"f16"}


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "other"},
        {"analysis": "Another question?"},
        {"repeats": 7},
        {"slo": {"ttft_p99_ms": 5}},
        {"limits": {"launch": "1m", "cost_usd": 3}},
        {"reference": "q8_0"},
        {"load": {"batch": [1, 4], "context": [64, 256], "output": 32, "requests": 99, "warmup": 9}},
    ],
)
def test_what_is_not_measured_does_not_change_a_cell(changed: dict[str, Any]) -> None:
    assert ids(matrix(**changed)) == ids(matrix())
    assert identity.run_id(matrix(**changed), "default") != identity.run_id(matrix(), "default")


def test_the_names_of_recipes_do_not_change_a_cell() -> None:
    named = [{"name": f"r-{name}", "weights": name} for name in ("f16", "q8_0", "q6_k", "q4_k", "q2_k")]
    assert ids(matrix(recipes=named, reference="r-f16")) == ids(matrix())


@pytest.mark.parametrize("changed", [{"seed": 1}, {"parallel": {"tp": 2}}, {"hardware": "h100"}, {"engines": "vllm"}])
def test_what_is_measured_changes_every_cell(changed: dict[str, Any]) -> None:
    assert not set(ids(matrix(**changed))) & set(ids(matrix()))


@given(st.permutations(["f16", "q8_0", "q6_k", "q4_k", "q2_k"]), st.permutations([1, 2, 4]))
def test_the_order_of_an_axis_changes_the_order_of_cells_only(recipes: list[str], batch: list[int]) -> None:
    load = {"batch": batch, "context": [64, 256], "output": 32}
    straight = {"batch": [1, 2, 4], "context": [64, 256], "output": 32}
    assert sorted(ids(matrix(recipes=recipes, load=load))) == sorted(ids(matrix(load=straight)))


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.sampled_from([(), ("speed",)]))
def test_as_many_cells_as_counted_all_different(
    batches: int, contexts: int, degrees: int, hardware: int, more: tuple[str, ...]
) -> None:
    changed: dict[str, Any] = {
        "load": {"batch": list(range(1, batches + 1)), "context": list(range(1, contexts + 1)), "output": 1},
        "parallel": {"tp": list(range(1, degrees + 1))},
        "hardware": ["local", "h100"][:hardware],
        "models": [{"name": "tiny", "measure": ["quality", *more]}, {"name": "ladder-75m", "measure": "speed"}],
    }
    found = matrix(**changed)
    assert len(set(ids(found))) == len(ids(found)) == expand.count(found)


def test_a_run_is_its_matrix_and_its_name() -> None:
    assert identity.run_id(matrix(), "default") == identity.run_id(matrix(), "default")
    assert identity.run_id(matrix(), "nightly") != identity.run_id(matrix(), "default")
    assert len(identity.run_id(matrix(), "default")) == 12


def test_excluded_cells_stay_visible_with_their_reason() -> None:
    rules = [
        {"recipe": ["q2_k", "q4_k"], "batch": 4, "because": "too slow together"},
        {"recipe": "q2_k", "because": "never"},
    ]
    expansion = expand.expand(matrix(exclude=rules), MODELS, ENGINES)
    reasons = [rule.because for _, rule in expansion.excluded]
    assert (reasons.count("too slow together"), reasons.count("never")) == (4, 3)
    assert len(expansion.cells) == 25 - 7
    for cell, rule in expansion.excluded:
        if rule.because == "too slow together":
            assert isinstance(cell.work, LoadPoint)
            assert cell.work.batch == 4


def test_an_axis_that_a_cell_has_not_does_not_exclude_it() -> None:
    expansion = expand.expand(matrix(exclude={"batch": [1, 4], "because": "x"}), MODELS, ENGINES)
    assert {cell.kind for cell in expansion.cells} == {"quality"}


def test_a_rate_is_excluded_however_it_is_written() -> None:
    load = {"rate": [2, 5.5], "context": 64, "output": 8}
    found = matrix(load=load, exclude={"rate": [2.0, 5.5], "because": "x"})
    assert {cell.kind for cell in expand.expand(found, MODELS, ENGINES).cells} == {"quality"}


def test_an_engine_that_is_not_found_has_cells_that_can_be_refused() -> None:
    cells = expand.expand(matrix(engines=["llamacpp", "vllm"]), MODELS, ENGINES).cells
    assert {cell.engine.version for cell in cells if cell.engine.name == "vllm"} == {expand.NOT_FOUND}


def test_artifacts_are_shared_by_recipes_of_equal_weights() -> None:
    recipes = ["f16", {"name": "kv8", "weights": "f16", "kv": "q8_0"}]
    cells = expand.expand(matrix(recipes=recipes), MODELS, ENGINES).cells
    assert len({cell.artifact_id for cell in cells if cell.model.name == "tiny"}) == 1


def test_the_quality_point_carries_the_version_of_its_suite() -> None:
    works = [cell.work for cell in expand.expand(matrix(), MODELS, ENGINES).cells if cell.kind == "quality"]
    assert works[0] == QualityPoint(suite="embedded", version="1", items=300)


def test_a_context_beyond_every_model_is_a_mistake_with_its_line() -> None:
    text = QUICKSTART.replace("[64, 256]", "[64, 4065]")
    found = read.read_text(text, "m.yaml")
    number = 1 + text[: text.index("context:")].count("\n")
    lines = Lines(source="m.yaml", root=parse(text).root)
    (mistake,) = expand.check_axes(found, MODELS, lines)
    assert mistake.startswith(f"m.yaml:{number}: load.context[1]: 4065 tokens")
    assert expand.check_axes(found, MODELS)[0].startswith("load.context[1]: ")


def test_a_context_that_just_fits_is_no_mistake() -> None:
    load = {"batch": 1, "context": [64, 4064], "output": [32, 4032]}
    assert expand.check_axes(matrix(load=load), MODELS) == ()


def test_an_output_beyond_every_model_is_a_mistake() -> None:
    found = expand.check_axes(matrix(load={"batch": 1, "context": 64, "output": [1, 4033]}), MODELS)
    assert [mistake.split(":")[0] for mistake in found] == ["load.output[1]"]


def test_only_models_that_measure_speed_bound_the_context() -> None:
    models = [{"name": "tiny", "measure": "speed"}, {"name": "ladder-75m", "measure": "quality"}]
    found = expand.check_axes(matrix(models=models, load={"batch": 1, "context": 2000, "output": 1}), MODELS)
    assert any(mistake.startswith("load.context[0]: ") for mistake in found)


def test_a_suite_that_no_model_knows_is_a_mistake() -> None:
    found = expand.check_axes(matrix(models=["ladder-75m"]), MODELS)
    assert [mistake.split(":")[0] for mistake in found] == ["quality.suite"]


def test_quality_alone_of_random_weights_is_a_mistake() -> None:
    models = ["tiny", {"name": "ladder-75m", "measure": "quality"}]
    found = expand.check_axes(matrix(models=models), MODELS)
    assert found == (
        "models[1]: ladder-75m has no quality to measure: its weights are random (measure speed, or remove it)",
    )


def test_what_is_measured_of_a_model_does_not_depend_on_other_models() -> None:
    alone = matrix(models=[{"name": "ladder-75m"}])
    both = set(ids(matrix(models=[{"name": "ladder-75m", "measure": "speed"}, "tiny"])))
    assert set(ids(alone)) <= both
