from __future__ import annotations

import threading
import time
from typing import Any

import pyarrow as pa
import pytest

from fleetbench_collectors import tables
from fleetbench_collectors.power.common import Availability, Source, Status, sources
from fleetbench_collectors.power.sampler import Sampler
from tests.collectors.power.scripted import HERE, Scripted

KEY: dict[str, Any] = {"run_id": "r", "trial_id": "t", "attempt": 0}


def test_readings_bracket_the_trial_and_fit_the_table() -> None:
    source = Scripted(HERE)
    with Sampler([source], interval_s=0.001) as sampler:
        inside_ns = time.monotonic_ns()
        source.reached.wait()
        later_ns = time.monotonic_ns()
    rows = sampler.rows(**KEY)
    assert rows[0]["at_ns"] <= inside_ns
    assert rows[-1]["at_ns"] >= later_ns
    assert len(rows) == source.read_times
    assert not source.is_open
    assert pa.Table.from_pylist(rows, schema=tables.POWER).num_rows == len(rows)


def test_a_source_that_has_nothing_leaves_one_row_that_says_why() -> None:
    source = Scripted(Availability(status=Status.NO_PERMISSION, detail="ask root"))
    with Sampler([source]) as sampler:
        pass
    assert sampler.rows(**KEY) == [KEY | {"source": "scripted", "status": "no_permission", "detail": "ask root"}]
    assert source.read_times == 0


def test_a_source_that_is_lost_keeps_its_readings_and_says_so() -> None:
    source = Scripted(HERE, fails_at=3)
    with Sampler([source], interval_s=0.001) as sampler:
        source.reached.wait()
    rows = sampler.rows(**KEY)
    assert [r["status"] for r in rows] == ["unsupported", "available", "available"]
    assert rows[0]["detail"] == "the device fell off the bus"


def test_a_trial_that_raises_ends_the_thread() -> None:
    source = Scripted(HERE)
    with pytest.raises(ZeroDivisionError), Sampler([source], interval_s=0.001):
        _ = 1 / 0
    assert not source.is_open
    assert not [t for t in threading.enumerate() if t.name == "power"]


def test_this_machine_says_something_about_every_source() -> None:
    found: list[Source] = sources()
    assert {source.name for source in found} >= {"nvml", "amd", "rapl"}
    with Sampler(found) as sampler:
        pass
    assert {row["source"] for row in sampler.rows(**KEY)} == {source.name for source in found}
