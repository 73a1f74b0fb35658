from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fleetbench.artifact import cache as shelf
from fleetbench.artifact.cache import Manifest
from fleetbench.artifact.types import Artifact, ArtifactError
from fleetbench.errors import UnusableEnvironmentError

DIES_WHILE_MAKING = """
import os, signal, sys
from pathlib import Path
from fleetbench.artifact import cache
with cache.making(Path(sys.argv[1]), "abc") as folder:
    (folder / "model.gguf").write_bytes(b"half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def put(cache: Path, content: bytes = b"weights", artifact_id: str = "abc") -> Artifact:
    with shelf.making(cache, artifact_id) as folder:
        (folder / shelf.MODEL).write_bytes(content)
        manifest = Manifest(
            artifact_id=artifact_id,
            model="m",
            model_digest="d",
            weights="f16",
            method="rtn",
            toolchain="t",
            sha256="0" * 64,
            bytes=len(content),
            build_s=0.5,
        )
        return shelf.publish(cache, folder, manifest)


def leftovers(cache: Path) -> list[str]:
    return [path.name for path in (cache / ".staging").iterdir()]


def test_what_was_published_is_found(tmp_path: Path) -> None:
    made = put(tmp_path)
    found = shelf.find(tmp_path, "abc")
    assert found is not None
    assert (found.path, found.bytes, found.sha256) == (made.path, 7, "0" * 64)
    assert (made.build_s, found.build_s) == (0.5, None)
    assert leftovers(tmp_path) == []


def test_nothing_is_found_in_an_empty_or_missing_cache(tmp_path: Path) -> None:
    assert shelf.find(tmp_path / "nowhere", "abc") is None


@pytest.mark.parametrize("manifest", [b"", b"{", b"[]", b"\xff", b'{"artifact_id": "abc"}', b"[" * 100_000])
def test_a_broken_manifest_is_no_artifact_and_gives_way(tmp_path: Path, manifest: bytes) -> None:
    put(tmp_path)
    (tmp_path / "abc" / shelf.MANIFEST).write_bytes(manifest)
    assert shelf.find(tmp_path, "abc") is None
    put(tmp_path, b"again")
    found = shelf.find(tmp_path, "abc")
    assert found is not None
    assert found.path.read_bytes() == b"again"
    assert leftovers(tmp_path) == []


def test_a_truncated_artifact_is_not_found(tmp_path: Path) -> None:
    put(tmp_path).path.write_bytes(b"weigh")
    assert shelf.find(tmp_path, "abc") is None


def test_a_manifest_of_another_artifact_does_not_count(tmp_path: Path) -> None:
    put(tmp_path)
    path = tmp_path / "abc" / shelf.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"artifact_id": "other"}))
    assert shelf.find(tmp_path, "abc") is None


def test_an_error_while_making_leaves_nothing(tmp_path: Path) -> None:
    def make_half() -> None:
        with shelf.making(tmp_path, "abc") as folder:
            (folder / shelf.MODEL).write_bytes(b"half")
            raise ArtifactError("it broke")

    with pytest.raises(ArtifactError, match="it broke"):
        make_half()
    assert leftovers(tmp_path) == []
    assert shelf.find(tmp_path, "abc") is None


def test_what_a_killed_builder_left_is_swept_by_the_next(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", DIES_WHILE_MAKING, str(tmp_path)], check=False)
    assert done.returncode < 0
    assert len(leftovers(tmp_path)) == 1
    put(tmp_path)
    assert leftovers(tmp_path) == []


def test_a_sweep_leaves_other_artifacts_in_the_making_alone(tmp_path: Path) -> None:
    with shelf.making(tmp_path, "abc") as folder:
        put(tmp_path, artifact_id="ab")
        assert folder.is_dir()


def test_a_cache_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtifactError, match=r"file/cache cannot be written: .*FLEETBENCH_CACHE"):
        put(tmp_path / "file" / "cache")


def test_a_probe_makes_the_folder_and_leaves_no_file(tmp_path: Path) -> None:
    shelf.probe(tmp_path / "a" / "cache")
    assert leftovers(tmp_path / "a" / "cache") == []
    shelf.probe(tmp_path / "a" / "cache")
    put(tmp_path / "a" / "cache")


def test_a_probe_of_what_cannot_be_a_cache_is_an_unusable_environment(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "astray").symlink_to("nowhere")
    for cache in (tmp_path / "file", tmp_path / "file" / "x", tmp_path / "loop", tmp_path / "astray", Path("/proc/x")):
        with pytest.raises(UnusableEnvironmentError, match=f"artifact cache {cache} .*FLEETBENCH_CACHE"):
            shelf.probe(cache)


@pytest.mark.parametrize("artifact_id", ["", "../x", "a/b", ".locks", "A", "a" * 65])
def test_an_id_that_is_no_folder_name_is_a_bug(tmp_path: Path, artifact_id: str) -> None:
    with pytest.raises(ValueError, match="not an artifact id"):
        shelf.find(tmp_path, artifact_id)


def test_the_default_place_follows_the_environment() -> None:
    assert shelf.default_cache({"FLEETBENCH_CACHE": "/a", "XDG_CACHE_HOME": "/b"}) == Path("/a")
    assert shelf.default_cache({"XDG_CACHE_HOME": "/b"}) == Path("/b/fleetbench")
    assert shelf.default_cache({}) == Path.home() / ".cache" / "fleetbench"
