from __future__ import annotations

import pytest

from fleetbench_collectors.power.common import Availability, Status
from fleetbench_collectors.power.idle import idle_power_w
from tests.collectors.power.scripted import HERE, Scripted


def test_a_device_that_waits_draws_what_its_readings_say() -> None:
    source = Scripted(HERE)
    assert idle_power_w([source], seconds=0.01) == pytest.approx(10.0)
    assert source.read_times >= 2
    assert not source.is_open


def test_where_nothing_can_be_read_there_is_no_number_and_nothing_is_waited_for() -> None:
    assert idle_power_w([Scripted(Availability(status=Status.UNAVAILABLE))], seconds=3600) is None
    assert idle_power_w([], seconds=3600) is None


def test_a_source_that_is_lost_meanwhile_gives_no_number() -> None:
    assert idle_power_w([Scripted(HERE, fails_at=2)], seconds=0.01) is None
