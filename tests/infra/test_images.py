"""The nodes' container files: they build from what is there, and their settings name the engines that they install."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from fleetbench.catalog.lookup import engine_spec
from fleetbench.engine import settings
from fleetbench.engine.runtime import Venv, Wheel
from tests.infra.dockerfile import instructions, mistakes
from tests.infra.files import INFRA, ROOT

FILES = sorted((INFRA / "images").glob("*.Dockerfile"))
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, timeout=60, check=False)


def test_there_is_one_for_each_vendor() -> None:
    assert [path.stem for path in FILES] == ["cuda", "rocm"]


@each
def test_it_has_no_mistakes(path: Path) -> None:
    assert list(mistakes(instructions(path), ROOT)) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("WORKDIR ", "WORKDIRR ", "there is no instruction WORKDIRR"),
        ("COPY fleetbench ", "COPY fleetbank ", "COPY fleetbank: no such file"),
        ("USER 10001", "USER root", "it ends as root"),
        ("ARG VLLM=", "ARG HF_TOKEN=x\nARG VLLM=", "ARG HF_TOKEN would stay in the image"),
        (":13.0.2-cudnn-devel-ubuntu24.04", "", "the base nvidia/cuda has neither tag nor digest"),
    ],
)
def test_a_mistake_is_found(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = FILES[0].read_text()
    assert old in text
    broken = tmp_path / "broken.Dockerfile"
    broken.write_text(text.replace(old, new))
    (found,) = mistakes(instructions(broken), ROOT)
    assert said in found


@each
def test_its_base_can_be_given_by_digest(path: Path) -> None:
    found = instructions(path)
    bases = [rest for name, rest in found if name == "FROM"]
    assert bases == ["${BASE}"]
    assert found[0][0] == "ARG"
    assert found[0][1].startswith("BASE=")


@each
def test_bash_can_read_what_it_runs(path: Path) -> None:
    runs = [rest for name, rest in instructions(path) if name == "RUN"]
    assert len(runs) > 3
    assert [shell(run).stderr for run in runs] == [""] * len(runs)


def test_a_broken_command_is_found() -> None:
    assert shell("apt-get update && (rm -rf /var/lib/apt/lists/*").returncode != 0


@each
def test_its_settings_name_the_environments_that_it_makes(path: Path) -> None:
    file = INFRA / "images" / f"node-{path.stem}.yaml"
    text = path.read_text()
    assert f"COPY {file.relative_to(ROOT)} /etc/fleetbench/node.yaml" in text
    assert "FLEETBENCH_NODE=/etc/fleetbench/node.yaml" in text
    engines = settings.read_text(file.read_text(), file.name).engines
    own = {engine.runtime.path for engine in engines.values() if isinstance(engine.runtime, Venv)}
    assert own == {Path(made) for made in re.findall(r"python3 -m venv (/opt/engines/\S+)", text)}
    assert {type(engine.runtime) for engine in engines.values()} == {Venv, Wheel}


@each
def test_it_installs_engines_by_versions_that_the_catalog_knows_them_by(path: Path) -> None:
    text = path.read_text()
    installed = dict(re.findall(r'pip install --no-cache-dir "(\w+)==\$\{(\w+)\}"', text))
    assert installed
    for engine, argument in installed.items():
        assert engine_spec(engine) is not None
        assert re.search(rf"^ARG {argument}=\d+\.\d+\.\d+$", text, re.MULTILINE)
