from __future__ import annotations

import json
import os
import select
import venv
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleetbench.artifact import toolenv
from fleetbench.artifact.toolenv import VARIABLE, VERSION, ensure, find, run
from fleetbench.artifact.types import ArtifactError

OFFLINE = {**{k: v for k, v in os.environ.items() if k != VARIABLE}, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
ABSENT = "fleetbench-no-such-package==1"


def wheel(folder: Path, version: str = VERSION) -> Path:
    """A package of the tool's name that holds nothing."""
    path = folder / f"llmcompressor-{version}-py3-none-any.whl"
    info = f"llmcompressor-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: llmcompressor\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def bare(folder: Path, version: str) -> Path:
    """An environment without pip that holds the package."""
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    with zipfile.ZipFile(wheel(folder, version)) as archive:
        archive.extractall(site)
    return folder


def test_builders_at_the_same_time_make_it_once_and_a_half_made_one_anew(tmp_path: Path) -> None:
    place = tmp_path / "tools" / f"llmcompressor-{VERSION}"
    place.mkdir(parents=True)
    (place / "half").write_text("half")
    asked = [str(wheel(tmp_path))]
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: ensure(tmp_path, OFFLINE, requirements=asked), range(2))
    assert first == second
    assert first.versions == {"llmcompressor": VERSION}
    assert first.python.is_relative_to(place)
    assert not (place / "half").exists()
    assert (place.with_name(f"{place.name}.log")).read_text().count("Successfully installed llmcompressor") == 1
    assert find(tmp_path, OFFLINE, requirements=asked) == first
    assert find(tmp_path, OFFLINE, requirements=[ABSENT]) is None


@pytest.mark.parametrize("place", ["", "bin/python"])
def test_the_variable_may_name_an_environment_or_its_python(tmp_path: Path, place: str) -> None:
    folder = bare(tmp_path / "own", VERSION)
    found = ensure(tmp_path / "cache", {VARIABLE: str(folder / place)})
    assert found.python == folder / "bin" / "python"
    assert found.versions["llmcompressor"] == VERSION
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(("version", "why"), [("0.9.0", "holds llmcompressor 0.9.0; install 0.14.0.1 there")])
def test_a_tool_of_another_version_is_not_taken(tmp_path: Path, version: str, why: str) -> None:
    folder = bare(tmp_path / "own", version)
    with pytest.raises(ArtifactError, match=why):
        find(tmp_path, {VARIABLE: str(folder)})


@pytest.mark.parametrize("named", ["/no/such/folder", "/bin/false", os.devnull])
def test_a_variable_that_names_something_else_is_refused(tmp_path: Path, named: str) -> None:
    with pytest.raises(ArtifactError, match=f"{VARIABLE}={named} is no Python with llmcompressor"):
        find(tmp_path, {VARIABLE: named})


def test_nothing_is_found_where_nothing_was_made(tmp_path: Path) -> None:
    assert find(tmp_path, {}) is None


def test_a_cache_that_is_no_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("")
    with pytest.raises(ArtifactError, match="cannot be written"):
        ensure(tmp_path / "cache", OFFLINE)


@pytest.mark.slow
def test_an_index_that_cannot_be_reached_is_one_sentence_and_nothing_is_found(tmp_path: Path) -> None:
    nowhere = {**OFFLINE, "PIP_NO_INDEX": "0", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1"}
    with pytest.raises(
        ArtifactError, match=f"the package index cannot be reached: connect, or set {VARIABLE}"
    ) as failure:
        ensure(tmp_path, nowhere, requirements=[ABSENT])
    assert "\n" not in str(failure.value)
    assert find(tmp_path, OFFLINE, requirements=[ABSENT]) is None


@pytest.mark.parametrize(
    ("code", "text", "why"),
    [
        (
            1,
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "the disk is full",
        ),
        (1, "PermissionError: [Errno 13] Permission denied: '/cache'", "the cache cannot be written"),
        (
            1,
            "The virtual environment was not created successfully because ensurepip is not available",
            "no venv with pip",
        ),
        (
            1,
            "ERROR: No matching distribution found for llmcompressor==0.14.0.1\nmore",
            "No matching distribution found for",
        ),
        (1, "Traceback\nValueError: odd\n", "ValueError: odd"),
        (None, "Downloading torch", "it took longer than 2 s"),
    ],
)
def test_what_pip_says_becomes_a_cause(code: int | None, text: str, why: str) -> None:
    assert why in toolenv.why(code, text, 2.0)


def test_a_command_and_what_it_started_end_together(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    script = f"exec 3> {fifo}; sleep 1000 & exit 7"
    assert run(["sh", "-c", script], log=tmp_path / "log", environment=os.environ, limit_s=60) == 7
    assert select.select([reader], [], [], 30)[0]
    assert os.read(reader, 1) == b""  # its last writer is gone
    os.close(reader)


def test_a_command_holds_the_lock_that_it_is_to_keep_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    lock = os.open(tmp_path / "lock", os.O_RDWR)
    held = [
        run(
            ["test", "-e", f"/proc/self/fd/{lock}"], log=tmp_path / "log", environment=os.environ, limit_s=60, keep=keep
        )
        == 0
        for keep in ((lock,), ())
    ]
    os.close(lock)
    assert held == [True, False]


def test_the_limit_ends_a_command(tmp_path: Path) -> None:
    assert run(["sleep", "1000"], log=tmp_path / "log", environment=os.environ, limit_s=0.1) is None


def test_the_toolchain_names_the_tool_and_its_library() -> None:
    assert toolenv.toolchain() == f"llmcompressor {VERSION}, compressed-tensors 0.19.0"


def test_a_mark_that_is_broken_is_no_mark(tmp_path: Path) -> None:
    place = tmp_path / "tools" / f"llmcompressor-{VERSION}"
    place.mkdir(parents=True)
    for text in ("{", "[]", json.dumps({"requirements": ["torch==1"]})):
        (place / "fleetbench.json").write_text(text)
        assert find(tmp_path, OFFLINE) is None
