"""How a comparison tells of the control at the end of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetbench.report.compare import compare
from fleetbench.report.result import Panel
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.samples import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = Lab(Warehouse(tmp_path))
    lab.run()
    return lab


def drift(lab: Lab, where: str | None = None) -> Panel:
    with connect(lab.warehouse.root) as connection:
        return next(panel for panel in compare(connection, ["run1"], where) if panel.name == "drift")


def test_each_kind_of_hardware_has_its_own_drift_and_its_own_warning(lab: Lab) -> None:
    for hardware, control in (("h100", 98.0), ("h200", 80.0)):
        lab.speed("f16", 100.0, hardware=hardware, cell_id=hardware, node=hardware)
        lab.speed("f16", control, hardware=hardware, cell_id=hardware, node=hardware, role="control")
    assert drift(lab).line == (
        "WARNING: the own speed of h200 changed by 20 % during the run: its speeds should not be compared. "
        "Drift: f16 on ladder-75m, h100, once more at the end: 0.98 to 0.98 of its first tok/s (cells: 1); "
        "f16 on ladder-75m, h200, once more at the end: 0.80 to 0.80 of its first tok/s (cells: 1)"
    )
    assert not drift(lab, "hardware = 'h100'").alarm


def test_a_control_on_another_node_is_told_of_as_such_and_not_as_the_machines_own_speed(lab: Lab) -> None:
    lab.speed("f16", 100.0, hardware="h100", node="one")
    lab.speed("f16", 70.0, hardware="h100", node="other", role="control")
    found = drift(lab)
    assert found.line == (
        "WARNING: two nodes of h100 differ by 30 %, or one changed during the run: its speeds should be compared "
        "within one node alone. Drift: f16 on ladder-75m, h100, once more at the end on another node, so with the "
        "difference between the two: 0.70 to 0.70 of its first tok/s (cells: 1)"
    )
    assert found.alarm


def test_cells_with_a_control_on_the_same_node_are_told_of_apart(lab: Lab) -> None:
    lab.speed("f16", 100.0, hardware="h100", node="one")
    lab.speed("f16", 99.0, hardware="h100", node="one", role="control")
    lab.speed("f16", 100.0, batch=4, hardware="h100", node="one")
    lab.speed("f16", 96.0, batch=4, hardware="h100", node="other", role="control")
    found = drift(lab)
    assert [row[found.result.columns.index("same_node")] for row in found.result.rows] == [True, False]
    assert not found.alarm
