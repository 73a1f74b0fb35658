"""The energy of a window, from rows of `tables.POWER`."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from fleetbench_collectors.power.common import Status, best_word

CPU_SOURCES = frozenset({"rapl"})
_MIN_STEPS = 2

Points = list[tuple[int, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyResult:
    """`detail` says why there is no number; without a number both are None."""

    energy_j: float | None
    power_mean_w: float | None
    status: Status
    detail: str | None = None


def window_energy(rows: Sequence[Mapping[str, Any]], start_ns: int, end_ns: int) -> EnergyResult:
    """Energy and mean power of all devices between two instants.

    Accelerators count where the machine has any; the CPU's counters only where it has none, so that a sum never
    mixes them. A device's counter is used where it advanced at least twice in the window, with linear
    interpolation at both ends; else the trapezoid of its power. It is the devices' own figure, gross, not wall power.

    Args:
        rows: of one trial; a source that ended early has a row that says so, and then there is no number.
        start_ns: monotonic; the readings must reach back to it.
        end_ns: monotonic, after start_ns; the readings must reach it.

    Returns:
        J and W; None, never 0, where any of the devices has no usable readings.

    Raises:
        ValueError: an empty or reversed window.

    Source: NVML and AMD SMI counters, Linux powercap; on A100 and H100 power is sampled a quarter of the time
    (arXiv 2312.02741), so windows under 10 s are rough.
    """
    if end_ns <= start_ns:
        raise ValueError(f"the window ends at {end_ns} ns, not after its start at {start_ns} ns")
    chosen = _chosen(rows)
    status = best_word([Status(row["status"]) for row in chosen])
    by_device: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in chosen:
        if row["status"] == Status.AVAILABLE:
            by_device.setdefault((row["source"], row["device"]), []).append(row)
    if not by_device:
        detail = "; ".join(row["detail"] for row in chosen if row.get("detail")) or "no power source was read"
        return EnergyResult(energy_j=None, power_mean_w=None, status=status, detail=detail)
    total_j = 0.0
    for (source, device), readings in by_device.items():
        used_j = _device_energy_j(readings, start_ns, end_ns)
        if used_j is None:
            detail = f"{source} {device} has no readings that cover the window"
            return EnergyResult(energy_j=None, power_mean_w=None, status=status, detail=detail)
        total_j += used_j
    return EnergyResult(energy_j=total_j, power_mean_w=total_j / ((end_ns - start_ns) / 1e9), status=status)


def _chosen(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The accelerators' rows where there is an accelerator, readable or not, else the CPU's."""
    accelerators = [row for row in rows if row["source"] not in CPU_SOURCES]
    present = [row for row in accelerators if row["status"] != Status.UNAVAILABLE]
    cpu = [row for row in rows if row["source"] in CPU_SOURCES]
    return present or cpu or accelerators


def _device_energy_j(readings: Sequence[Mapping[str, Any]], start_ns: int, end_ns: int) -> float | None:
    counter = _between(_points(readings, "energy_j"), start_ns, end_ns)
    read = [later - earlier for (_, earlier), (_, later) in pairwise(counter[1:-1])]
    if sum(step > 0 for step in read) >= _MIN_STEPS and all(
        later >= earlier for (_, earlier), (_, later) in pairwise(counter)
    ):
        return counter[-1][1] - counter[0][1]
    power = _between(_points(readings, "power_w"), start_ns, end_ns)
    if not power:
        return None
    return sum(
        (later_ns - earlier_ns) / 1e9 * (earlier_w + later_w) / 2
        for (earlier_ns, earlier_w), (later_ns, later_w) in pairwise(power)
    )


def _points(readings: Sequence[Mapping[str, Any]], column: str) -> Points:
    return sorted((row["at_ns"], row[column]) for row in readings if row.get(column) is not None)


def _between(points: Points, start_ns: int, end_ns: int) -> Points:
    """The points inside the window with interpolated ones on its ends; none where they do not reach both ends."""
    if not points or points[0][0] > start_ns or points[-1][0] < end_ns:
        return []
    inside = [point for point in points if start_ns < point[0] < end_ns]
    return [(start_ns, _at(points, start_ns)), *inside, (end_ns, _at(points, end_ns))]


def _at(points: Points, at_ns: int) -> float:
    after = bisect_left(points, at_ns, key=lambda point: point[0])
    (right_ns, right) = points[after]
    if right_ns == at_ns:
        return right
    (left_ns, left) = points[after - 1]
    return left + (right - left) * (at_ns - left_ns) / (right_ns - left_ns)
