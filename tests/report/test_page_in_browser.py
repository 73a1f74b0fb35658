"""The page of `fleetbench report` in a real Chromium, from a file, without a network."""

from __future__ import annotations

import datetime as dt
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest

from fleetbench.report.page.gather import gather
from fleetbench.report.page.html import Made, html
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.report import fleet
from tests.report.test_page import Elements
from tests.samples import Lab, trial_row

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.tool,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium: apt-get install chromium"),
]
HARMLESS = "WARN Detected faceted independent scales"
"""Vega-Lite says so of panels that each have rows of their own, which is what is meant."""
RECIPES = ("bf16", "fp8", fleet.NASTY)
DRAWN = {
    "pareto",
    "best",
    "speed",
    "heat",
    "trade",
    "parity",
    "accuracy",
    "divergence",
    "ttft",
    "itl",
    "energy",
    "cost",
    "coverage",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The document after its scripts have run, and what they said on the console."""

    text: str
    console: tuple[str, ...]

    def figure(self, name: str) -> str:
        found = re.search(rf'<figure id="figure-{name}".*?</figure>', self.text, re.DOTALL)
        assert found is not None, name
        return found[0]

    def marks(self, name: str) -> int:
        """Drawn marks of a figure, axes and legends apart."""
        groups = re.findall(r'<g class="mark-\w+ role-mark [^"]*marks"[^>]*>(.*?)</g>', self.figure(name), re.DOTALL)
        return sum(len(re.findall(r"<(?:path|line|text|rect)\b", group)) for group in groups)

    def rows(self, table: str) -> int:
        found = re.search(rf'<div class="table" id="table-{table}" data-rows="(\d+)"', self.text)
        assert found is not None, table
        return int(found[1])


Browse = Callable[..., Seen]


def chromium(profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    return subprocess.run(
        [
            *(
                CHROMIUM,
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                f"--user-data-dir={profile}",
                "--no-first-run",
            ),
            *("--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"),
            *("--virtual-time-budget=60000", "--window-size=1280,900", *options),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def browse(tmp_path_factory: pytest.TempPathFactory) -> Browse:
    profile = tmp_path_factory.mktemp("profile")

    def look(page: Path, fragment: str = "") -> Seen:
        done = chromium(profile, "--dump-dom", f"{page.as_uri()}#{fragment}")
        said = [line for line in done.stderr.splitlines() if "CONSOLE" in line and HARMLESS not in line]
        return Seen(text=done.stdout, console=tuple(said))

    return look


def page_of(lab: Lab, run_id: str, folder: Path) -> Path:
    with connect(lab.warehouse.root) as connection:
        found = gather(connection, [run_id])
    path = folder / "a report's page.html"
    path.write_text(html(found, Made(version="0", at=dt.datetime.now(dt.UTC), warehouse="here")), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    lab = Lab(Warehouse(folder))
    lab.warehouse.create()
    small = fleet.Fleet(recipes=RECIPES, hardware=("a100-80g", "h100"), batches=(1, 8, 128))
    return page_of(lab, fleet.commit(lab.warehouse, small), folder)


@pytest.fixture(scope="module")
def whole(browse: Browse, page: Path) -> Seen:
    return browse(page)


def test_every_figure_is_drawn_and_every_table_filled_without_a_word_on_the_console(whole: Seen) -> None:
    assert whole.console == ()
    assert 'data-state="drawn"' in whole.text
    assert {name for name in DRAWN if whole.marks(name) > 0} == DRAWN
    assert "It could not be drawn" not in Elements(whole.text).text
    assert whole.rows("speeds") == 2 * 3 * 3 * 2
    assert (whole.rows("failures"), whole.rows("refusals"), whole.rows("runs")) == (1, 1, 1)


def test_text_of_the_data_stays_text(whole: Seen) -> None:
    page = Elements(whole.text)
    assert not {"img", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert [tag for tag, _ in page.tags].count("script") == 3
    assert fleet.NASTY in page.text


def test_the_address_narrows_figures_and_tables(browse: Browse, page: Path, whole: Seen) -> None:
    some = browse(page, f"hardware=h100&recipe=bf16&recipe={quote(fleet.NASTY)}&batch=8")
    assert some.console == ()
    assert some.rows("speeds") == 2 * 2
    assert some.rows("refusals") == 0
    assert 0 < some.marks("pareto") < whole.marks("pareto")
    assert 0 < some.marks("ttft") < whole.marks("ttft")
    assert "4 of 36 speed cells" in Elements(some.text).text
    nothing = browse(page, "hardware=tpu")
    assert nothing.rows("speeds") == 0
    assert nothing.marks("pareto") == 0
    assert "Nothing of this is among what is chosen." in nothing.figure("pareto")


def test_it_prints_on_pages_of_which_none_is_empty(page: Path, tmp_path: Path) -> None:
    pdf = tmp_path / "page.pdf"
    chromium(tmp_path / "profile", f"--print-to-pdf={pdf}", page.as_uri())
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF")
    assert 6 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 25


def test_a_run_with_failures_alone_is_a_page_that_says_so(browse: Browse, tmp_path: Path) -> None:
    lab = Lab(Warehouse(tmp_path))
    lab.warehouse.create()
    lab.run(cells=1, trials=1)
    lab.trial(trial_row(outcome="oom", valid=False, reason="out of memory", log_tail="one\ntwo"))
    seen = browse(page_of(lab, "run1", tmp_path))
    assert seen.console == ()
    assert seen.rows("failures") == 1
    assert "No cell has both a rate and a time between tokens." in seen.figure("pareto")
    assert seen.marks("coverage") > 0
