from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fleetbench.report.compare import compare
from fleetbench.report.result import Panel
from fleetbench.report.table import render_panels
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.samples import START, Lab, Row, item_row, position_row, recipe_axes, trial_row

NO_LOAD: Row = dict.fromkeys(("batch", "context_tok", "output_tok"))


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(Warehouse(tmp_path))
    made.warehouse.create()
    made.run()
    return made


def quality(lab: Lab, recipe: str, right: int, **changes: Any) -> None:
    tiny = {"model": "tiny", "random_weights": False, "suite": "embedded/1", **NO_LOAD}
    lab.trial(
        trial_row(recipe, **{"kind": "quality", **tiny, **changes}),
        quality_items=[item_row(n, correct=n < right) for n in range(100)],
        quality_positions=[position_row(0, [-0.7, -0.7])],
    )


def launch(lab: Lab, recipe: str, size: int | None, **changes: Any) -> None:
    row = {
        **recipe_axes(recipe, **changes),
        "run_id": "run1",
        "launch_id": f"launch-{recipe}",
        "attempt": 0,
        "role": "measure",
        "outcome": "ok",
        "node": "here",
        "lease": "x@1.1",
        "started_at": START,
        "wall_s": 1.0,
        "artifact_bytes": size,
    }
    lab.warehouse.commit("launches", [row], run_id="run1", name=f"launch-{recipe}")


def glances(lab: Lab, where: str | None = None) -> list[Panel]:
    panels = compare(connect(lab.warehouse.root), ["run1"], where)
    return [panel for panel in panels if panel.title.startswith("At a glance: ")]


def rows(panel: Panel) -> list[Row]:
    return [dict(zip(panel.result.columns, row, strict=True)) for row in panel.result.rows]


def test_a_recipe_has_its_size_speed_and_quality_in_one_line(lab: Lab) -> None:
    for context, slow, fast in ((64, 100.0, 150.0), (256, 40.0, 80.0)):
        lab.speed("f16", slow, context_tok=context)
        lab.speed("q4_k", fast, context_tok=context)
    for recipe in ("f16", "q4_k"):
        lab.speed(recipe, 5.0, batch=4)
        quality(lab, recipe, 90)
    launch(lab, "q4_k", 42_664_256)
    (panel,) = glances(lab)
    first, second = rows(panel)
    assert (first["recipe"], first["speedup_geomean_ratio"], first["artifact_mb"]) == ("f16", 1, None)
    assert second["speedup_geomean_ratio"] == pytest.approx(math.sqrt(1.5 * 2))
    assert (second["speedup_lowest_ratio"], second["speedup_highest_ratio"]) == (1.5, 2.0)
    assert (second["speedup_cells"], second["artifact_mb"]) == (2, 42.664256)
    assert (second["kl_mean_nat"], second["positions"], second["items"]) == (0, 1, 100)
    assert (second["accuracy_pct"], second["low_pct"]) == (90, pytest.approx(82.56343))
    assert panel.notes[:2] == (
        "Speed (x ref) and MB: ladder-75m (random weights), batch 1.",
        "Quality (KL, right %): tiny, embedded/1.",
    )


def test_it_stands_after_quality_and_before_drift(lab: Lab) -> None:
    lab.speed("f16", 100.0)
    quality(lab, "f16", 90)
    titles = [panel.title.partition(":")[0] for panel in compare(connect(lab.warehouse.root), ["run1"])]
    assert titles[-4:] == ["Accuracy by category, %", "At a glance", "Drift", "Coverage"]


def test_random_weights_never_give_quality(lab: Lab) -> None:
    lab.speed("f16", 100.0)
    quality(lab, "f16", 90, model="ladder-75m", random_weights=True)
    (panel,) = glances(lab)
    (row,) = rows(panel)
    assert {"kl_mean_nat", "accuracy_pct", "items"} <= set(panel.hidden)
    assert (row["kl_mean_nat"], row["accuracy_pct"], row["quality_model"]) == (None, None, None)


def test_a_recipe_without_one_side_has_em_dashes_there(lab: Lab) -> None:
    lab.speed("f16", 100.0)
    quality(lab, "f16", 90)
    quality(lab, "q2_k", 50)
    lab.trial(trial_row("q8_0", outcome="oom", valid=False, reason="out of memory"))
    launch(lab, "q2_k", 678_560, model="tiny", random_weights=False)
    sink = io.StringIO()
    render_panels(glances(lab), "table", Console(file=sink, width=80, color_system=None))
    lines = [line.split() for line in sink.getvalue().splitlines()]
    assert ["q2_k", *"————", "—", "0.0", "50.0", "9.6", "100"] in lines
    assert ["q8_0", *"————", "0", *"————"] in lines


def test_without_a_quality_model_only_speed_is_said(lab: Lab) -> None:
    lab.speed("f16", 100.0, batch=None, rate_per_s=2.0)
    (panel,) = glances(lab)
    assert panel.visible.headers == ("recipe", "MB", "x ref", "low", "high", "cells")
    assert panel.notes[0].endswith("ladder-75m (random weights), 2 requests/s.")


def test_without_a_speed_model_only_quality_and_its_size_are_said(lab: Lab) -> None:
    quality(lab, "f16", 90)
    launch(lab, "f16", 4_000_000, model="tiny", random_weights=False)
    (panel,) = glances(lab)
    assert panel.visible.headers == ("recipe", "MB", "KL", "right %", "+-", "items")
    assert rows(panel)[0]["artifact_mb"] == 4
    assert panel.notes[0] == "Quality (KL, right %) and MB: tiny, embedded/1."


def test_a_model_that_gives_both_is_not_mixed_with_others(lab: Lab) -> None:
    lab.speed("f16", 100.0)
    lab.speed("f16", 100.0, model="small", random_weights=False)
    quality(lab, "f16", 90)
    quality(lab, "f16", 80, model="small")
    pairs = [(rows(panel)[0]["speed_model"], rows(panel)[0]["quality_model"]) for panel in glances(lab)]
    assert pairs == [("small", "small"), ("ladder-75m (random weights)", "tiny")]


def test_it_is_over_the_chosen_cells_only(lab: Lab) -> None:
    for batch, tok_s in ((1, 150.0), (4, 300.0)):
        lab.speed("f16", 100.0, batch=batch)
        lab.speed("q4_k", tok_s, batch=batch)
    (panel,) = glances(lab, "batch = 4")
    assert rows(panel)[1]["speedup_geomean_ratio"] == pytest.approx(3)


def test_a_size_and_the_reason_are_there_where_the_reference_was_not_measured(lab: Lab) -> None:
    lab.trial(trial_row(outcome="oom", valid=False, reason="out of memory"))
    lab.speed("q4_k", 100.0)
    for recipe, size in (("f16", 150_000_000), ("q4_k", 42_000_000)):
        launch(lab, recipe, size)
    (panel,) = glances(lab)
    found = [(row["recipe"], row["artifact_mb"], row["speedup_geomean_ratio"]) for row in rows(panel)]
    assert found == [("f16", 150.0, None), ("q4_k", 42.0, None)]
    assert "x ref is missing: f16 was not measured." in panel.notes
