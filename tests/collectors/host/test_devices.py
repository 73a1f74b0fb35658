from __future__ import annotations

import json
import os
import subprocess
import sys
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fleetbench_collectors.host import devices
from fleetbench_collectors.host.devices import Found, HostDevice
from tests import fake_nvml

FIND = """
import json
from dataclasses import asdict
from fleetbench_collectors.host.devices import find
print(json.dumps(asdict(find())))
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_nvml.build(tmp_path_factory.mktemp("nvml"))


def found(library: Path, **script: str) -> Any:
    """What is found by the real pynvml over a library of ours."""
    env = os.environ | {"LD_LIBRARY_PATH": str(library)} | script
    done = subprocess.run([sys.executable, "-c", FIND], env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.tool
def test_gpus_of_nvidia_are_found_with_what_is_in_use_beyond_the_drivers_reserve(library: Path) -> None:
    assert found(library, FAKE_NVML_NAME="NVIDIA H100 80GB HBM3", FAKE_NVML_USED="3000000000") == {
        "driver": "999.1",
        "problem": None,
        "devices": [
            {
                "index": index,
                "name": "NVIDIA H100 80GB HBM3",
                "uuid": f"GPU-{index}",
                "memory_bytes": 80 << 30,
                "used_bytes": used,
            }
            for index, used in enumerate((0, 3_000_000_000))
        ],
    }


@pytest.mark.tool
def test_an_older_driver_says_memory_in_its_older_way_and_one_that_says_none_leaves_it_open(library: Path) -> None:
    older = found(library, FAKE_NVML_FAIL="nvmlDeviceGetMemoryInfo_v2=13", FAKE_NVML_GPUS="1")["devices"][0]
    assert (older["memory_bytes"], older["used_bytes"]) == (80, 40)
    silent = found(library, FAKE_NVML_FAIL="nvmlDeviceGetMemoryInfo=3,nvmlDeviceGetMemoryInfo_v2=3,nvmlDeviceGetUUID=3")
    assert silent["problem"] is None
    assert {(gpu["uuid"], gpu["memory_bytes"], gpu["used_bytes"]) for gpu in silent["devices"]} == {(None, None, None)}


@pytest.mark.tool
@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("nvmlInitWithFlags=9", None),  # no driver
        ("nvmlInitWithFlags=4", "give the user access to /dev/nvidia*"),
        ("nvmlInitWithFlags=18", "check that nvidia-smi works"),  # library and driver differ
        ("nvmlDeviceGetHandleByIndex_v2=15", "check that nvidia-smi works"),  # fell off the bus
    ],
)
def test_gpus_that_cannot_be_read_are_a_problem_and_none_at_all_is_not(
    script: str, problem: str | None, library: Path
) -> None:
    said = found(library, FAKE_NVML_FAIL=script)
    assert said["devices"] == []
    assert (said["problem"] is None) if problem is None else (problem in said["problem"])


class SmiError(Exception):
    """As AmdSmiException: carries the library's code."""

    def __init__(self, code: int) -> None:
        super().__init__(f"Error code:\n\t{code} | of the library")
        self.err_code = code


class MemoryType(Enum):
    VRAM = 0


class FakeSmi(ModuleType):
    """The part of amdsmi's Python interface that is asked; what it has no words for is an exception of its own."""

    AmdSmiException = SmiError
    AmdSmiMemoryType = MemoryType

    def __init__(self, *, starts: int = 0, names: tuple[str, ...] = (), silent: bool = False) -> None:
        super().__init__("amdsmi")
        self.starts, self.names, self.silent = starts, names, silent
        self.is_open = False

    def amdsmi_init(self) -> None:
        if self.starts:
            raise SmiError(self.starts)
        self.is_open = True

    def amdsmi_shut_down(self) -> None:
        self.is_open = False

    def amdsmi_get_processor_handles(self) -> list[int]:
        return list(range(len(self.names)))

    def amdsmi_get_gpu_driver_info(self, _: int) -> dict[str, str]:
        return {"driver_name": "amdgpu", "driver_version": "6.14.14"}

    def amdsmi_get_gpu_asic_info(self, handle: int) -> dict[str, str]:
        if self.names[handle] == "lost":
            raise SmiError(40)
        return {"market_name": self.names[handle]}

    def amdsmi_get_gpu_device_uuid(self, handle: int) -> str:
        return f"uuid-{handle}"

    def amdsmi_get_gpu_memory_total(self, _: int, kind: MemoryType) -> int:
        assert kind is MemoryType.VRAM
        return 206_141_652_992

    def amdsmi_get_gpu_memory_usage(self, _: int, kind: MemoryType) -> int:
        assert kind is MemoryType.VRAM
        if self.silent:
            raise SmiError(2)
        return 297_771_008


def by_amd(smi: FakeSmi | None, monkeypatch: pytest.MonkeyPatch) -> Found:
    monkeypatch.setitem(sys.modules, "amdsmi", smi)
    said = devices._by_amd_smi()
    assert smi is None or not smi.is_open
    return said


def test_gpus_of_amd_are_found_by_their_market_name(monkeypatch: pytest.MonkeyPatch) -> None:
    one = HostDevice(
        index=0,
        name="AMD Instinct MI300X",
        uuid="uuid-0",
        memory_bytes=206_141_652_992,
        used_bytes=297_771_008,
    )
    said = by_amd(FakeSmi(names=("AMD Instinct MI300X",)), monkeypatch)
    assert said == Found(devices=(one,), driver="6.14.14")


def test_what_an_amd_gpu_does_not_say_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    (device,) = by_amd(FakeSmi(names=("N/A",), silent=True), monkeypatch).devices
    assert (device.name, device.used_bytes) == ("an AMD GPU without a name", None)


@pytest.mark.parametrize(
    ("smi", "problem"),
    [
        (None, None),
        (FakeSmi(starts=34), None),  # the package without a driver
        (FakeSmi(), None),
        (FakeSmi(starts=10), "groups video and render"),
        (FakeSmi(names=("lost",)), "check that rocm-smi works"),
    ],
)
def test_amd_gpus_that_cannot_be_read_are_a_problem_and_none_at_all_is_not(
    smi: FakeSmi | None, problem: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = by_amd(smi, monkeypatch)
    assert said.devices == ()
    assert (said.problem is None) if problem is None else (problem in str(said.problem))
    assert "\n" not in str(said.problem)
