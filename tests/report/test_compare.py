from __future__ import annotations

import io
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fleetbench.errors import InputError
from fleetbench.report.compare import compare
from fleetbench.report.query import query
from fleetbench.report.result import Panel
from fleetbench.report.runs import brief, list_runs, resolve
from fleetbench.report.table import render, render_panels
from fleetbench.store.commit import Warehouse
from fleetbench.store.views import connect
from tests.samples import START, Lab, item_row, position_row, trial_row

RECIPES = ("f16", "q8_0", "q2_k")
CATEGORIES = ("addition", "copy", "facts", "json", "needle", "tool_call")
MATRIX = json.dumps({"recipes": [{"name": name} for name in ("q2_k", "f16", "q8_0")]})


NO_LOAD: dict[str, Any] = dict.fromkeys(("batch", "context_tok", "output_tok"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three recipes, made once: a test gets a copy."""
    lab = Lab(Warehouse(tmp_path_factory.mktemp("built")))
    lab.run(cells=9, trials=16, matrix_json=MATRIX)
    for place, recipe in enumerate(RECIPES):
        for batch, repeat in itertools.product((4, 16), (0, 1)):
            lab.speed(recipe, 100.0 + 50 * place + repeat, repeat, batch=batch)
        tiny = {"model": "tiny", "random_weights": False, "suite": "embedded-1", **NO_LOAD}
        items = [
            item_row(100 * n + i, correct=i > place, category=name)
            for n, name in enumerate(CATEGORIES)
            for i in range(20)
        ]
        lab.trial(
            trial_row(recipe, **{"kind": "quality", **tiny}),
            quality_items=items,
            quality_positions=[position_row(0, [-0.7 - place / 100, -0.7])],
        )
    lab.speed("f16", 95.0, batch=4, role="control")
    return lab.warehouse.root


@pytest.fixture
def lab(built: Path, tmp_path: Path) -> Lab:
    shutil.copytree(built, tmp_path / "data")
    return Lab(Warehouse(tmp_path / "data"), runs=1)


@pytest.fixture
def said(lab: Lab) -> Callable[..., str]:
    def say(*runs: str, where: str | None = None) -> str:
        connection = connect(lab.warehouse.root)
        sink = io.StringIO()
        found = compare(connection, resolve(connection, runs), where)
        render_panels(found, "table", Console(file=sink, width=80, color_system=None))
        return sink.getvalue()

    return say


def panels(lab: Lab, where: str | None = None) -> dict[str, Panel]:
    found = compare(connect(lab.warehouse.root), ["run1"], where)
    return {panel.title.partition(":")[0]: panel for panel in found}


def test_the_whole_comparison_fits_eighty_columns(said: Callable[..., str]) -> None:
    assert max(len(line) for line in said().splitlines()) <= 80


def test_random_weights_are_said_in_every_speed_table_and_give_no_quality(lab: Lab) -> None:
    found = compare(connect(lab.warehouse.root), ["run1"])
    for panel in found:
        if "ladder-75m" in panel.title:
            assert "ladder-75m (random weights)" in panel.title
        if "Quality" in panel.title or "Accuracy" in panel.title:
            assert "ladder" not in panel.title


def test_recipes_stand_as_in_the_matrix_after_the_reference_and_batches_as_numbers(lab: Lab) -> None:
    panel = panels(lab)["Speed"]
    names = panel.result.columns
    order = [(row[names.index("recipe")], row[names.index("batch")]) for row in panel.result.rows]
    assert order == [(recipe, batch) for recipe in ("f16", "q2_k", "q8_0") for batch in (4, 16)]


def test_no_title_is_broken_and_no_speed_table_split(said: Callable[..., str]) -> None:
    text = said()
    for start, last in (
        ("Speed: ", "J/tok"),
        ("TTFT, ms: ", "tok/s"),
        ("ITL, ms: ", "tok/s"),
        ("At a glance: ", "items"),
    ):
        title, header = text[text.index(start) :].splitlines()[:2]
        assert title.endswith("llamacpp 2026.10, local")
        assert (header.split()[0], header.split()[-1]) == ("recipe", last)


def test_latencies_have_n_and_the_spread_of_the_trials_means(lab: Lab) -> None:
    for repeat, (ttft, itl) in enumerate(((10.0, 2.0), (12.0, 2.0), (11.0, 3.0))):
        lab.speed("q4_k", 90.0, repeat, batch=4, ttft_mean_ms=ttft, itl_mean_ms=itl)
    found = panels(lab)
    for name, spread, n in (("TTFT, ms", 200 / 11, 6), ("ITL, ms", 50, 18)):
        result = found[name].result
        row = dict(zip(result.headers, next(row for row in result.rows if "q4_k" in row), strict=True))
        assert (row["spread %"], row["n"]) == (pytest.approx(spread), n)
        assert "spread %" in found[name].visible.headers


def test_missing_energy_is_an_em_dash_and_says_why(said: Callable[..., str]) -> None:
    text = said()
    assert "J/tok is missing: power absent." in text
    assert "—" in text


def test_drift_and_coverage_are_one_line_each(lab: Lab) -> None:
    found = panels(lab)
    assert found["Drift"].line == (
        "Drift: f16 on ladder-75m once more at the end: 0.95 to 0.95 of its first tok/s (cells: 1)"
    )
    assert found["Coverage"].line == "Coverage: quickstart/default (run1): 9 of 9 cells ok, 16 of 16 trials"


def test_quality_has_divergence_pooled_accuracy_and_categories(lab: Lab) -> None:
    found = panels(lab)
    rows = [dict(zip(found["Quality"].result.columns, row, strict=True)) for row in found["Quality"].result.rows]
    assert [row["recipe"] for row in rows] == ["f16", "q2_k", "q8_0"]
    assert [row["n"] for row in rows] == [120] * 3
    assert rows[0]["kl_mean_nat"] == 0
    assert rows[0]["accuracy_pct"] == pytest.approx(95)
    by = found["Accuracy by category, %"]
    assert set(CATEGORIES) <= set(by.result.headers)
    headers = found["Quality"].visible.headers
    assert headers == ("recipe", "KL", "+-", "positions", "right %", "low", "high", "items")


def test_failed_cells_stand_in_the_table_with_their_reason(lab: Lab, said: Callable[..., str]) -> None:
    lab.trial(trial_row("mxfp4", outcome="crashed", valid=False, reason="the engine ended by signal 9"))
    text = said()
    assert "1 crashed: the engine ended by signal 9" in text
    assert "1 failed" in text


def test_where_keeps_the_cells_for_which_it_holds(lab: Lab) -> None:
    found = panels(lab, "recipe = 'f16' AND batch = 4 -- only this")
    assert len(found["Speed"].result.rows) == 1
    assert "Quality" not in found


@pytest.mark.parametrize("where", ["speling = 1", "batch >", "1) ; DROP VIEW cells; SELECT (1", "true; true"])
def test_a_where_that_is_no_condition_is_wrong_input(lab: Lab, where: str) -> None:
    connection = connect(lab.warehouse.root)
    with pytest.raises(InputError, match="--where"):
        compare(connection, ["run1"], where)
    assert query(connection, "SELECT count(*) AS n FROM cells").rows == ((9,),)


def test_runs_side_by_side_are_told_apart(lab: Lab, said: Callable[..., str]) -> None:
    lab.run(run_id="run2", run="second", submitted_at=START.replace(hour=13))
    lab.speed("f16", 70.0, run_id="run2", batch=4)
    assert "quickstart/second" not in said("run1")
    text = said("run1", "second")
    assert "quickstart/second" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_a_broken_file_is_counted_in_the_report(lab: Lab, said: Callable[..., str]) -> None:
    (lab.warehouse.root / "landing/power/run1").mkdir(parents=True)
    (lab.warehouse.root / "landing/power/run1/x.parquet").write_bytes(b"")
    assert "Unreadable files left out: 1" in said()


def test_a_run_is_found_by_id_start_or_name(lab: Lab) -> None:
    lab.run(run_id="abc123", run="nightly", submitted_at=START.replace(hour=13))
    connection = connect(lab.warehouse.root)
    assert resolve(connection, []) == ("abc123",)
    assert resolve(connection, ["run1", "abc", "nightly", "quickstart/default"]) == ("run1", "abc123")
    with pytest.raises(InputError) as wrong:
        resolve(connection, ["quickstart", "nothing", ""])
    assert [line.split(":")[0] for line in wrong.value.mistakes] == [
        "quickstart may be any of abc123, run1",
        "there is no run nothing",
        "there is no run ",
    ]
    assert [row[0] for row in list_runs(connection).rows] == ["abc123", "run1"]


def test_runs_fit_a_page_with_what_went_wrong_and_times_to_the_minute(lab: Lab) -> None:
    late = START.replace(minute=5, microsecond=123456)
    lab.run(run_id="9a4da95f2653", run="20261121-123528-431", cells=25, submitted_at=late)
    found = list_runs(connect(lab.warehouse.root))
    assert str(found.rows[0][found.columns.index("submitted")]) == "2026-11-01 12:05:00"
    sink = io.StringIO()
    render(brief(found), "table", Console(file=sink, width=80, color_system=None))
    assert [line.split() for line in sink.getvalue().splitlines()] == [
        ["run_id", "run", "submitted", "ok", "missing"],
        ["9a4da95f2653", "quickstart/20261121-123528-431", "2026-11-01", "12:05", "0/25", "25"],
        ["run1", "quickstart/default", "2026-11-01", "12:00", "9/9", "0"],
    ]


def test_a_warehouse_without_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runs yet"):
        resolve(connect(tmp_path), [])
