"""What NVML says about the GPUs that does not change during a trial."""

from __future__ import annotations

import pynvml

from fleetbench_collectors.power.nvml import said


def gpu_facts() -> dict[str, str | None]:
    """`gpu.driver` and, for each GPU, `gpu.N.name` and the like; nothing where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    try:
        out: dict[str, str | None] = {"gpu.driver": said(pynvml.nvmlSystemGetDriverVersion)}
        for index in range(pynvml.nvmlDeviceGetCount()):
            out |= {f"gpu.{index}.{name}": value for name, value in _facts(index).items()}
    except pynvml.NVMLError as error:
        return {"gpu.error": str(error)}
    finally:
        pynvml.nvmlShutdown()
    return out


def _facts(index: int) -> dict[str, str | None]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    memory = said(pynvml.nvmlDeviceGetMemoryInfo, handle)
    limit_mw = said(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    ecc = said(pynvml.nvmlDeviceGetEccMode, handle)
    return {
        "name": said(pynvml.nvmlDeviceGetName, handle),
        "uuid": said(pynvml.nvmlDeviceGetUUID, handle),
        "memory_bytes": None if memory is None else str(memory.total),
        "max_sm_clock_mhz": _text(said(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_SM)),
        "max_memory_clock_mhz": _text(said(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_MEM)),
        "power_limit_w": None if limit_mw is None else f"{limit_mw / 1e3:g}",
        "ecc": None if ecc is None else ("on" if ecc[0] else "off"),
    }


def _text(value: int | None) -> str | None:
    return None if value is None else str(value)
