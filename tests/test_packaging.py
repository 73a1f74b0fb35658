"""What is built holds all that runs: the wheel is built here, without a network, and used unpacked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from fleetbench.store.commit import Warehouse

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = {
    "fleetbench": "fleetbench",
    "collectors/fleetbench_collectors": "fleetbench_collectors",
    "warehouse": "fleetbench/_shipped/warehouse",
    "matrices": "fleetbench/_shipped/matrices",
}


def wheel_of(root: Path, folder: Path) -> Path:
    (built,) = WheelBuilder(str(root)).build(directory=str(folder), versions=["standard"])
    return Path(built)


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wheel_of(ROOT, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_holds_every_file_of_its_rooms_and_nothing_else(wheel: Path) -> None:
    files = {
        f"{there}/{path.relative_to(ROOT / here).as_posix()}"
        for here, there in SHIPPED.items()
        for path in (ROOT / here).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names(wheel) == files


def test_the_sdist_builds_the_same_wheel_and_carries_the_tests_and_what_they_read(wheel: Path, tmp_path: Path) -> None:
    (sdist,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    shutil.unpack_archive(sdist, tmp_path, filter="data")
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert names(wheel_of(unpacked, tmp_path)) == names(wheel)
    for name in ("tests/test_packaging.py", "infra/README.md", "Makefile", "constraints.txt"):
        assert (unpacked / name).read_bytes() == (ROOT / name).read_bytes()


def test_an_unpacked_wheel_plans_and_asks_with_its_own_data(wheel: Path, tmp_path: Path) -> None:
    site, results = tmp_path / "site", tmp_path / "results"
    shutil.unpack_archive(wheel, site, "zip")
    Warehouse(results).create()

    def said(*arguments: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-P", *arguments],
            env={**os.environ, "PYTHONPATH": str(site), "FLEETBENCH_CACHE": str(tmp_path / "cache")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    matrix = site / "fleetbench/_shipped/matrices/smoke/quickstart.yaml"
    assert said("-c", "import fleetbench as f; print(f.__file__)") == str(site / "fleetbench/__init__.py")
    assert json.loads(said("-m", "fleetbench", "plan", matrix, "--format", "json"))["cells"]
    asked = ("sql", "SELECT count(*) AS cells FROM cells", "--warehouse", results, "--format", "csv")
    assert said("-m", "fleetbench", *asked).split() == ["cells", "0"]
