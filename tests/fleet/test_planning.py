"""From a matrix file to a plan: for any fleet with a config.json alone, or for this machine with what it really has."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact import source, toolenv
from fleetbench.errors import InputError, UnusableEnvironmentError
from fleetbench.fleet.planning import Planned, plan_cluster, plan_file, plan_here
from fleetbench.fleet.rows import trial_row
from fleetbench.fleet.submission import check_nodes, open_submission, record_plan
from fleetbench.matrix.types import Outcome
from fleetbench.plan.types import Fleet, NodeKind, Plan, Refusal
from fleetbench.store.commit import Warehouse
from tests.artifact.folders import COMMIT, QWEN, WEIGHTS, cached, write
from tests.small import write_matrix

MINE = "[{name: mine, path: mine, measure: speed}]"
CONFIG = {"config.json": QWEN}
WHOLE = {**CONFIG, "model.safetensors": WEIGHTS}


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine's own: no settings, no hub cache, no tool, no artifacts."""
    monkeypatch.setenv("FLEETBENCH_NODE", "")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("FLEETBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv(toolenv.VARIABLE, raising=False)


def matrix(folder: Path, more: str = "", **changes: Any) -> Path:
    """The small matrix of speed alone, with lines replaced and added."""
    path = write_matrix(folder, **{"models": "[{name: tiny, measure: speed}]", "quality": None, **changes})
    path.write_text(path.read_text() + more)
    return path


def everywhere(folder: Path, more: str = "", **changes: Any) -> Planned:
    return plan_file(matrix(folder, more, **changes), "default")


def here(folder: Path, more: str = "", **changes: Any) -> Plan:
    return plan_here(matrix(folder, more, **changes), "default").plan


def refusal(plan: Plan) -> Refusal:
    """The one reason of a plan that refuses everything."""
    assert plan.launches == ()
    reasons = {(one.verdict, one.rule, one.sentence, one.source) for one in plan.refusals}
    assert len(reasons) == 1, reasons
    assert all(reasons.pop())
    return plan.refusals[0]


def mistakes(folder: Path, more: str = "", **changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        everywhere(folder, more, **changes)
    assert all("small.yaml:" in one for one in caught.value.mistakes)
    return str(caught.value)


def artifacts(planned: Planned) -> set[str]:
    return {launch.artifact_id for launch in planned.plan.launches}


def test_a_config_beside_the_matrix_is_enough_of_a_model_to_plan_with(tmp_path: Path) -> None:
    write(tmp_path / "mine", CONFIG)
    planned = everywhere(tmp_path, models=MINE, engines="vllm", hardware="h100", recipes="[f16, int4]")
    assert len(planned.plan.launches) == 3
    assert planned.model_paths == {"mine": tmp_path / "mine"}
    assert planned.plan.launches[0].model.lacks is not None


NODES = Fleet(
    kinds={
        kind: NodeKind(hardware=kind, gpus=8, nodes=1, engines={"vllm": "0.31.1", "sglang": "0.5.16"})
        for kind in ("h100", "h200")
    },
    about="the cluster",
)


def test_a_run_that_has_trials_is_planned_as_it_was_while_its_nodes_are_away(tmp_path: Path) -> None:
    """After a restart of the head no node says an engine's version, which is part of what a cell is."""
    write(tmp_path / "mine", CONFIG)
    path = matrix(tmp_path, models=MINE, engines="vllm", hardware="[h100, h200, b200]", recipes="[f16]")
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()

    def plan(fleet: Fleet, run: str = "default") -> Plan:
        return plan_cluster(path, run, fleet, may_come=False, warehouse=warehouse.root).plan

    away = replace(NODES, kinds={})
    assert plan(away).launches == ()
    before = plan(NODES)
    assert {one.hardware: one.engine.version for one in before.launches} == {"h100": "0.31.1", "h200": "0.31.1"}
    record_plan(before, warehouse)
    launch = before.launches[0]
    row = trial_row(
        run_id=before.run_id, launch=launch, launch_attempt=0, trial=launch.trials[0], attempt=0, node="n",
        outcome=Outcome.OK, reason=None, measured={},
    )  # fmt: skip
    assert warehouse.commit_trial(row, {})

    after = plan(away)
    assert [one.trial_id for one in after.trials] == [one.trial_id for one in before.trials]
    assert {one.cell.hardware for one in after.refusals} == {"b200"}, "no node of it was there before"
    assert plan(away, "another").launches == ()


def test_a_run_whose_nodes_are_all_away_begins_nothing_and_says_what_is_kept(tmp_path: Path) -> None:
    write(tmp_path / "mine", CONFIG)
    plan = everywhere(tmp_path, hardware="[h100, h200]", engines="vllm", models=MINE, recipes="[f16]")
    warehouse = Warehouse(tmp_path / "warehouse")
    submission = open_submission(plan, warehouse, tmp_path, retry_failed=False, only=None)
    said = (
        "no node of kind h100 has joined yet; no node of kind h200 may be measured on: n is stale; join one "
        "(fleetbench node up), and try again once `fleetbench nodes` shows one that is ready; or have it wait: "
        "--wait-for-nodes 10m"
    )
    with pytest.raises(UnusableEnvironmentError) as caught:
        check_nodes(submission, Fleet(kinds={}, about="the cluster", unfit={"h200": "n is stale"}))
    assert str(caught.value) == said
    half = replace(submission, outcomes=dict.fromkeys("abc", Outcome.OK))
    with pytest.raises(UnusableEnvironmentError, match=r"; 3 trials of this run are kept; join one"):
        check_nodes(half, Fleet(kinds={}, about="the cluster"))
    check_nodes(submission, replace(NODES, kinds={"h200": NODES.kinds["h200"]}))
    nothing = replace(plan.plan, launches=())
    check_nodes(replace(submission, todo=nothing), replace(NODES, kinds={}))
    refused = replace(submission, plan=nothing, todo=nothing)
    check_nodes(refused, NODES)
    with pytest.raises(UnusableEnvironmentError, match="no node of kind h100 has joined yet; no node of kind h200"):
        check_nodes(refused, replace(NODES, kinds={}))


def test_a_hub_model_is_planned_with_at_the_commit_that_the_cache_has(tmp_path: Path) -> None:
    snapshot = cached(tmp_path / "hub", "org/qwen", WHOLE, refs=("main", "v2"))
    for word in ("org/qwen", "org/qwen@v2", f"'org/qwen@{COMMIT}'"):
        planned = everywhere(tmp_path, models=f"[{word}]", engines="vllm", hardware="h100")
        model = planned.plan.launches[0].model
        assert (model.hub, model.revision, model.name) == ("org/qwen", COMMIT, "qwen")
        assert planned.model_paths == {"qwen": snapshot}


def test_the_newest_version_that_the_catalog_knows_is_meant_unless_another_is_named(tmp_path: Path) -> None:
    versions = [
        everywhere(tmp_path, engines=engines, hardware="h100", recipes="[f16]").plan.launches[0].engine.version
        for engines in ("vllm", "vllm==0.32.0")
    ]
    assert versions == ["0.33.0", "0.32.0"]


@pytest.mark.parametrize(
    ("models", "said"),
    [
        ("[{name: mine, path: broken}]", "broken/config.json: it is not JSON"),
        ("[./short]", "short/model.safetensors: it is truncated or no safetensors file"),
        ("[{name: mine, path: bare}]", "bare/config.json: No such file"),
        ("[{name: mine, path: nowhere}]", "no such folder"),
        ("[{name: mine, path: broken, dummy: true}]", "broken/config.json: it is not JSON"),
        ("[{name: mine, hub: nobody/thing}]", "nobody/thing"),
        ("[nobody/thing]", "nobody/thing"),
        ("[llama-3.1-8bb]", "did you mean llama-3.1-8b"),
        ("[{name: mine, hub: 'a/b/c'}]", "is no hub id"),
        ("[{name: mine, hub: org/x, path: bare}]", "has both path and hub"),
        ("[{name: tiny, dummy: true}]", "needs path"),
    ],
)
def test_what_is_wrong_with_a_model_is_said_with_its_file_and_its_line(models: str, said: str, tmp_path: Path) -> None:
    write(tmp_path / "broken", {"config.json": b'{"architectures"'})
    write(tmp_path / "short", {**CONFIG, "model.safetensors": b"short"})
    write(tmp_path / "bare", {})
    text = mistakes(tmp_path, models=models, engines="vllm")
    assert said in text
    assert "small.yaml:3: models[0]" in text


@pytest.mark.parametrize(
    "models", ["[tiny, {name: copy, path: copy}]", "[llama-3.1-8b, meta-llama/Llama-3.1-8B-Instruct]"]
)
def test_one_model_under_two_names_would_have_the_same_cells_twice(models: str, tmp_path: Path) -> None:
    shutil.copytree(Path(source.__file__).parent / "tiny", tmp_path / "copy")
    text = mistakes(tmp_path, models=models)
    assert "small.yaml:3: models[1]: " in text
    assert "under another name, by all that is known of it (keep one)" in text


def test_two_hub_models_of_one_shape_are_two_models_though_neither_is_here(tmp_path: Path) -> None:
    for name in ("org/one", "org/two"):
        cached(tmp_path / "hub", name, CONFIG)
    plan = everywhere(tmp_path, models="[org/one, org/two]", engines="vllm", hardware="h100", recipes="[f16]").plan
    assert len({launch.model.digest for launch in plan.launches}) == 2
    assert len({cell.cell_id for cell in plan.cells}) == 4


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (str, "No such file"),
        (lambda path: path.mkdir(), "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
    ],
)
def test_a_calibration_text_that_cannot_be_read_is_said_and_never_waited_for(
    make: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    make(tmp_path / "corpus.txt")
    recipes = "[f16, {name: i, weights: iq2_xs, method: imatrix, calibration: corpus.txt}]"
    text = mistakes(tmp_path, recipes=recipes)
    assert "small.yaml:7: recipes[1].calibration: " in text
    assert said in text


def test_a_checkpoint_changes_with_its_text_and_not_with_where_that_lies(tmp_path: Path) -> None:
    def planned(name: str, text: str) -> set[str]:
        (tmp_path / name).write_text(text)
        recipes = f"[{{name: i, weights: iq2_xs, method: imatrix, calibration: {name}}}]"
        return artifacts(everywhere(tmp_path, recipes=recipes, reference="i"))

    first = planned("one.txt", "some words")
    assert planned("two.txt", "some words") == first
    assert planned("one.txt", "other words") != first


def test_a_run_needs_a_name_that_a_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--run '\.\./x'"):
        plan_file(matrix(tmp_path), "../x")


def test_here_the_embedded_engine_runs_with_the_version_that_is_installed(tmp_path: Path) -> None:
    plan = here(tmp_path)
    assert plan.refusals == ()
    assert {launch.engine.version for launch in plan.launches} == {version("xllamacpp")}
    assert {launch.hardware for launch in plan.launches} == {"local"}


def test_a_plan_for_here_has_the_cells_and_checkpoints_of_the_plan_for_everywhere(tmp_path: Path) -> None:
    anywhere, local = everywhere(tmp_path).plan, here(tmp_path)
    assert anywhere.run_id == local.run_id
    assert [launch.launch_id for launch in anywhere.launches] == [launch.launch_id for launch in local.launches]
    assert [cell.cell_id for cell in anywhere.cells] == [cell.cell_id for cell in local.cells]


@pytest.mark.parametrize(
    ("changes", "verdict", "rule", "said"),
    [
        ({"hardware": "h100"}, "not_here", "no-node", "this machine has local"),
        ({"engines": "vllm"}, "not_here", "engine-not-here", "vLLM is not on the nodes of kind local"),
        ({"engines": "llamacpp==2026.10.1"}, "not_here", "engine-version", "2026.10.1 is planned with"),
        ({"engines": "llamacpp==1.0"}, "engine_cannot", "engine-version", "not 1.0"),
        ({"models": MINE}, "not_here", "checkpoint", "holds no *.safetensors file"),
        ({"models": "[llama-3.1-8b]"}, "not_here", "checkpoint", "`fleetbench prepare` fetches them"),
        ({"models": "[{name: mine, path: whole}]"}, "not_here", "checkpoint", "mine is Qwen2ForCausalLM"),
        ({"models": "[{name: mine, path: mine, dummy: true}]"}, "engine_cannot", "start", "no weights without a file"),
    ],
)
def test_what_this_machine_lacks_refuses_a_cell_before_anything_starts(
    changes: dict[str, str], verdict: str, rule: str, said: str, tmp_path: Path
) -> None:
    write(tmp_path / "mine", CONFIG)
    write(tmp_path / "whole", WHOLE)
    reason = refusal(here(tmp_path, **{"recipes": "[f16]", **changes}))
    assert (reason.verdict, reason.rule) == (verdict, rule)
    assert said in reason.sentence


@pytest.mark.parametrize(
    ("recipe", "rule", "said"),
    [
        ("{name: f16, weights: f16, lora: gone.gguf}", "lora", "lora adapter "),
        ("{name: f16, weights: f16, draft: gone.gguf}", "draft", "draft model "),
    ],
)
def test_what_a_recipe_names_beside_the_model_must_be_here(recipe: str, rule: str, said: str, tmp_path: Path) -> None:
    """The settings name a program for llama-server, which is asked for its version and then never started."""
    program = tmp_path / "llama-server"
    program.write_text("#!/bin/sh\necho 'version: 0 (build 11549)'\n")
    program.chmod(0o755)
    settings = tmp_path / "settings" / "fleetbench" / "node.yaml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f"engines: {{llama-server: {{path: {program}}}}}\n")
    reason = refusal(here(tmp_path, engines="llama-server", recipes=f"[{recipe}]"))
    assert (reason.verdict, reason.rule) == ("not_here", rule)
    assert said in reason.sentence
    assert "gone.gguf" in reason.sentence


def test_a_server_that_someone_else_started_is_no_start_to_be_judged(tmp_path: Path) -> None:
    plan = everywhere(tmp_path, models="[llama-3.1-8b]", engines="endpoint", hardware="h100", recipes="[f16]").plan
    assert plan.refusals == ()
    assert [launch.engine.version for launch in plan.launches] == ["0", "0"]
