from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from fleetbench_collectors.power.amd import AmdSmi
from fleetbench_collectors.power.common import ReadFailedError, Status


class SmiError(Exception):
    """As AmdSmiException: carries the library's code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.err_code = code


class FakeSmi(ModuleType):
    """The part of amdsmi's Python interface that the source calls."""

    AmdSmiException = SmiError

    def __init__(self, power: dict[str, Any], energy: dict[str, Any], gpus: int = 1, fails: int = 0) -> None:
        super().__init__("amdsmi")
        self.power, self.energy, self.gpus, self.fails = power, energy, gpus, fails
        self.is_open = False

    def amdsmi_init(self) -> None:
        if self.fails:
            raise SmiError(self.fails)
        self.is_open = True

    def amdsmi_shut_down(self) -> None:
        self.is_open = False

    def amdsmi_get_processor_handles(self) -> list[int]:
        return list(range(self.gpus))

    def amdsmi_get_gpu_device_uuid(self, handle: int) -> str:
        return f"gpu-{handle}"

    def amdsmi_get_power_info(self, _: int) -> dict[str, Any]:
        if self.fails:
            raise SmiError(self.fails)
        return self.power

    def amdsmi_get_energy_count(self, _: int) -> dict[str, Any]:
        return self.energy


POWER = {"current_socket_power": 620, "average_socket_power": 0xFFFF}
ENERGY = {"energy_accumulator": 1_000_000, "counter_resolution": 15.3}


@pytest.mark.parametrize(
    ("power", "energy", "power_w", "energy_j"),
    [
        (POWER, ENERGY, 620.0, 15.3),
        ({"current_socket_power": "N/A", "average_socket_power": 300}, ENERGY, 300.0, 15.3),
        ({"socket_power": "N/A"}, {"power": 2_000_000, "counter_resolution": 15.3}, None, 30.6),
        (POWER, {"energy_accumulator": "N/A", "counter_resolution": 15.3}, 620.0, None),
    ],
)
def test_power_and_energy_are_read_in_watts_and_joules(
    power: dict[str, Any],
    energy: dict[str, Any],
    power_w: float | None,
    energy_j: float | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", FakeSmi(power, energy, gpus=2))
    source = AmdSmi()
    assert source.open().status is Status.AVAILABLE
    readings = source.read()
    assert [r.device for r in readings] == ["gpu-0", "gpu-1"]
    assert [r.power_w for r in readings] == [power_w] * 2
    assert [r.energy_j for r in readings] == pytest.approx([energy_j] * 2)


@pytest.mark.parametrize(
    ("smi", "status"),
    [
        (FakeSmi(POWER, ENERGY, fails=10), Status.NO_PERMISSION),
        (FakeSmi(POWER, ENERGY, fails=2), Status.UNSUPPORTED),
        (FakeSmi(POWER, ENERGY, gpus=0), Status.UNAVAILABLE),
        (FakeSmi({}, {}), Status.UNSUPPORTED),
    ],
)
def test_each_way_of_having_no_number_is_its_own(smi: FakeSmi, status: Status, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", smi)
    found = AmdSmi().open()
    assert found.status is status
    assert found.detail
    assert not smi.is_open


def test_without_rocm_it_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amdsmi", None)
    found = AmdSmi().open()
    assert found.status is Status.UNAVAILABLE
    assert found.detail == "the amdsmi package is not installed: needed only with AMD GPUs, it comes with ROCm"


def test_a_gpu_that_stops_answering_is_a_failed_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    smi = FakeSmi(POWER, ENERGY)
    monkeypatch.setitem(sys.modules, "amdsmi", smi)
    source = AmdSmi()
    source.open()
    smi.fails = 2
    with pytest.raises(ReadFailedError, match="stopped answering"):
        source.read()
