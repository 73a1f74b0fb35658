"""A run as another shell sees it by its warehouse: a real lock, held or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetbench.fleet.control.journal import Journal, control
from fleetbench.fleet.control.sighting import InWarehouse, runs_in_warehouse
from fleetbench.fleet.control.sole import is_driven, sole_driver
from fleetbench.fleet.control.status import State
from fleetbench.store.commit import Warehouse
from tests.fleet.told import STATUS, status

RUN = STATUS.run_id


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    warehouse = Warehouse(tmp_path)
    warehouse.create()
    return warehouse


@pytest.mark.parametrize("state", ["running", "waiting", "ended", "interrupted"])
def test_a_driven_run_is_what_its_controller_says(warehouse: Warehouse, state: State) -> None:
    with sole_driver(warehouse, RUN):
        Journal(control(warehouse.root, RUN)).tell(status(state=state))
        seen = InWarehouse(warehouse.root, RUN).look()
    assert (seen.condition, seen.driven) == (state, state in ("running", "waiting"))


def test_a_run_whose_controller_died_is_told_from_one_that_goes_on(warehouse: Warehouse) -> None:
    journal = Journal(control(warehouse.root, RUN))
    with sole_driver(warehouse, RUN):
        journal.tell(STATUS)
    seen = InWarehouse(warehouse.root, RUN).look()
    assert (seen.condition, seen.driven, seen.status) == ("gone", False, STATUS)
    assert seen.why is not None
    assert f"process {STATUS.pid} on {STATUS.host}" in seen.why
    journal.tell(status(state="ended"))
    assert InWarehouse(warehouse.root, RUN).look().condition == "ended"


def test_a_run_that_has_just_begun_has_no_status_of_an_earlier_controller(warehouse: Warehouse) -> None:
    journal = Journal(control(warehouse.root, RUN))
    journal.tell(status(state="interrupted"))
    with sole_driver(warehouse, RUN):
        journal.clear()
        assert InWarehouse(warehouse.root, RUN).look().condition == "starting"
    assert InWarehouse(warehouse.root, RUN).look().condition == "gone"


def test_a_run_without_a_record_is_not_called_dead(warehouse: Warehouse) -> None:
    seen = InWarehouse(warehouse.root, RUN).look()
    assert (seen.condition, seen.driven) == ("unknown", False)
    assert "no record" in str(seen.why)


def test_a_broken_status_is_a_sentence(warehouse: Warehouse) -> None:
    journal = Journal(control(warehouse.root, RUN))
    journal.say("a line")
    (journal.folder / "status.json").write_text("{")
    assert "status.json cannot be used" in str(InWarehouse(warehouse.root, RUN).look().why)


def test_looking_keeps_nobody_from_driving(warehouse: Warehouse) -> None:
    assert is_driven(warehouse.root, RUN) is False
    with sole_driver(warehouse, RUN):
        assert is_driven(warehouse.root, RUN) is True
    assert is_driven(warehouse.root, RUN) is False
    with sole_driver(warehouse, RUN):
        pass


def test_the_list_has_every_run_the_latest_first(warehouse: Warehouse) -> None:
    assert runs_in_warehouse(warehouse.root / "nowhere") == []
    for number, run_id in enumerate(("a" * 12, "b" * 12)):
        Journal(control(warehouse.root, run_id)).tell(status(run_id=run_id, state="ended", updated_s=float(number)))
    (warehouse.root / "control/not a run").mkdir()
    assert [seen.run_id for seen in runs_in_warehouse(warehouse.root)] == ["b" * 12, "a" * 12]
