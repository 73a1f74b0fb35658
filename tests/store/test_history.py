"""What the warehouse tells of earlier runs before a run is planned."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from fleetbench.store.commit import Warehouse
from fleetbench.store.history import MeasuredWith, measured_with
from tests.samples import START, Lab, Row, recipe_axes


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    lab = Lab(warehouse)
    lab.run()
    return lab


def test_a_run_without_trials_was_measured_with_nothing(lab: Lab, tmp_path: Path) -> None:
    assert measured_with(lab.warehouse.root, "run1") == MeasuredWith()
    assert measured_with(tmp_path / "nowhere", "run1") == MeasuredWith()


def test_a_run_was_measured_with_the_kinds_and_the_last_versions_of_its_trials(lab: Lab) -> None:
    later = START + timedelta(days=1)
    lab.speed("f16", 100.0, hardware="h100", tp=2, engine_version="1.0")
    lab.speed("q8_0", 100.0, hardware="h100", tp=8, engine_version="1.1", started_at=later)
    lab.speed("q4_k", 100.0, hardware="h200", outcome="lost", valid=False, engine_version="1.0")
    never: Row = {
        "outcome": "cancelled",
        "valid": False,
        "engine_version": "9",
        "started_at": later + timedelta(days=1),
    }
    lab.speed("q2_k", 100.0, hardware="b200", **never)
    found = measured_with(lab.warehouse.root, "run1")
    assert found == MeasuredWith(gpus={"h100": 8, "h200": 1}, engines={"llamacpp": "1.1"})
    assert measured_with(lab.warehouse.root, "run2") == MeasuredWith()


def test_a_kind_that_was_refused_for_want_of_a_node_was_none_of_the_runs(lab: Lab) -> None:
    lab.speed("f16", 100.0, hardware="h100")
    for hardware in ("h200", "h100"):
        refusal = {
            **recipe_axes("q8_0", hardware=hardware), "run_id": "run1", "cell_id": f"cell-{hardware}", "kind": "speed",
            "verdict": "not_here", "rule": "no-node", "sentence": "no node", "source": "rules",
        }  # fmt: skip
        lab.warehouse.commit("refusals", [refusal], run_id="run1", name=hardware)
    assert measured_with(lab.warehouse.root, "run1").absent == {"h200"}
