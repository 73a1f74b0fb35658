"""What is fetched and made for a plan, in which order, and what a failure leaves alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fleetbench.artifact import hub, toolenv
from fleetbench.artifact.hub import Pinned
from fleetbench.artifact.types import ArtifactError
from fleetbench.errors import InputError
from fleetbench.fleet.planning import plan_file
from fleetbench.fleet.preparing import Prepared, fetch_configs, fetch_models, prepare
from fleetbench.store.commit import Warehouse
from tests.artifact.folders import COMMIT, QWEN, WEIGHTS, cached
from tests.small import write_matrix

SPEED = "[{name: tiny, measure: speed}]"
Asked = list[tuple[str, str | None, tuple[str, ...] | None]]


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv(toolenv.VARIABLE, "/nowhere/bin/python")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What the hub would be asked for: it has `org/...`, and `gone/...` it has not."""
    found: Asked = []

    def fetch(name: str, revision: str | None, files: tuple[str, ...] | None = None, *, way: hub.Way) -> Pinned:
        assert way.token is None
        found.append((name, revision, files))
        if name.startswith("gone/"):
            raise ArtifactError(f"model {name} cannot be fetched: it is gone")
        return Pinned(commit=COMMIT, folder=None)

    monkeypatch.setattr(hub, "fetch", fetch)
    return found


def make(path: Path, folder: Path, failed: dict[str, str] | None = None) -> list[Prepared]:
    warehouse = Warehouse(folder / "warehouse")
    warehouse.create()
    said: list[str] = []
    made = list(prepare(plan_file(path, "default"), failed or {}, folder / "cache", warehouse, said.append))
    assert len(said) == len(made)
    return made


def test_only_models_that_nobody_here_knows_are_asked_for_their_config(tmp_path: Path, asked: Asked) -> None:
    cached(tmp_path / "hub", "org/known", {"config.json": QWEN})
    models = "[tiny, org/known, org/new, org/other@v2, llama-3.1-8b, meta-llama/Llama-3.1-70B-Instruct]"
    said: list[str] = []
    fetch_configs(write_matrix(tmp_path, models=models, quality=None), said.append)
    assert asked == [("org/new", None, ("config.json",)), ("org/other", "v2", ("config.json",))]
    assert said == ["fetching the config.json of org/new", "fetching the config.json of org/other"]


def test_a_wrong_matrix_asks_nobody(tmp_path: Path, asked: Asked) -> None:
    with pytest.raises(InputError):
        fetch_configs(write_matrix(tmp_path, models="[org/new]", repeats="0"), print)
    assert asked == []


def test_weights_are_fetched_once_a_model_at_the_commit_that_was_planned_with(tmp_path: Path, asked: Asked) -> None:
    cached(tmp_path / "hub", "org/part", {"config.json": QWEN})
    cached(tmp_path / "hub", "org/whole", {"config.json": QWEN, "model.safetensors": WEIGHTS})
    cached(tmp_path / "hub", "gone/away", {"config.json": QWEN})
    path = write_matrix(
        tmp_path, models="[gone/away, org/part, org/whole, tiny]", engines="vllm", hardware="h100", quality=None,
        recipes="[f16, fp8]",
    )  # fmt: skip
    failed = fetch_models(plan_file(path, "default"), print)
    assert [(name, revision) for name, revision, _ in asked] == [("gone/away", COMMIT), ("org/part", COMMIT)]
    assert failed == {"away": "model gone/away cannot be fetched: it is gone"}


def test_a_model_that_every_cell_is_refused_for_is_not_fetched(tmp_path: Path, asked: Asked) -> None:
    cached(tmp_path / "hub", "org/part", {"config.json": QWEN})
    path = write_matrix(tmp_path, models="[org/part]", engines="llamacpp", hardware="h100", quality=None)
    assert fetch_models(plan_file(path, "default"), print) == {}
    assert asked == []


def test_recipes_that_share_a_checkpoint_make_it_once(tmp_path: Path) -> None:
    recipes = "[f16, {name: narrow, weights: f16, kv: q8_0}]"
    made = make(write_matrix(tmp_path, models=SPEED, quality=None, recipes=recipes), tmp_path)
    assert [(one.launch.recipe.name, one.state) for one in made] == [("f16", "made")]


def test_why_a_model_was_not_fetched_is_why_its_checkpoints_fail(tmp_path: Path) -> None:
    cached(tmp_path / "hub", "org/part", {"config.json": QWEN})
    path = write_matrix(tmp_path, models="[org/part]", engines="vllm", hardware="h100", quality=None, recipes="[f16]")
    (fetched,) = make(path, tmp_path, {"part": "it is gated"})
    assert (fetched.state, fetched.why) == ("failed", "it is gated")
    (unasked,) = make(path, tmp_path)
    assert unasked.why is not None
    assert "not all on this machine" in unasked.why


def test_other_tools_commands_come_with_what_llmcompressor_could_not_make(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, models=SPEED, engines="vllm", quality=None, recipes="[f16, nvfp4]", hardware="b200")
    made = {one.launch.recipe.name: one for one in make(path, tmp_path)}
    assert (made["f16"].state, made["f16"].commands) == ("here", ())
    assert made["nvfp4"].state == "failed"
    assert {command.tool.split()[0] for command in made["nvfp4"].commands} >= {"NVIDIA"}


def test_a_cost_that_cannot_be_kept_is_said_and_what_was_made_stays(tmp_path: Path) -> None:
    path = write_matrix(tmp_path, models=SPEED, quality=None, recipes="[f16]")
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    shutil.rmtree(tmp_path / "warehouse" / "landing")
    (tmp_path / "warehouse" / "landing").write_text("a file where tables should be")
    planned = plan_file(path, "default")
    (made,) = prepare(planned, {}, tmp_path / "cache", warehouse, print)
    assert made.state == "failed"
    assert made.why is not None
    assert "landing" in made.why
    (again,) = prepare(planned, {}, tmp_path / "cache", None, print)
    assert again.state == "here"
