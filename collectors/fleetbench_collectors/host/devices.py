"""The GPUs that this machine has, by name, and how much of their memory is taken: by NVML, else by AMD SMI."""

from __future__ import annotations

import importlib
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pynvml

from fleetbench_collectors.power.amd import NO_PERMISSION
from fleetbench_collectors.power.nvml import said

_ABSENT = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_NOT_FOUND)
_UNSAID = (None, "", "N/A")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostDevice:
    """A GPU by its vendor's own words; bytes of its memory, taken by whatever runs, None where nobody says."""

    index: int
    name: str
    uuid: str | None
    memory_bytes: int | None
    used_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """devices: in the vendor's order; problem: why there may be some that could not be read, and the remedy."""

    devices: tuple[HostDevice, ...] = ()
    driver: str | None = None
    problem: str | None = None


def find() -> Found:
    """Those of NVIDIA where there are any, else those of AMD; a machine without GPUs has no problem."""
    nvidia = _by_nvml()
    if nvidia.devices:
        return nvidia
    amd = _by_amd_smi()
    return amd if amd.devices or nvidia.problem is None else nvidia


def _by_nvml() -> Found:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Found() if error.value in _ABSENT else Found(problem=_nvml_problem(error))
    driver: str | None = None
    try:
        driver = said(pynvml.nvmlSystemGetDriverVersion)
        devices = tuple(_by_index(index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError as error:  # one that fell off the bus hides the others
        return Found(driver=driver, problem=_nvml_problem(error))
    finally:
        pynvml.nvmlShutdown()
    return Found(devices=devices, driver=driver)


def _by_index(index: int) -> HostDevice:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    # The second version counts the driver's own reserve apart, which the first one has among what is used.
    memory = said(pynvml.nvmlDeviceGetMemoryInfo, handle, pynvml.nvmlMemory_v2)
    if memory is None:
        memory = said(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return HostDevice(
        index=index,
        name=pynvml.nvmlDeviceGetName(handle),
        uuid=said(pynvml.nvmlDeviceGetUUID, handle),
        memory_bytes=None if memory is None else int(memory.total),
        used_bytes=None if memory is None else int(memory.used),
    )


def _nvml_problem(error: pynvml.NVMLError) -> str:
    if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return f"NVML: {error}; give the user access to /dev/nvidia*"
    return f"NVML: {error}; check that nvidia-smi works"


def _by_amd_smi() -> Found:
    try:
        smi = importlib.import_module("amdsmi")
    except ModuleNotFoundError:
        return Found()
    except (ImportError, OSError, KeyError, AttributeError) as error:  # it resolves symbols at import
        return Found(problem=f"the amdsmi package does not load ({error!r}); install ROCm anew")
    try:
        smi.amdsmi_init()
    except smi.AmdSmiException as error:
        if getattr(error, "err_code", None) == NO_PERMISSION:
            return Found(problem=f"AMD SMI: {_line(error)}; add the user to the groups video and render")
        return Found()  # as it is on a machine without an AMD driver
    try:
        handles = smi.amdsmi_get_processor_handles()
        driver = _ask(smi, smi.amdsmi_get_gpu_driver_info, handles[0]) if handles else None
        devices = tuple(_by_handle(smi, index, handle) for index, handle in enumerate(handles))
    except smi.AmdSmiException as error:
        return Found(problem=f"AMD SMI: {_line(error)}; check that rocm-smi works")
    finally:
        with suppress(smi.AmdSmiException):
            smi.amdsmi_shut_down()
    return Found(devices=devices, driver=_text(driver, "driver_version"))


def _by_handle(smi: Any, index: int, handle: Any) -> HostDevice:
    name = _text(smi.amdsmi_get_gpu_asic_info(handle), "market_name")
    vram = smi.AmdSmiMemoryType.VRAM
    return HostDevice(
        index=index,
        name=name or "an AMD GPU without a name",
        uuid=_ask(smi, smi.amdsmi_get_gpu_device_uuid, handle),
        memory_bytes=_ask(smi, smi.amdsmi_get_gpu_memory_total, handle, vram),
        used_bytes=_ask(smi, smi.amdsmi_get_gpu_memory_usage, handle, vram),
    )


def _ask(smi: Any, question: Any, *args: Any) -> Any:
    """What the device says, or None where it does not."""
    try:
        answer = question(*args)
    except smi.AmdSmiException:
        return None
    return None if answer in _UNSAID else answer


def _text(told: Any, key: str) -> str | None:
    value = told.get(key) if isinstance(told, dict) else None
    return None if value in _UNSAID else str(value)


def _line(error: Exception) -> str:
    """What it says, which goes over several lines."""
    return " ".join(str(error).split())
