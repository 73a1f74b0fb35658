"""What a comparison says where there is no number to show."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fleetbench.report.compare import compare
from fleetbench.report.result import Panel
from fleetbench.report.table import Format, render_panels
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.samples import Lab, recipe_axes, trial_row

NO_NODE = "no node of kind h100 may be measured on: liar is mismatched (it has no GPU), see `fleetbench nodes`"
WHY = "no node of kind b200 is in the fleet, and none came for 120 s"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Of one kind all cells are refused, of another all trials are cancelled."""
    lab = Lab(Warehouse(tmp_path))
    lab.run(cells=2, refusals=2, trials=2)
    refused = [
        {
            "run_id": "run1",
            "cell_id": f"refused-{batch}",
            **recipe_axes("f16", hardware="h100"),
            "kind": "speed",
            "batch": batch,
            "context_tok": 64,
            "output_tok": 4,
            "rule": "no-node",
            "sentence": NO_NODE,
            "verdict": "not_here",
            "source": "a test",
        }
        for batch in (1, 4)
    ]
    lab.warehouse.commit("refusals", refused, run_id="run1", name="refusals")
    for recipe in ("f16", "q8_0"):
        lab.trial(
            trial_row(recipe, hardware="b200", cell_id=f"b200-{recipe}", outcome="cancelled", valid=False, reason=WHY)
        )
    return lab


def compared(lab: Lab) -> list[Panel]:
    with connect(lab.warehouse.root) as connection:
        return compare(connection, ["run1"])


def said(panels: list[Panel], form: Format = "table") -> str:
    sink = io.StringIO()
    render_panels(panels, form, Console(file=sink, width=80, color_system=None))
    return sink.getvalue()


def test_where_nothing_was_measured_reasons_are_counted_in_place_of_empty_tables(lab: Lab) -> None:
    assert said(compared(lab)).splitlines() == [
        "Nothing was measured of 4 cells:",
        "- 2 cancelled on b200: no node of kind b200 is in the fleet, and none came for",
        "  120 s",
        "- 2 refused on h100: no node of kind h100 may be measured on: liar is mismatched",
        "  (it has no GPU), see `fleetbench nodes`",
        "",
        "Coverage: quickstart/default (run1): 0 of 2 cells ok, 2 refused, 2 cancelled, 0 ",
        "of 2 trials ok",
    ]


def test_a_kind_without_a_number_is_counted_beside_the_tables_of_the_others(lab: Lab) -> None:
    lab.speed("f16", 100.0)
    text = said(compared(lab))
    assert "Speed: ladder-75m (random weights), llamacpp 2026.10, local" in text
    assert "2026.10, b200" not in text
    assert "Nothing was measured of 4 of the 5 cells, which are in no table:\n- 2 cancelled on b200" in text


def test_of_several_runs_each_reason_has_its_own(lab: Lab) -> None:
    lab.run(run_id="run2", run="second")
    lab.trial(trial_row("f16", run_id="run2", hardware="b200", outcome="oom", valid=False, reason="out of memory"))
    with connect(lab.warehouse.root) as connection:
        text = said(compare(connection, ["run1", "run2"]))
    assert "- 1 oom on b200 in quickstart/second: out of memory\n" in text
    assert "- 2 cancelled on b200 in quickstart/default: no node" in " ".join(text.split())


def test_programs_get_the_rows_all_the_same(lab: Lab) -> None:
    found: dict[str, list[Any]] = {}
    for panel in compared(lab):
        found.setdefault(panel.name, []).extend(panel.result.rows)
    assert (len(found["speed"]), len(found["unmeasured"])) == (4, 2)
    assert '"recipes": [\n          "ladder-75m f16",' in said(compared(lab), "json")


def test_what_was_measured_in_part_keeps_its_table(lab: Lab) -> None:
    lab.speed("f16", 100.0, hardware="b200", batch=4)
    shown = {panel.name: panel for panel in compared(lab) if not panel.programs}
    assert "2 cancelled: " + WHY in shown["speed"].notes
    assert [row[:2] for row in shown["unmeasured"].result.rows] == [("quickstart/default", "h100")]
