"""One driver a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.control.sole import BeingDrivenError, sole_driver
from fleetbench.store.commit import Warehouse


def test_a_run_is_held_by_one_driver_and_free_afterwards(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.create()
    with (
        sole_driver(warehouse, "run1"),
        pytest.raises(BeingDrivenError, match="measured already"),
        sole_driver(warehouse, "run1"),
    ):
        pass
    with sole_driver(warehouse, "run1"):
        pass


def test_a_lock_that_cannot_be_opened_is_an_unusable_environment(tmp_path: Path) -> None:
    (tmp_path / "locks/driver-run1.lock").mkdir(parents=True)
    with (
        pytest.raises(UnusableEnvironmentError, match=r"driver-run1\.lock cannot be taken"),
        sole_driver(Warehouse(tmp_path), "run1"),
    ):
        pass
