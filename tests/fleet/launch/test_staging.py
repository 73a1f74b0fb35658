"""Weights on a node, fetched by the hub's own library from a hub of ours; and what a matrix may not ask of a node."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetbench.artifact import models
from fleetbench.artifact.models import FoundModel
from fleetbench.artifact.need import Need
from fleetbench.artifact.types import ArtifactError, PassingError
from fleetbench.engine import settings
from fleetbench.engine.settings import Hub, NodeSettings
from fleetbench.errors import InputError
from fleetbench.fleet.launch import permits, staging, weights
from fleetbench.fleet.launch.work import run_launch
from fleetbench.matrix.types import Calibration, Draft, ModelSpec, Outcome, Recipe
from fleetbench.plan.events import LaunchEnded
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.artifact import hub_server
from tests.artifact.folders import COMMIT, QWEN, WEIGHTS, cached, safetensors, write
from tests.artifact.hub_server import BROKEN, GATED, MISSING, serving
from tests.small import job_of, planned

CONFIG = {"config.json": json.dumps(QWEN).encode()}
FILES = {**CONFIG, "model.safetensors": WEIGHTS}
OTHER = safetensors({"model.norm.weight": ("BF16", (64,))})
BF16 = Recipe(name="bf16", weights="bf16")
TOKEN = "hf_right"  # noqa: S105 - of a hub of our own


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of this machine's own hub library."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "own"))
    return tmp_path / "own"


@pytest.fixture
def server() -> Iterator[hub_server.Hub]:
    with serving({"org/qwen": FILES, "org/pickled": CONFIG, GATED: FILES}) as running:
        running.token = TOKEN
        yield running


def node(tmp_path: Path, **said: object) -> NodeSettings:
    """A node that keeps its weights in a folder of its own."""
    return replace(NodeSettings(engines={}, cache=tmp_path / "cache"), **said)  # type: ignore[arg-type]


def need_of(found: FoundModel, folder: Path | None = None) -> Need:
    return Need(artifact_id="f" * 16, engine="vllm", recipe=BF16, model=found.info, folder=folder or found.folder)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hub_cache: Path) -> Need:
    """A model of the hub that was planned on another machine, by its config.json alone."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "planner"))
    cached(tmp_path / "planner", "org/qwen", CONFIG)
    found = models.find(ModelSpec(name="qwen", path=None, measure=(), hub="org/qwen"))
    monkeypatch.setenv("HF_HUB_CACHE", str(hub_cache))
    assert found.info.lacks is not None
    return need_of(found)


def test_the_folder_that_the_settings_name_comes_first(tmp_path: Path, elsewhere: Need) -> None:
    own = write(tmp_path / "srv" / "qwen", FILES)
    for name in ("qwen", "org/qwen"):
        staged = weights.find(elsewhere, node(tmp_path, models={name: own}))
        assert (staged.folder, staged.model.lacks) == (own, None)


def test_a_model_of_the_hub_is_found_in_the_nodes_caches(tmp_path: Path, elsewhere: Need, hub_cache: Path) -> None:
    of_the_library = cached(hub_cache, "org/qwen", FILES)
    assert weights.find(elsewhere, node(tmp_path)).folder == of_the_library
    of_the_node = cached(tmp_path / "cache" / "hub", "org/qwen", FILES)
    assert weights.find(elsewhere, node(tmp_path)).folder == of_the_node


def test_what_is_nowhere_is_fetched_into_the_nodes_cache(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub
) -> None:
    staged = weights.find(elsewhere, node(tmp_path, hub=Hub(endpoint=server.url)))
    assert staged.folder == tmp_path / "cache" / "hub" / "models--org--qwen" / "snapshots" / COMMIT
    assert (staged.folder / "model.safetensors").read_bytes() == WEIGHTS
    assert (staged.model.lacks, staged.model.revision) == (None, COMMIT)


def test_launches_that_want_the_same_weights_wait_for_one_download(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub
) -> None:
    found: list[Path | None] = []
    threads = [
        threading.Thread(
            target=lambda: found.append(weights.find(elsewhere, node(tmp_path, hub=Hub(endpoint=server.url))).folder)
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert sorted(server.asked) == ["org/qwen/config.json", "org/qwen/model.safetensors"]


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> int:
    """No pause between tries; how many there are."""
    monkeypatch.setattr(weights, "PAUSES_S", (0.0,) * len(weights.PAUSES_S))
    return len(weights.PAUSES_S) + 1


def of_a_branch(need: Need) -> Need:
    """A hub is asked which commit that is, which its library does once."""
    return replace(need, model=replace(need.model, revision="main"))


@pytest.mark.usefixtures("patient")
def test_a_download_that_breaks_off_goes_on(tmp_path: Path, elsewhere: Need, server: hub_server.Hub) -> None:
    server.failures = [503, BROKEN, 429]
    staged = weights.find(of_a_branch(elsewhere), node(tmp_path, hub=Hub(endpoint=server.url)))
    assert staged.folder is not None
    assert server.failures == []


def test_a_hub_that_stays_down_is_given_up_and_may_be_up_at_the_launchs_next_try(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub, patient: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.failures = [500] * (patient + 1)
    with pytest.raises(PassingError, match=r"cannot be fetched: .*500"):
        weights.find(of_a_branch(elsewhere), node(tmp_path, hub=Hub(endpoint=server.url)))
    assert server.failures == [500]

    server.failures = [500] * patient
    (tmp_path / "node.yaml").write_text(f"cache: {tmp_path}/cache\nhub: {{endpoint: '{server.url}'}}\n")
    monkeypatch.setenv(settings.NODE_ENV, str(tmp_path / "node.yaml"))
    plan = planned(tmp_path)
    launch = replace(plan.plan.launches[0], hardware="sim-h100", model=of_a_branch(elsewhere).model)
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    (ended,) = list(run_launch(job_of(plan, launch, warehouse=warehouse.root, cache=tmp_path / "cache")))
    assert isinstance(ended, LaunchEnded)
    assert (ended.outcome, ended.retriable) == (Outcome.LAUNCH_FAILED, True), ended.reason


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("code", [401, 403, 404])
def test_what_the_hub_refuses_is_asked_for_once(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub, code: int
) -> None:
    server.failures = [code, 503]
    with pytest.raises(ArtifactError) as caught:
        weights.find(of_a_branch(elsewhere), node(tmp_path, hub=Hub(endpoint=server.url)))
    assert not isinstance(caught.value, PassingError)
    assert server.failures == [503]


DRAFT = Draft(method="model", model="org/qwen", tokens=4)


def drafting(need: Need, draft: Draft = DRAFT) -> Need:
    return replace(need, recipe=replace(BF16, draft=draft))


def test_a_draft_model_of_the_hub_is_fetched_like_a_model(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub
) -> None:
    here = node(tmp_path, hub=Hub(endpoint=server.url))
    permits.check_paths(drafting(elsewhere).recipe, here)
    folder = tmp_path / "cache" / "hub" / "models--org--qwen" / "snapshots" / COMMIT
    for draft in (DRAFT, replace(DRAFT, model="org/qwen@v2")):
        recipe = weights.with_draft(drafting(elsewhere, draft), here)
        assert recipe.draft == replace(draft, model=str(folder))
    assert sorted(server.asked) == ["org/qwen/config.json", "org/qwen/model.safetensors"]


def test_a_draft_model_is_held_to_the_nodes_settings(tmp_path: Path, elsewhere: Need, server: hub_server.Hub) -> None:
    asked = drafting(elsewhere)
    own = write(tmp_path / "srv" / "qwen", FILES)
    assert weights.with_draft(asked, node(tmp_path, models={"org/qwen": own})).draft == replace(DRAFT, model=str(own))
    with pytest.raises(ArtifactError, match=r"model org/qwen cannot be fetched: .* which is offline"):
        weights.with_draft(asked, node(tmp_path, hub=Hub(endpoint=server.url, offline=True)))
    with pytest.raises(ArtifactError, match=f"model {MISSING} cannot be fetched: the hub has no such model"):
        weights.with_draft(
            drafting(elsewhere, replace(DRAFT, model=MISSING)), node(tmp_path, hub=Hub(endpoint=server.url))
        )
    pickled = drafting(elsewhere, replace(DRAFT, model="org/pickled"))
    with pytest.raises(ArtifactError, match=r"draft model org/pickled has no weights in \*\.safetensors"):
        weights.with_draft(pickled, node(tmp_path, hub=Hub(endpoint=server.url)))
    with pytest.raises(InputError, match="llama-server takes a GGUF file"):
        weights.with_draft(replace(asked, engine="llama-server"), node(tmp_path, hub=Hub(endpoint=server.url)))


def gated(need: Need) -> Need:
    return replace(need, model=replace(need.model, name="llama", hub=GATED))


def test_a_gated_model_is_fetched_with_the_token_of_the_nodes_file_and_nobody_else_sees_it(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    here = node(tmp_path, hub=Hub(endpoint=server.url, token_file=file))
    assert weights.find(gated(elsewhere), here).folder is not None
    assert TOKEN not in " ".join(os.environ.values())
    assert TOKEN not in "".join(capfd.readouterr())
    kept = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert not [path for path in kept if TOKEN.encode() in path.read_bytes()]


def test_a_gated_model_without_the_right_says_which_token_is_meant(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub
) -> None:
    with pytest.raises(
        ArtifactError, match=r"it is gated: .* set HF_TOKEN, or `hub: \{token_file: FILE\}` in the node's settings"
    ):
        weights.find(gated(elsewhere), node(tmp_path, hub=Hub(endpoint=server.url)))
    file = tmp_path / "token"
    file.write_text("hf_wrong")
    file.chmod(0o600)
    with pytest.raises(ArtifactError, match=f"it is gated: .*, and set the token in {file}$") as caught:
        weights.find(gated(elsewhere), node(tmp_path, hub=Hub(endpoint=server.url, token_file=file)))
    assert "hf_wrong" not in str(caught.value)
    file.chmod(0o644)
    with pytest.raises(InputError, match="can be read by others"):
        weights.find(gated(elsewhere), node(tmp_path, hub=Hub(endpoint=server.url, token_file=file)))


def test_an_offline_node_fetches_nothing(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ArtifactError, match="which is offline"):
        weights.find(elsewhere, node(tmp_path, hub=Hub(endpoint=server.url, offline=True)))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ArtifactError, match="which is offline"):
        weights.find(elsewhere, node(tmp_path, hub=Hub(endpoint=server.url)))
    assert server.asked == []


def test_a_repository_without_safetensors_is_no_model_here(
    tmp_path: Path, elsewhere: Need, server: hub_server.Hub
) -> None:
    need = replace(elsewhere, model=replace(elsewhere.model, hub="org/pickled"))
    with pytest.raises(ArtifactError, match=r"no weights in \*\.safetensors"):
        weights.find(need, node(tmp_path, hub=Hub(endpoint=server.url)))


def test_weights_that_are_not_those_that_were_planned_are_refused(tmp_path: Path) -> None:
    asked = need_of(models.find(ModelSpec(name="qwen", path=str(write(tmp_path / "a", FILES)), measure=())))
    same, other = write(tmp_path / "b", FILES), write(tmp_path / "c", {**FILES, "model.safetensors": OTHER})
    staged = weights.find(asked, node(tmp_path, models={"qwen": same}))
    assert (staged.folder, staged.artifact_id) == (same, asked.artifact_id)
    with pytest.raises(ArtifactError, match="is not the one that was planned"):
        weights.find(asked, node(tmp_path, models={"qwen": other}))


def test_checkpoints_of_weights_that_the_plan_did_not_know_are_kept_apart_by_their_content(
    tmp_path: Path, elsewhere: Need
) -> None:
    one, other = write(tmp_path / "b", FILES), write(tmp_path / "c", {**FILES, "model.safetensors": OTHER})
    ids = {weights.find(elsewhere, node(tmp_path, models={"qwen": folder})).artifact_id for folder in (one, other, one)}
    assert len(ids) == 2
    assert elsewhere.artifact_id not in ids


def test_a_path_of_a_matrix_is_taken_below_the_folders_that_the_settings_name_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "srv" / "qwen", FILES)
    asked = need_of(models.find(ModelSpec(name="qwen", path=str(folder), measure=())))
    assert weights.find(asked, node(tmp_path, matrix_paths=(tmp_path / "srv",))).folder == folder
    with pytest.raises(InputError, match=rf"may not be named .*`matrix_paths: \[{tmp_path}/srv\]`"):
        weights.find(asked, node(tmp_path, matrix_paths=(tmp_path / "srv2",)))
    with pytest.raises(ArtifactError, match=r"is not on this node \(/none\): write where it is as `models: \{qwen:"):
        weights.find(replace(asked, folder=Path("/none")), node(tmp_path))


def test_a_link_or_dots_lead_out_of_no_folder(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", FILES)
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "link").symlink_to(secret)
    (tmp_path / "srv" / "loop").symlink_to("loop")
    here = node(tmp_path, matrix_paths=(tmp_path / "srv",))
    for word in ("link", "../secret", "loop"):
        with pytest.raises(InputError, match="may not be named"):
            permits.check_paths(replace(BF16, lora=(str(tmp_path / "srv" / word),)), here)


def test_adapters_drafts_and_texts_of_a_matrix_are_held_to_the_same_folders(tmp_path: Path) -> None:
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "--config").touch()
    recipe = replace(
        BF16,
        lora=(f"{tmp_path}/srv/none", f"{tmp_path}/srv/--config"),
        draft=Draft(method="eagle", model="/etc", tokens=2),
        calibration=Calibration(path="/etc/passwd"),
    )
    with pytest.raises(InputError) as caught:
        permits.check_paths(recipe, node(tmp_path, matrix_paths=(tmp_path / "srv",)))
    none, named, draft, text = caught.value.mistakes
    assert none == f"the adapter {tmp_path}/srv/none is not on this node (copy it there)"
    assert "reads as an argument" in named
    assert draft.startswith("the draft model /etc may not be named")
    assert text.startswith("the calibration text /etc/passwd may not be named")


def test_an_embedded_model_needs_no_folder(tmp_path: Path) -> None:
    need = need_of(models.find(ModelSpec(name="tiny", path=None, measure=())))
    assert weights.find(need, node(tmp_path)) == need


def test_a_launch_with_an_argument_that_the_node_does_not_allow_fails_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("engines: {llama-server: {path: /bin/false, matrix_args: [--threads-http]}}\n")
    monkeypatch.setenv(settings.NODE_ENV, str(file))
    plan = planned(tmp_path)
    launch = plan.plan.launches[0]
    engine = replace(launch.engine, name="llama-server", args=("--threads-http", "1", "--slot-save-path", "/"))
    launch = replace(launch, engine=engine, hardware="sim-h100")
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    job = job_of(plan, launch, warehouse=warehouse.root, cache=tmp_path / "cache")
    (ended,) = list(run_launch(job))
    assert isinstance(ended, LaunchEnded)
    assert (ended.outcome, ended.retriable) == (Outcome.LAUNCH_FAILED, False)
    assert ended.reason == (
        "llama-server: this node does not let a matrix set the argument --slot-save-path: "
        "write it under engines: llama-server: matrix_args: in the node's settings"
    )
    with connect(warehouse.root) as connection:
        assert connection.execute("SELECT outcome, reason FROM launches").fetchall() == [
            ("launch_failed", ended.reason)
        ]


@pytest.mark.engine
def test_a_launch_on_a_node_without_the_weights_fetches_them_makes_its_checkpoint_and_measures(
    tmp_path: Path, hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {path.name: path.read_bytes() for path in models.TINY_FOLDER.iterdir() if path.is_file()}
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "planner"))
    cached(tmp_path / "planner", "org/tiny", {"config.json": files["config.json"]})
    plan = planned(tmp_path, models="[{name: fetched, hub: org/tiny, measure: [speed]}]", recipes="[f16]", quality=None)
    monkeypatch.setenv("HF_HUB_CACHE", str(hub_cache))
    launch = replace(plan.plan.launches[0], hardware="sim-h100")
    launch = replace(launch, trials=launch.trials[:1])
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    with serving({"org/tiny": files}) as running:
        (tmp_path / "node.yaml").write_text(f"cache: {tmp_path}/cache\nhub: {{endpoint: '{running.url}'}}\n")
        monkeypatch.setenv(settings.NODE_ENV, str(tmp_path / "node.yaml"))
        events = list(run_launch(job_of(plan, launch, warehouse=warehouse.root, cache=tmp_path / "not used")))
    assert isinstance(events[-1], LaunchEnded)
    assert events[-1].outcome is Outcome.OK, events[-1].reason
    with connect(warehouse.root) as connection:
        rows = connection.execute(
            "SELECT trials.outcome, launches.model_revision, artifacts.weights FROM trials"
            " JOIN launches USING (launch_id) JOIN artifacts ON artifacts.artifact_id = trials.artifact_id"
        ).fetchall()
    assert rows == [("ok", COMMIT, "f16")]
    assert not (tmp_path / "not used").exists()


def test_the_users_own_machine_takes_any_argument_and_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("engines: {llama-server: {path: /bin/false}}\n")
    monkeypatch.setenv(settings.NODE_ENV, str(file))
    plan = planned(tmp_path)
    launch = plan.plan.launches[0]
    launch = replace(launch, engine=replace(launch.engine, name="llama-server", args=("--any",)))
    job = job_of(plan, launch, warehouse=tmp_path, cache=tmp_path)
    served = replace(
        need_of(models.find(ModelSpec(name="tiny", path=None, measure=()))),
        engine="endpoint",  # nothing has to be made for it
        recipe=replace(BF16, lora=("/etc",)),
    )
    assert staging.stage(job, served).artifact is None
    of_a_cluster = replace(job, launch=replace(launch, hardware="sim-h100")), replace(job, proof="of a cluster")
    for other in of_a_cluster:
        with pytest.raises(InputError, match="--any"):
            staging.stage(other, served)
