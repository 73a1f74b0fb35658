"""AMD GPUs by AMD SMI; its Python module comes with ROCm, not with this package."""

from __future__ import annotations

import importlib
import time
from dataclasses import dataclass
from typing import Any

from fleetbench_collectors.power.common import Availability, ReadFailedError, Reading, Status

_UNSAID = (None, "N/A", 0xFFFF, 0xFFFFFFFF)
NO_PERMISSION = 10  # AMDSMI_STATUS_NO_PERM


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gpu:
    uuid: str
    handle: Any


class AmdSmi:
    """Socket power, and the energy accumulator times its resolution (15.3 uJ a tick on MI200 and MI300)."""

    name = "amd"

    def __init__(self) -> None:
        self._smi: Any = None
        self._gpus: list[_Gpu] = []

    def open(self) -> Availability:
        try:
            smi = importlib.import_module("amdsmi")
        except ModuleNotFoundError:
            detail = "the amdsmi package is not installed: needed only with AMD GPUs, it comes with ROCm"
            return Availability(status=Status.UNAVAILABLE, detail=detail)
        except (ImportError, OSError, KeyError, AttributeError) as error:  # it resolves symbols at import
            detail = f"the amdsmi package does not load ({error!r}): needed only with AMD GPUs, install ROCm anew"
            return Availability(status=Status.UNAVAILABLE, detail=detail)
        try:
            smi.amdsmi_init()
            self._smi = smi
            handles = smi.amdsmi_get_processor_handles()
            self._gpus = [_Gpu(uuid=smi.amdsmi_get_gpu_device_uuid(handle), handle=handle) for handle in handles]
            first = self._readings()
        except smi.AmdSmiException as error:
            self.close()
            forbidden = getattr(error, "err_code", None) == NO_PERMISSION
            status = Status.NO_PERMISSION if forbidden else Status.UNSUPPORTED
            remedy = "add the user to the groups video and render" if forbidden else "check that rocm-smi works"
            return Availability(status=status, detail=f"AMD SMI: {error}; {remedy}")
        if not first:
            self.close()
            return Availability(
                status=Status.UNAVAILABLE, detail="AMD SMI sees no AMD GPU: check that rocm-smi lists one"
            )
        if any(reading.power_w is None and reading.energy_j is None for reading in first):
            self.close()
            return Availability(
                status=Status.UNSUPPORTED,
                detail="an AMD GPU reports neither power nor energy: its energy stays missing",
            )
        return Availability(status=Status.AVAILABLE)

    def read(self) -> list[Reading]:
        try:
            return self._readings()
        except self._smi.AmdSmiException as error:
            raise ReadFailedError(f"AMD SMI stopped answering: {error}") from error

    def _readings(self) -> list[Reading]:
        return [self._reading(gpu) for gpu in self._gpus]

    def _reading(self, gpu: _Gpu) -> Reading:
        power = self._smi.amdsmi_get_power_info(gpu.handle)
        energy = self._smi.amdsmi_get_energy_count(gpu.handle)
        return Reading(
            device=gpu.uuid,
            at_ns=time.monotonic_ns(),
            power_w=_first_number(power, "current_socket_power", "socket_power", "average_socket_power"),
            energy_j=_energy_j(energy),
        )

    def close(self) -> None:
        self._gpus = []
        if self._smi is not None:
            self._smi.amdsmi_shut_down()
            self._smi = None


def _first_number(said: dict[str, Any], *names: str) -> float | None:
    """The first of these that is a number; generations fill different ones."""
    found = (said.get(name) for name in names)
    return next((float(value) for value in found if value not in _UNSAID), None)


def _energy_j(said: dict[str, Any]) -> float | None:
    ticks = _first_number(said, "energy_accumulator", "power")
    resolution_uj = _first_number(said, "counter_resolution")
    return None if ticks is None or resolution_uj is None else ticks * resolution_uj / 1e6
