"""The curated matrices are planned without a GPU at hand, and whatever they may not run is refused with its reason."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fleetbench import resources
from fleetbench.matrix.read import read
from tests.cli.inside import inside
from tests.cli.shell import Said

FOLDER = resources.root("matrices") / "curated"
MATRICES = sorted(FOLDER.glob("*.yaml"))
NAMES = [path.stem for path in MATRICES]
SAID = ("hardware", "recipe", "verdict", "rule", "sentence", "source")
SENTENCE = re.compile(r"[A-Za-z0-9`\"][^\n]*[A-Za-z0-9)`]")
"""Begins with a word and ends with one: nothing was left open, and whoever prints it puts the full stop."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curated")


@cache
def planned(name: str, folder: Path) -> Said:
    return inside("plan", str(FOLDER / f"{name}.yaml"), "--format", "json", folder=folder)


def document(name: str, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(planned(name, folder).out)
    return found


def verdicts(cells: list[dict[str, Any]], **axes: Any) -> set[str]:
    found = {cell["verdict"] for cell in cells if all(cell[name] == value for name, value in axes.items())}
    assert found or not cells
    return found


def test_there_are_enough_of_them_and_the_readme_tells_each() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert len(NAMES) >= 8
    assert [name for name in NAMES if f"{name}.yaml" not in readme] == []


@pytest.mark.parametrize("name", NAMES)
def test_each_asks_a_question_and_keeps_a_reference(name: str) -> None:
    matrix = read(FOLDER / f"{name}.yaml")
    assert matrix.analysis.endswith("?")
    assert matrix.repeats > 1
    assert len(matrix.recipes) > 1


@pytest.mark.parametrize("name", NAMES)
def test_each_is_planned_without_a_gpu_and_every_refusal_is_complete(name: str, folder: Path) -> None:
    said, found = planned(name, folder), document(name, folder)
    assert said.code == (1 if found["refusals"] else 0)
    assert said.err == ""
    assert found["cells"]
    assert found["launches"]
    for refusal in found["refusals"]:
        assert all(refusal[key] for key in SAID), refusal
        assert SENTENCE.fullmatch(refusal["sentence"]), refusal["sentence"]
        assert refusal["sentence"].count("(") == refusal["sentence"].count(")")
        assert not re.search(r"\s\s|None|[{}]|\b(nan|inf)\b", refusal["sentence"]), refusal["sentence"]


@pytest.mark.parametrize("name", NAMES)
def test_its_numbers_agree_with_each_other(name: str, folder: Path) -> None:
    found = document(name, folder)
    cells, launches, refusals = found["cells"], found["launches"], found["refusals"]
    ids = [one["cell_id"] for one in (*cells, *refusals)]
    assert len(ids) == len(set(ids))
    by_launch = {launch["launch_id"]: launch for launch in launches}
    assert len(by_launch) == len(launches)
    for cell in cells:
        launch = by_launch[cell["launch_id"]]
        shared = ("model", "recipe", "engine", "engine_version", "hardware", "tp", "pp", "dp", "artifact_id", "verdict")
        assert {key: cell[key] for key in shared} == {key: launch[key] for key in shared}
        assert cell["context_tok"] + cell["output_tok"] <= launch["slot_tok"]
        assert cell["batch"] <= launch["slots"]
        assert cell["itl_floor_ms"] is None or cell["itl_floor_ms"] > 0
        assert cell["ttft_floor_ms"] is None or cell["ttft_floor_ms"] > 0
    estimate = found["estimate"]
    assert sum(launch["trials"] for launch in launches) == estimate["trials"]
    assert sum(launch["estimated_s"] for launch in launches) == pytest.approx(estimate["seconds"], abs=len(launches))


@pytest.mark.parametrize("name", ["seeds-llama3-70b", "gguf-at-the-edge"])
def test_it_is_told_in_words_too(name: str, folder: Path) -> None:
    said = inside("plan", str(FOLDER / f"{name}.yaml"), folder=folder)
    assert said.code == planned(name, folder).code
    assert f"{len(document(name, folder)['cells'])} cells" in said.out
    assert f"{len(document(name, folder)['refusals'])} refused" in said.out


def test_the_seeds_tables_have_nvfp4_native_on_b200_and_refused_on_h100(folder: Path) -> None:
    found = document("seeds-llama3-70b", folder)
    assert verdicts(found["cells"], recipe="nvfp4", hardware="b200") == {"native"}
    assert {cell["hardware"] for cell in found["cells"] if cell["recipe"] == "nvfp4"} == {"b200"}
    refused = [one for one in found["refusals"] if (one["recipe"], one["hardware"]) == ("nvfp4", "h100")]
    assert {(one["verdict"], one["rule"]) for one in refused} == {("emulated", "weights-emulated")}
    assert all("b200" in one["sentence"] and "NVFP4 has no tensor cores on h100" in one["sentence"] for one in refused)


def test_sixteen_bits_of_70b_run_on_one_mi300x_and_not_on_one_h100(folder: Path) -> None:
    cells = document("mi300x-against-h100", folder)["cells"]
    alone = {cell["hardware"] for cell in cells if (cell["recipe"], cell["tp"]) == ("bf16", 1)}
    assert alone == {"mi300x"}


def test_a_narrow_cache_runs_where_a_wide_one_does_not_fit(folder: Path) -> None:
    found = document("kv-over-context", folder)

    def loads(recipe: str) -> set[tuple[int, int]]:
        return {(cell["batch"], cell["context_tok"]) for cell in found["cells"] if cell["recipe"] == recipe}

    assert loads("fp8-kv8") > loads("fp8")
    assert {one["rule"] for one in found["refusals"]} == {"memory"}
