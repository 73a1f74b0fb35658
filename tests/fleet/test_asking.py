"""One cell asked for by hand: every name found, or every wrong one said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fleetbench.errors import InputError
from fleetbench.fleet.asking import Asked, ask
from fleetbench.matrix.types import LoadPoint
from fleetbench.plan.gate import Objection
from fleetbench.plan.types import Ruling, sequence_tok
from tests.artifact.folders import QWEN, write


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def asked(**changes: Any) -> Asked:
    words: dict[str, Any] = {
        "model": "llama-3.1-8b", "gpu": "h100", "recipe": "fp8", "kv": None, "engine": "vllm", "batch": 1,
        "context_tok": 2048, "tp": 1, "pp": 1, **changes,
    }  # fmt: skip
    return ask(**words)


def mistakes(**changes: Any) -> tuple[str, ...]:
    with pytest.raises(InputError) as caught:
        asked(**changes)
    return caught.value.mistakes


def test_aliases_stand_for_their_names() -> None:
    found = asked(gpu="H100-SXM", model="meta-llama/Llama-3.1-8B-Instruct", engine="trtllm")
    assert (found.gpu.name, found.cell.hardware, found.cell.engine.name) == ("h100", "h100", "tensorrt-llm")
    assert found.cell.model.params == asked().cell.model.params


@pytest.mark.parametrize("context_tok", [2, 3, 2048, 131_072])
def test_the_cell_holds_as_many_tokens_as_were_asked(context_tok: int) -> None:
    cell = asked(context_tok=context_tok).cell
    assert sequence_tok(cell) == context_tok
    assert isinstance(cell.work, LoadPoint)
    assert cell.work.context_tok > 0


def test_the_recipe_is_the_one_that_a_matrix_would_have() -> None:
    recipe = asked(recipe="awq").cell.recipe
    assert (recipe.weights, recipe.activations, recipe.group_size, recipe.method) == ("int4", "bf16", 128, "awq")
    assert asked(recipe="q4_k_m", engine="llama-server").cell.recipe.weights == "q4_k_m"


def test_a_cache_format_may_be_an_alias_and_replaces_the_recipes() -> None:
    recipe = asked(recipe="fp8", kv="fp8_e4m3").cell.recipe
    assert (recipe.kv.k, recipe.kv.v) == ("fp8", "fp8")
    assert asked(recipe="fp8-kv8", kv="bf16").cell.recipe.kv.k == "bf16"


def test_what_the_engine_makes_of_it_is_ruled_as_in_a_plan() -> None:
    ruled = asked().ruled
    assert isinstance(ruled, Ruling)
    assert ruled.verdict == "native"
    refused = asked(recipe="nvfp4", engine="tensorrt-llm").ruled
    assert isinstance(refused, Objection)
    assert refused.verdict == "hardware_cannot"
    emulated = asked(recipe="nvfp4").ruled
    assert isinstance(emulated, Ruling)
    assert emulated.verdict == "emulated"


def test_memory_is_the_answer_and_no_objection_but_context_is_one() -> None:
    assert isinstance(asked(model="llama-3.1-405b", batch=1000).ruled, Ruling)
    long = asked(context_tok=131_073).ruled
    assert isinstance(long, Objection)
    assert long.rule == "context"


def test_every_unknown_name_is_said_at_once_with_the_nearest() -> None:
    found = mistakes(gpu="h1oo", engine="vlllm", recipe="awqq", kv="fp88", model="llama-3.1-8")
    assert len(found) == 5
    assert all("did you mean" in one for one in found)


def test_a_model_without_a_name_near_it_is_told_how_to_be_given() -> None:
    assert mistakes(model="zzzzzzzz") == ("model zzzzzzzz: no such model is known (give its path, or its hub id)",)


def test_a_broken_folder_is_said_by_its_file_and_not_by_names_near_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "llama-3.1-8bb", {"config.json": {**QWEN, "hidden_size": "wide"}})
    found = mistakes(model=str(folder))
    assert all(one.startswith(str(folder / "config.json")) for one in found)
    assert any("hidden_size" in one for one in found)


def test_a_folder_in_the_working_folder_needs_no_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine", {"config.json": QWEN})
    monkeypatch.chdir(tmp_path)
    names = {asked(model=word).cell.model.name for word in ("mine", "./mine", "mine/", "mine/config.json")}
    assert names == {"mine"}
