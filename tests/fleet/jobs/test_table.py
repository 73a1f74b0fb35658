"""What a job says of its run, where nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from fleetbench.fleet.jobs.marks import NAME, RUN, RUN_ID, WAREHOUSE
from fleetbench.fleet.jobs.table import sighting

METADATA = {RUN_ID: "0" * 12, RUN: "nightly", NAME: "zoo", WAREHOUSE: "/srv/results"}


@pytest.mark.parametrize(
    ("job", "condition", "why"),
    [
        ({"status": "PENDING"}, "starting", "job j-1 is pending"),
        ({"status": "RUNNING"}, "starting", "has started no launch yet"),
        ({"status": "SUCCEEDED", "driver_exit_code": 0}, "ended", "job j-1 came to its end"),
        ({"status": "FAILED", "driver_exit_code": 1}, "ended", "job j-1 came to its end"),
        ({"status": "FAILED", "driver_exit_code": 2}, "failed", "job j-1 ended with exit code 2"),
        ({"status": "FAILED", "driver_exit_code": None}, "failed", "job j-1 did not come to run"),
        ({"status": "FAILED", "driver_exit_code": 3}, "interrupted", "job j-1 was stopped"),
        ({"status": "STOPPED", "driver_exit_code": None}, "interrupted", "job j-1 was stopped"),
    ],
)
def test_a_job_tells_how_its_run_stands(job: dict[str, Any], condition: str, why: str) -> None:
    seen = sighting("j-1", {**job, "metadata": METADATA})
    assert seen.condition == condition
    assert why in str(seen.why)
    assert seen.names == ("0" * 12, "nightly", "zoo")
    assert seen.results == "/srv/results"
    assert seen.driven == (condition == "starting")
