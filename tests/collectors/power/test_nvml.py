from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import fake_nvml

pytestmark = pytest.mark.tool

READ = """
import json
from dataclasses import asdict
from fleetbench_collectors.host.gpus import gpu_facts
from fleetbench_collectors.power.nvml import Nvml
source = Nvml()
found = source.open()
readings = [[asdict(r) for r in source.read()] for _ in range(2)]
source.close()
print(json.dumps({"status": found.status, "detail": found.detail, "readings": readings, "facts": gpu_facts()}))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(tmp_path_factory.mktemp("nvml"))


def nvml(library: Path, **script: str) -> Any:
    """What the real pynvml reads from the stand-in."""
    env = os.environ | {"LD_LIBRARY_PATH": str(library)} | script
    done = subprocess.run([sys.executable, "-c", READ], env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def test_every_gpu_is_read_in_watts_joules_and_degrees(library: Path) -> None:
    found = nvml(library)
    assert found["status"] == "available"
    first, second = found["readings"][0]
    assert first | {"at_ns": 0} == {
        "device": "GPU-0",
        "at_ns": 0,
        "power_w": 350.0,
        "energy_j": 10.0,
        "temperature_c": 55,
        "clock_mhz": 1980,
        "throttle": "sw_power_cap,hw_thermal_slowdown",
    }
    assert (second["device"], second["power_w"]) == ("GPU-1", 360.0)
    later = found["readings"][1][0]
    assert later["energy_j"] == 15.0
    assert later["at_ns"] > first["at_ns"]


def test_without_instant_power_the_average_is_read(library: Path) -> None:
    found = nvml(library, FAKE_NVML_FAIL="nvmlDeviceGetFieldValues=3")
    assert found["readings"][0][0]["power_w"] == 351.0


@pytest.mark.parametrize(
    ("symbol", "column"),
    [
        ("nvmlDeviceGetTotalEnergyConsumption", "energy_j"),
        ("nvmlDeviceGetTemperature", "temperature_c"),
        ("nvmlDeviceGetClockInfo", "clock_mhz"),
        ("nvmlDeviceGetCurrentClocksEventReasons", "throttle"),
    ],
)
def test_what_a_gpu_does_not_say_is_null(symbol: str, column: str, library: Path) -> None:
    found = nvml(library, FAKE_NVML_FAIL=f"{symbol}=3")
    assert found["status"] == "available"
    reading = found["readings"][0][0]
    assert reading[column] is None
    assert reading["power_w"] == 350.0


@pytest.mark.parametrize(
    ("script", "status", "said"),
    [
        ({"FAKE_NVML_FAIL": "nvmlInitWithFlags=9"}, "unavailable", "the NVIDIA driver is not loaded: needed only"),
        ({"FAKE_NVML_FAIL": "nvmlInitWithFlags=4"}, "no_permission", "give the user access"),
        ({"FAKE_NVML_FAIL": "nvmlInitWithFlags=999"}, "unsupported", "NVML"),
        ({"FAKE_NVML_GPUS": "0"}, "unavailable", "no GPU"),
        (
            {
                "FAKE_NVML_FAIL": "nvmlDeviceGetTotalEnergyConsumption=3,nvmlDeviceGetPowerUsage=3,"
                "nvmlDeviceGetFieldValues=3"
            },
            "unsupported",
            "neither power nor energy",
        ),
    ],
)
def test_each_way_of_having_no_number_is_its_own(script: dict[str, str], status: str, said: str, library: Path) -> None:
    found = nvml(library, **script)
    assert (found["status"], found["readings"]) == (status, [[], []])
    assert said in found["detail"]


def test_a_gpu_tells_what_it_is(library: Path) -> None:
    facts = nvml(library, FAKE_NVML_GPUS="1", FAKE_NVML_FAIL="nvmlDeviceGetEccMode=3")["facts"]
    assert facts == {
        "gpu.driver": "999.1",
        "gpu.0.name": "H100 (fake)",
        "gpu.0.uuid": "GPU-0",
        "gpu.0.memory_bytes": "80",
        "gpu.0.max_sm_clock_mhz": "1981",
        "gpu.0.max_memory_clock_mhz": "2620",
        "gpu.0.power_limit_w": "700",
        "gpu.0.ecc": None,
    }


def test_without_the_library_nvml_is_absent(tmp_path: Path) -> None:
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"no library")
    found = nvml(tmp_path)
    assert found["status"] == "unavailable"
    assert found["facts"] == {}
