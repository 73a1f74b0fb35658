"""Rows that a node cannot commit itself go through the controller."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fleetbench.fleet.launch.courier import Courier, Handed, deliver
from fleetbench.fleet.launch.work import run_launch
from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import TrialEnded
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.samples import trial_row
from tests.small import job_of, planned


@pytest.mark.engine
def test_a_launch_without_a_warehouse_hands_over_all_that_it_would_have_committed(
    tmp_path: Path, artifact_cache: Path
) -> None:
    plan = planned(
        tmp_path,
        models="[{name: tiny, measure: [speed]}]",
        quality=None,
        load="{batch: 1, context: 16, output: 8, requests: 2}",
    )
    warehouse = Warehouse(tmp_path / "warehouse")
    warehouse.create()
    job = job_of(plan, plan.plan.launches[0], warehouse=warehouse.root, cache=artifact_cache)
    events = list(run_launch(replace(job, warehouse=None)))
    assert warehouse.committed(job.run_id) == []
    kinds = [type(event) for event in events]
    assert kinds.index(Handed) < kinds.index(TrialEnded)
    for event in events:
        if isinstance(event, Handed):
            assert deliver(event, warehouse) == {}
    assert [trial.outcome for trial in warehouse.committed(job.run_id)] == [Outcome.OK]
    with connect(warehouse.root) as connection:
        (requests,) = connection.execute("SELECT count(*) FROM requests WHERE phase = 'measure'").fetchall()
        (launches,) = connection.execute("SELECT outcome FROM launches").fetchall()
    assert (requests, launches) == ((2,), ("ok",))


def test_what_is_delivered_twice_is_kept_once_and_said(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    warehouse.create()
    courier = Courier()
    row = trial_row()
    assert courier.commit_trial(row, {})
    handed = Handed(launch_id="launch", parcels=courier.take())
    assert courier.take() == ()
    assert deliver(handed, warehouse) == {}
    assert list(deliver(handed, warehouse)) == [row["trial_id"]]
    assert len(warehouse.committed(row["run_id"])) == 1
