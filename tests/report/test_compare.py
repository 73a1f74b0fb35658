from __future__ import annotations

import csv
import io
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from rich.console import Console

from fleetbench.errors import InputError
from fleetbench.report.chosen import compared_cells
from fleetbench.report.compare import compare
from fleetbench.report.query import query
from fleetbench.report.result import Panel, Result
from fleetbench.report.runs import brief, list_runs, resolve
from fleetbench.report.table import render, render_panels
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.samples import START, Lab, item_row, position_row, trial_row

RECIPES = ("f16", "q8_0", "q2_k")
CATEGORIES = ("addition", "copy", "facts", "json", "needle", "tool_call")
MATRIX = json.dumps({"recipes": [{"name": name} for name in ("q2_k", "f16", "q8_0")]})


NO_LOAD: dict[str, Any] = dict.fromkeys(("batch", "context_tok", "output_tok"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three recipes, made once: a test that adds to it gets a copy."""
    lab = Lab(Warehouse(tmp_path_factory.mktemp("built")))
    lab.run(cells=9, trials=16, matrix_json=MATRIX)
    for place, recipe in enumerate(RECIPES):
        for batch, repeat in itertools.product((4, 16), (0, 1)):
            lab.speed(recipe, 100.0 + 50 * place + repeat, repeat, batch=batch)
        tiny = {"model": "tiny", "random_weights": False, "suite": "embedded/1", **NO_LOAD}
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


@pytest.fixture(scope="module")
def connection(built: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """For tests that only ask."""
    with connect(built) as made:
        yield made


@pytest.fixture(scope="module")
def whole(connection: duckdb.DuckDBPyConnection) -> list[Panel]:
    return compare(connection, ["run1"])


@pytest.fixture(scope="module")
def shown(connection: duckdb.DuckDBPyConnection) -> str:
    """The whole comparison as a terminal of 80 columns shows it."""
    return show(connection)


@pytest.fixture
def lab(built: Path, tmp_path: Path) -> Lab:
    shutil.copytree(built, tmp_path / "data")
    return Lab(Warehouse(tmp_path / "data"), runs=1)


@pytest.fixture
def said(lab: Lab) -> Callable[..., str]:
    return lambda *runs, where=None: show(connect(lab.warehouse.root), *runs, where=where)


def show(connection: duckdb.DuckDBPyConnection, *runs: str, where: str | None = None) -> str:
    sink = io.StringIO()
    found = compare(connection, resolve(connection, runs), where)
    render_panels(found, "table", Console(file=sink, width=80, color_system=None))
    return sink.getvalue()


def titled(found: Sequence[Panel]) -> dict[str, Panel]:
    return {panel.title.partition(":")[0]: panel for panel in found}


def panels(lab: Lab, where: str | None = None) -> dict[str, Panel]:
    return titled(compare(connect(lab.warehouse.root), ["run1"], where))


def column(result: Result, name: str) -> list[object]:
    return [row[result.columns.index(name)] for row in result.rows]


def test_the_whole_comparison_fits_eighty_columns(shown: str) -> None:
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_random_weights_are_said_in_every_speed_table_and_give_no_quality(whole: list[Panel]) -> None:
    for panel in whole:
        if "ladder-75m" in panel.title:
            assert "ladder-75m (random weights)" in panel.title
        if "Quality" in panel.title or "Accuracy" in panel.title:
            assert "ladder" not in panel.title


def test_recipes_stand_as_in_the_matrix_after_the_reference_and_batches_as_numbers(whole: list[Panel]) -> None:
    panel = titled(whole)["Speed"]
    names = panel.result.columns
    order = [(row[names.index("recipe")], row[names.index("batch")]) for row in panel.result.rows]
    assert order == [(recipe, batch) for recipe in ("f16", "q2_k", "q8_0") for batch in (4, 16)]


def test_no_title_is_broken_and_no_speed_table_split(shown: str) -> None:
    for start, last in (
        ("Speed: ", "J/tok"),
        ("TTFT, ms: ", "tok/s"),
        ("ITL, ms: ", "tok/s"),
        ("At a glance: ", "items"),
    ):
        title, header = shown[shown.index(start) :].splitlines()[:2]
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


def test_missing_energy_is_an_em_dash_and_says_why(shown: str) -> None:
    assert "J/tok is missing: power unavailable." in shown
    assert "—" in shown


def test_drift_and_coverage_are_one_line_each(whole: list[Panel]) -> None:
    found = titled(whole)
    assert found["Drift"].line == (
        "Drift: f16 on ladder-75m, local, once more at the end: 0.95 to 0.95 of its first tok/s (cells: 1)"
    )
    assert not found["Drift"].alarm
    assert column(found["Drift"].result, "drifted") == [False]
    assert found["Coverage"].line == "Coverage: quickstart/default (run1): 9 of 9 cells ok, 16 of 16 trials ok"


@pytest.mark.parametrize("where", [None, "recipe = 'q2_k' AND kind = 'speed'"])
def test_a_machine_that_changed_its_speed_is_a_warning_whatever_is_chosen(
    lab: Lab, said: Callable[..., str], where: str | None
) -> None:
    lab.speed("f16", 77.0, batch=16, role="control")
    drift = panels(lab, where)["Drift"]
    assert drift.line == (
        "WARNING: the machine's own speed changed by 23 % during the run: its speeds should not be compared. "
        "Drift: f16 on ladder-75m, local, once more at the end: 0.77 to 0.95 of its first tok/s (cells: 2)"
    )
    assert drift.alarm
    assert column(drift.result, "drifted") == [True]
    assert "\nWARNING: the machine's own speed" in said(where=where)


def test_of_several_runs_the_warning_names_the_one_that_drifted(lab: Lab) -> None:
    lab.run(run_id="run2", run="second", submitted_at=START.replace(hour=13))
    lab.speed("f16", 70.0, run_id="run2")
    lab.speed("f16", 105.0, run_id="run2", role="control")
    drift = next(p for p in compare(connect(lab.warehouse.root), ["run1", "run2"]) if p.name == "drift")
    assert (drift.line or "").startswith(
        "WARNING: the machine's own speed changed by 50 % during the run quickstart/second: "
    )
    assert column(drift.result, "drifted") == [False, True]


def test_every_panel_has_a_name_that_stays(whole: list[Panel]) -> None:
    assert [panel.name for panel in whole] == [
        "speed",
        "ttft",
        "itl",
        "quality",
        "accuracy",
        "glance",
        "drift",
        "coverage",
    ]


def test_all_chosen_cells_are_one_table_for_programs(connection: duckdb.DuckDBPyConnection) -> None:
    found = compared_cells(connection, ["run1"], "recipe <> 'q8_0'")
    rows = [dict(zip(found.columns, row, strict=True)) for row in found.rows]
    assert [(row["kind"], row["recipe"], row["batch"]) for row in rows] == [
        *(("speed", recipe, batch) for recipe in ("f16", "q2_k") for batch in (4, 16)),
        *(("quality", recipe, None) for recipe in ("f16", "q2_k")),
    ]
    assert set(query(connection, "FROM cmp_recipe").columns) <= set(found.columns)
    assert {row["run"] for row in rows} == {"quickstart/default"}
    speed, quality = rows[2], rows[4]
    assert (speed["speedup_ratio"], speed["accuracy"]) == (pytest.approx(200.5 / 100.5), None)
    assert (quality["speedup_ratio"], quality["kl_mean_nat"], quality["accuracy"]) == (None, 0, 0.95)
    sink = io.StringIO()
    render(found, "csv", Console(file=sink, width=80))
    assert [len(row) for row in csv.reader(io.StringIO(sink.getvalue()))] == [len(found.columns)] * 7


def test_the_numbers_of_a_column_have_the_same_decimals(shown: str) -> None:
    speed = shown[shown.index("Speed: ") :].splitlines()[2:8]
    assert [line.split()[4:9] for line in speed][::5] == [
        ["100.5", "1.0", "1.00", "0.99", "1.01"],
        ["150.5", "0.7", "1.50", "1.49", "1.51"],
    ]
    quality = shown[shown.index("Quality: ") :].splitlines()[2:5]
    assert len({len(line.split()[1].partition(".")[2]) for line in quality}) == 1


def test_a_reference_that_was_not_measured_is_said_in_place_of_speed_ups(lab: Lab) -> None:
    notes = panels(lab, "kind = 'speed'")["Speed"].notes
    assert "All cells: KV f16, output 4 tokens." in notes
    assert not any("x ref is missing" in note for note in notes)
    lab.speed("q8_0", 1.0, batch=64)
    assert "x ref is missing where f16 was not measured at the same load." in panels(lab)["Speed"].notes
    assert "x ref is missing: f16 was not measured." in panels(lab, "batch = 64")["Speed"].notes


def test_quality_has_divergence_pooled_accuracy_and_categories(whole: list[Panel]) -> None:
    found = titled(whole)
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


def test_where_keeps_the_cells_for_which_it_holds(connection: duckdb.DuckDBPyConnection) -> None:
    found = titled(compare(connection, ["run1"], "recipe = 'f16' AND batch = 4 -- only this"))
    assert len(found["Speed"].result.rows) == 1
    assert "Quality" not in found


@pytest.mark.parametrize("where", ["speling = 1", "batch >", "1) ; DROP VIEW cells; SELECT (1", "true; true"])
def test_a_where_that_is_no_condition_is_wrong_input(connection: duckdb.DuckDBPyConnection, where: str) -> None:
    with pytest.raises(InputError, match="--where"):
        compare(connection, ["run1"], where)
    assert query(connection, "SELECT count(*) AS n FROM cells").rows == ((9,),)


WRONG = [
    ("speling = 1", "speling"),
    ("batch >", 'near ">"|at end of input'),
    ("recipe = 'f16", "unterminated"),
    ("batch = 1)", r'near "\)"'),
    ("-- nothing", "give one condition|at end of input"),
    ("true ORDER BY 1", "give one condition"),
    ("true; DROP VIEW cells", "give one condition"),
    ("true UNION SELECT * FROM cells", "give one condition"),
]


@pytest.mark.parametrize(("where", "why"), WRONG)
def test_what_is_wrong_with_a_where_is_said_of_its_own_text(
    connection: duckdb.DuckDBPyConnection, where: str, why: str
) -> None:
    with pytest.raises(InputError, match=why) as wrong:
        compare(connection, ["run1"], where)
    said = str(wrong.value).removeprefix(f"--where {where}: ")
    assert "LINE" not in said
    assert where.endswith(")") or ")" not in said


def test_a_where_that_no_cell_matches_is_wrong_input(lab: Lab) -> None:
    connection = connect(lab.warehouse.root)
    for ask in (compare, compared_cells):
        with pytest.raises(InputError) as wrong:
            ask(connection, ["run1"], "batch = 5")
        assert str(wrong.value) == "--where batch = 5: none of the 9 cells of quickstart/default matches"
    lab.run(run_id="run2", run="empty")
    panel = compare(connect(lab.warehouse.root), ["run2"], "batch = 5")[-1]
    assert panel.name == "coverage"


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
        resolve(connection, ["quickstart", "nothing", "", "night"])
    assert [line.split(":")[0] for line in wrong.value.mistakes] == [
        "quickstart may be any of abc123, run1",
        "there is no run nothing",
        "there is no run ",
        "there is no run night, did you mean nightly?",
    ]
    assert [row[0] for row in list_runs(connection).rows] == ["abc123", "run1"]


def test_the_latest_run_is_the_latest_of_our_own(lab: Lab) -> None:
    imported = START.replace(hour=20)
    lab.run(run_id="foreign", run="theirs", matrix="import/vllm", origin="vllm", submitted_at=imported)
    assert resolve(connect(lab.warehouse.root), []) == ("run1",)


def test_runs_fit_a_page_with_what_went_wrong_and_times_to_the_minute(lab: Lab) -> None:
    late = START.replace(minute=5, microsecond=123456)
    lab.run(run_id="9a4da95f2653", run="20261121-123528-431", cells=25, submitted_at=late)
    found = list_runs(connect(lab.warehouse.root))
    assert str(found.rows[0][found.columns.index("submitted")]) == "2026-11-01 12:05:00"
    sink = io.StringIO()
    render(brief(found), "table", Console(file=sink, width=80, color_system=None))
    assert [line.split() for line in sink.getvalue().splitlines()] == [
        ["run_id", "run", "submitted", "(UTC)", "ok", "missing"],
        ["9a4da95f2653", "quickstart/20261121-123528-431", "2026-11-01", "12:05", "0/25", "25"],
        ["run1", "quickstart/default", "2026-11-01", "12:00", "9/9", "0"],
    ]


def test_a_warehouse_without_runs_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no runs yet"):
        resolve(connect(tmp_path), [])


def test_an_imported_run_is_compared_without_what_nobody_measured(tmp_path: Path) -> None:
    lab = Lab(Warehouse(tmp_path))
    imported: dict[str, Any] = {"run_id": "run1", "model": "m", "engine_version": None, "kv_k": None, "kv_v": None}
    lab.run(
        run="serve", matrix="import/vllm", reference="none", origin="vllm", source="serve.json", source_sha256="0" * 64,
        cells=2, trials=2,
    )  # fmt: skip
    for recipe in ("fp8", "bf16"):
        row = trial_row(recipe, output_tok_s=100.0, ttft_mean_ms=20.0, reference=False, hardware="h100", **imported)
        lab.trial(row)
    text = show(connect(tmp_path))
    assert "Speed: m (random weights), llamacpp, h100" in text
    assert "Coverage: import/vllm/serve" in text
    assert "imported from serve.json, licence not said" in " ".join(text.split())
    for word in ("None", "x ref", "none", "Drift", "At a glance", "ITL, ms", "J/tok"):
        assert word not in text, word
