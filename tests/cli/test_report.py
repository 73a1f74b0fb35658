"""`fleetbench report` at the command line: what it writes, what it replaces, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetbench.store.commit import Warehouse
from tests.cli.inside import inside
from tests.cli.shell import fleetbench
from tests.report import fleet
from tests.samples import START, Lab


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a warehouse of a fleet's run, and of another whose latencies nobody knows."""
    folder = tmp_path_factory.mktemp("report")
    warehouse = Warehouse(folder / "warehouse")
    warehouse.create()
    fleet.commit(warehouse, fleet.Fleet(hardware=("h100", "b200"), batches=(1, 8), contexts=(512,)))
    lab = Lab(warehouse)
    lab.run(run_id="old", run="old", submitted_at=START.replace(year=2025))
    lab.speed("f16", 10.0, run_id="old")
    return folder


def test_the_page_takes_the_place_of_one_that_was_there_and_leaves_nothing_beside_it(
    folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text("yesterday's", encoding="utf-8")
    said = inside("report", "--output", str(page), folder=folder)
    assert (said.code, said.err) == (0, "")
    assert "report.html: 1." in said.out
    text = page.read_text(encoding="utf-8")
    assert "<h1>fleet/default</h1>" in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_filters_narrow_the_latest_run_and_a_time_takes_every_run_of_it(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    said = inside("report", "--output", str(page), "--hardware", "h100", folder=folder)
    assert said.code == 0
    assert "Narrowed by --hardware h100." in page.read_text(encoding="utf-8")
    said = inside("report", "--output", str(page), "--until", "2025-12-31", folder=folder)
    assert said.code == 0
    assert "<h1>quickstart/old</h1>" in page.read_text(encoding="utf-8")


def test_pictures_alone_need_no_page(folder: Path, tmp_path: Path) -> None:
    said = inside("report", "old", "--png", str(tmp_path / "some" / "pictures"), folder=folder)
    assert said.code == 0
    names = {path.name for path in (tmp_path / "some" / "pictures").iterdir()}
    assert {"heat.png", "coverage.png"} <= names
    assert all(name.endswith(".png") for name in names)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "--output FILE"),
        (["--output", "nowhere/report.html"], "there is no folder nowhere"),
        (["--output", "warehouse"], "is a folder"),
        (["--output", "/proc/report.html"], "cannot be written"),
        (["--png", "taken"], "cannot be made"),
        (["missing", "--output", "report.html"], "there is no run missing"),
        (["--output", "report.html", "--hardware", "tpu"], "--hardware tpu"),
    ],
)
def test_what_cannot_be_is_a_sentence(arguments: list[str], sentence: str, folder: Path) -> None:
    (folder / "taken").touch()
    said = inside("report", *arguments, folder=folder)
    assert said.code == 2
    assert sentence in " ".join(said.err.split())
    assert "Traceback" not in said.err
    assert not (folder / "report.html").exists()


def test_an_empty_warehouse_says_what_to_do(tmp_path: Path) -> None:
    Warehouse(tmp_path / "warehouse").create()
    said = inside("report", "--output", "report.html", folder=tmp_path)
    assert said.code == 2
    assert "submit a matrix first" in said.err
    assert not (tmp_path / "report.html").exists()


def test_a_dash_is_the_standard_output_and_too_long_a_name_is_a_sentence(folder: Path) -> None:
    said = fleetbench("report", "--output", "-", "--warehouse", str(folder / "warehouse"), folder=folder)
    assert said.out.startswith("<!DOCTYPE html>")
    assert not (folder / "-").exists()
    said = inside("report", "--output", "x" * 300, folder=folder)
    assert said.code == 2
    assert "File name too long" in " ".join(said.err.split())
    name = "y" * 250
    assert inside("report", "--output", name, folder=folder).code == 0
    (folder / name).unlink()
