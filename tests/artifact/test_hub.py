"""Models of the hub: what the local cache knows of them, and fetching by the hub's own library from a hub of ours."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetbench.artifact import hub
from fleetbench.artifact.hub import Pinned
from fleetbench.artifact.types import ArtifactError
from tests.artifact.folders import COMMIT, QWEN, WEIGHTS, cached
from tests.artifact.hub_server import GATED, LOST, MISSING, Hub, serving

FILES = {"config.json": json.dumps(QWEN).encode(), "model.safetensors": WEIGHTS, "pytorch_model.bin": b"a pickle"}
FETCH = """
import json, sys, time
time.sleep = lambda seconds: None  # the library's pause before it tries again
from fleetbench.artifact import hub
from fleetbench.artifact.types import ArtifactError
said = []
for repo, revision, *files in json.loads(sys.argv[1]):
    try:
        found = hub.fetch(repo, revision, *files)
        said.append([found.commit, str(found.folder), repr(hub.pinned(repo, revision) == found)])
    except ArtifactError as error:
        said.append(str(error))
print(json.dumps(said))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(folder))
    return folder


@pytest.fixture(scope="module")
def server() -> Iterator[Hub]:
    with serving({"org/qwen": FILES, "org/small": FILES, GATED: FILES, LOST: FILES}) as running:
        yield running


def fetched(endpoint: str, home: Path, *asked: Any, **environment: str) -> list[Any]:
    """What `hub.fetch` says, in a process of its own: the library reads its environment when it is imported."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-c", FETCH, json.dumps(asked)],
        env={
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: list[Any] = json.loads(done.stdout)
    return said


def test_nothing_is_known_of_a_model_that_was_never_fetched(cache: Path) -> None:
    assert hub.pinned("org/qwen", None) == Pinned(commit=None, folder=None)
    assert hub.pinned("org/qwen", COMMIT) == Pinned(commit=COMMIT, folder=None)
    assert not cache.exists()


def test_a_branch_is_the_commit_that_it_was_when_it_was_fetched(cache: Path) -> None:
    snapshot = cached(cache, "org/qwen", {"config.json": QWEN}, refs=("main", "v2"))
    for revision in (None, "main", "v2", COMMIT):
        assert hub.pinned("org/qwen", revision) == Pinned(commit=COMMIT, folder=snapshot)
    assert hub.pinned("org/qwen", "v3").folder is None


@pytest.mark.parametrize("ref", [b"", b"main", b"\xff" * 40, b"g" * 40, b"../../../etc"])
def test_a_broken_ref_is_no_commit(cache: Path, ref: bytes) -> None:
    cached(cache, "org/qwen", {"config.json": QWEN})
    (cache / "models--org--qwen" / "refs" / "main").write_bytes(ref)
    assert hub.pinned("org/qwen", None) == Pinned(commit=None, folder=None)


def test_a_commit_is_known_though_its_config_was_not_fetched(cache: Path) -> None:
    cached(cache, "org/qwen", {"model.safetensors": WEIGHTS})
    assert hub.pinned("org/qwen", None) == Pinned(commit=COMMIT, folder=None)


def test_the_cache_is_where_the_library_has_it(tmp_path: Path) -> None:
    code = (
        "from huggingface_hub import constants\nfrom fleetbench.artifact import hub\n"
        "print(constants.HF_HUB_CACHE == str(hub.cache_folder()), hub.cache_folder())"
    )
    names = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME")
    bare = {name: value for name, value in os.environ.items() if name not in names}
    for own in (
        {"HF_HUB_CACHE": "~/own", "HF_HOME": "/x"},
        {"HUGGINGFACE_HUB_CACHE": "$HOME/old"},
        {"HF_HOME": "~/hf"},
        {"XDG_CACHE_HOME": str(tmp_path)},
        {},
    ):
        environment = {**bare, "HOME": str(tmp_path / "home"), **own}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
        )
        assert done.stdout.startswith("True "), (own, done.stdout)


def test_a_model_is_fetched_whole_but_for_pickles_and_is_found_again_by_its_commit(server: Hub, tmp_path: Path) -> None:
    server.asked.clear()
    (said, again, tag) = fetched(server.url, tmp_path, ["org/qwen", None], ["org/qwen", COMMIT], ["org/qwen", "v2"])
    commit, folder, found = said
    assert (commit, found) == (COMMIT, "True")
    assert Path(folder) == tmp_path / "hub" / "models--org--qwen" / "snapshots" / COMMIT
    assert {path.name for path in Path(folder).iterdir()} == {"config.json", "model.safetensors"}
    assert (Path(folder) / "model.safetensors").read_bytes() == WEIGHTS
    assert (again, tag) == (said, said)
    assert sorted(server.asked) == ["org/qwen/config.json", "org/qwen/model.safetensors"]


def test_only_the_files_that_are_wanted_are_fetched(server: Hub, tmp_path: Path) -> None:
    ((_, folder, found),) = fetched(server.url, tmp_path, ["org/small", None, ["config.json"]])
    assert found == "True"
    assert [path.name for path in Path(folder).iterdir()] == ["config.json"]


def test_each_way_of_not_getting_a_model_ends_in_a_sentence_with_what_to_do(server: Hub, tmp_path: Path) -> None:
    gated, missing, revision, lost = fetched(
        server.url, tmp_path, [GATED, None], [MISSING, None], ["org/qwen", "v9"], [LOST, None]
    )
    assert gated == (f"model {GATED} cannot be fetched: it is gated: accept its terms on its page, and set HF_TOKEN")
    assert missing == f"model {MISSING} cannot be fetched: the hub has no such model, or HF_TOKEN gives no access"
    assert "no such model at v9" in revision
    assert lost.startswith(f"model {LOST} cannot be fetched: ")


def test_without_a_network_a_sentence_says_so(tmp_path: Path) -> None:
    with socket.socket() as closed:  # bound and not listening: nothing answers there, and nobody else gets it
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
        (refused,) = fetched(endpoint, tmp_path, ["org/qwen", None])
    (offline,) = fetched("http://127.0.0.1:9", tmp_path, ["org/qwen", None], HF_HUB_OFFLINE="1")
    for said in (refused, offline):
        assert said.startswith("model org/qwen cannot be fetched: ")
        assert len(said) > len("model org/qwen cannot be fetched: ") + 20


def test_without_the_library_a_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ArtifactError, match=r"pip install 'fleetbench\[hub\]'"):
        hub.fetch("org/qwen", None)
