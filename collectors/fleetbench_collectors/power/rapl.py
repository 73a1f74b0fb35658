"""Intel and AMD CPUs by Linux powercap: energy counters of packages and of memory."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from fleetbench_collectors.power.common import Availability, ReadFailedError, Reading, Status

ROOT = Path("/sys/class/powercap")
_REMEDY = "let the user read {path} (root: chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj)"


@dataclass(slots=True, kw_only=True)
class _Domain:
    device: str
    path: Path
    range_uj: int
    last_uj: int
    total_uj: int


def advance_uj(last_uj: int, now_uj: int, range_uj: int) -> int:
    """What was used between two readings of a counter that starts again after `range_uj`.

    One wrap is seen, two look like one: a package of 200 W wraps 262 kJ in 20 minutes, readings are 0.1 s apart.
    """
    return now_uj - last_uj if now_uj >= last_uj else now_uj + range_uj - last_uj


class Rapl:
    """Packages and their DRAM: cores and uncore are parts of a package, psys holds packages; both would count twice."""

    name = "rapl"

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._domains: list[_Domain] = []

    def open(self) -> Availability:
        self._domains = []
        places = sorted(self._root.glob("intel-rapl:*"))
        if not places:
            return Availability(
                status=Status.UNAVAILABLE,
                detail=f"no CPU energy counter under {self._root}: virtual machines have none, use bare metal",
            )
        for place in places:
            try:
                label = (place / "name").read_text().strip()
                if not label.startswith(("package", "dram")):
                    continue
                range_uj = int((place / "max_energy_range_uj").read_text())
                now_uj = int((place / "energy_uj").read_text())
            except PermissionError as error:
                self._domains = []
                remedy = _REMEDY.format(path=error.filename)
                return Availability(status=Status.NO_PERMISSION, detail=remedy)
            except (OSError, ValueError) as error:
                self._domains = []
                return Availability(
                    status=Status.UNSUPPORTED,
                    detail=f"{place} cannot be read ({error}): load the kernel module intel_rapl_common anew",
                )
            device = f"{place.name}/{label}"
            self._domains.append(
                _Domain(device=device, path=place / "energy_uj", range_uj=range_uj, last_uj=now_uj, total_uj=0)
            )
        if not self._domains:
            return Availability(
                status=Status.UNSUPPORTED,
                detail=f"the CPU has no energy counter of its package under {self._root}: CPU energy stays missing",
            )
        return Availability(status=Status.AVAILABLE)

    def read(self) -> list[Reading]:
        return [self._read(domain) for domain in self._domains]

    def _read(self, domain: _Domain) -> Reading:
        try:
            now_uj = int(domain.path.read_text())
        except (OSError, ValueError) as error:
            raise ReadFailedError(f"{domain.path} cannot be read: {error}") from error
        at_ns = time.monotonic_ns()
        domain.total_uj += advance_uj(domain.last_uj, now_uj, domain.range_uj)
        domain.last_uj = now_uj
        return Reading(device=domain.device, at_ns=at_ns, energy_j=domain.total_uj / 1e6)

    def close(self) -> None:
        self._domains = []
