"""NVIDIA GPUs by NVML."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pynvml

from fleetbench_collectors.power.common import Availability, ReadFailedError, Reading, Status

_ABSENT = (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
_UNSAID = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
)
_THROTTLES = {
    "sw_power_cap": pynvml.nvmlClocksEventReasonSwPowerCap,
    "hw_slowdown": pynvml.nvmlClocksEventReasonHwSlowdown,
    "sync_boost": pynvml.nvmlClocksEventReasonSyncBoost,
    "sw_thermal_slowdown": pynvml.nvmlClocksEventReasonSwThermalSlowdown,
    "hw_thermal_slowdown": pynvml.nvmlClocksEventReasonHwThermalSlowdown,
    "hw_power_brake_slowdown": pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gpu:
    uuid: str
    handle: Any


class Nvml:
    """Instant power (field 186; the older call is a 1 s average), and the energy counter since driver load."""

    name = "nvml"

    def __init__(self) -> None:
        self._gpus: list[_Gpu] = []
        self._open = False

    def open(self) -> Availability:
        try:
            pynvml.nvmlInit()
            self._open = True
            handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
            self._gpus = [_Gpu(uuid=pynvml.nvmlDeviceGetUUID(handle), handle=handle) for handle in handles]
            first = [_draw(gpu) for gpu in self._gpus]
        except pynvml.NVMLError as error:
            self.close()
            return _why_not(error)
        if not first:
            self.close()
            return Availability(
                status=Status.UNAVAILABLE, detail="the NVIDIA driver sees no GPU: check that nvidia-smi lists one"
            )
        if any(power_w is None and energy_j is None for power_w, energy_j in first):
            self.close()
            return Availability(
                status=Status.UNSUPPORTED,
                detail="an NVIDIA GPU reports neither power nor energy: its energy stays missing",
            )
        return Availability(status=Status.AVAILABLE)

    def read(self) -> list[Reading]:
        try:
            return [_reading(gpu) for gpu in self._gpus]
        except pynvml.NVMLError as error:
            raise ReadFailedError(f"NVML stopped answering: {error}") from error

    def close(self) -> None:
        self._gpus = []
        if self._open:
            self._open = False
            pynvml.nvmlShutdown()


def _why_not(error: pynvml.NVMLError) -> Availability:
    if error.value in _ABSENT:
        return Availability(
            status=Status.UNAVAILABLE,
            detail="the NVIDIA driver is not loaded: needed only with NVIDIA GPUs, install it or load it",
        )
    if error.value == pynvml.NVML_ERROR_NO_PERMISSION:
        return Availability(status=Status.NO_PERMISSION, detail=f"NVML: {error}; give the user access to /dev/nvidia*")
    return Availability(status=Status.UNSUPPORTED, detail=f"NVML: {error}; check that nvidia-smi works")


def said(ask: Callable[..., Any], *args: Any) -> Any:
    """What the device says, or None where it does not know; other errors are raised."""
    try:
        return ask(*args)
    except pynvml.NVMLError as error:
        if error.value in _UNSAID:
            return None
        raise


def _draw(gpu: _Gpu) -> tuple[float | None, float | None]:
    """Power in W and the counter in J."""
    energy_mj = said(pynvml.nvmlDeviceGetTotalEnergyConsumption, gpu.handle)
    return _power_w(gpu), None if energy_mj is None else energy_mj / 1e3


def _power_w(gpu: _Gpu) -> float | None:
    fields = said(pynvml.nvmlDeviceGetFieldValues, gpu.handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])
    if (
        fields
        and fields[0].nvmlReturn == pynvml.NVML_SUCCESS
        and fields[0].valueType == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    ):
        return float(fields[0].value.uiVal) / 1e3
    power_mw = said(pynvml.nvmlDeviceGetPowerUsage, gpu.handle)
    return None if power_mw is None else power_mw / 1e3


def _reading(gpu: _Gpu) -> Reading:
    power_w, energy_j = _draw(gpu)
    at_ns = time.monotonic_ns()
    reasons = said(pynvml.nvmlDeviceGetCurrentClocksEventReasons, gpu.handle)
    return Reading(
        device=gpu.uuid,
        at_ns=at_ns,
        power_w=power_w,
        energy_j=energy_j,
        temperature_c=said(pynvml.nvmlDeviceGetTemperature, gpu.handle, pynvml.NVML_TEMPERATURE_GPU),
        clock_mhz=said(pynvml.nvmlDeviceGetClockInfo, gpu.handle, pynvml.NVML_CLOCK_SM),
        throttle=None if reasons is None else ",".join(name for name, bit in _THROTTLES.items() if reasons & bit),
    )
