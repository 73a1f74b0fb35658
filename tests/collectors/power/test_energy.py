from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.power.common import Status
from fleetbench_collectors.power.energy import window_energy

S = 1_000_000_000


def reading(at_s: float, device: str = "GPU-0", source: str = "nvml", **values: float) -> dict[str, Any]:
    return {
        "source": source,
        "status": "available",
        "detail": None,
        "device": device,
        "at_ns": round(at_s * S),
        "power_w": values.get("power_w"),
        "energy_j": values.get("energy_j"),
    }


def without(source: str, status: str, detail: str = "why") -> dict[str, Any]:
    return {"source": source, "status": status, "detail": detail}


def counter(watts: float, seconds: int, **kwargs: Any) -> list[dict[str, Any]]:
    return [reading(t / 10, energy_j=1000 + watts * t / 10, **kwargs) for t in range(seconds * 10 + 1)]


@given(watts=st.floats(1, 1000), start=st.floats(0, 4), length=st.floats(1, 5))
def test_a_steady_counter_gives_its_watts_over_any_window(watts: float, start: float, length: float) -> None:
    found = window_energy(counter(watts, 10), round(start * S), round((start + length) * S))
    assert found.power_mean_w == pytest.approx(watts, rel=1e-6)
    assert found.energy_j == pytest.approx(watts * length, rel=1e-6)
    assert found.status is Status.AVAILABLE


def test_the_counter_wins_over_the_power() -> None:
    rows = [row | {"power_w": 999.0} for row in counter(100, 10)]
    assert window_energy(rows, S, 9 * S).power_mean_w == pytest.approx(100)


@pytest.mark.parametrize("energies", [[None] * 5, [7.0] * 5, [7.0, 7.0, 9.0, 9.0, 9.0], [9.0, 8.0, 9.0, 10.0, 11.0]])
def test_a_counter_that_stands_or_runs_back_gives_way_to_the_power(energies: list[float | None]) -> None:
    rows = [reading(t, power_w=100.0 + 20 * t) | {"energy_j": e} for t, e in enumerate(energies)]
    found = window_energy(rows, S // 2, 7 * S // 2)
    assert found.energy_j == pytest.approx(3 * 140)
    assert found.power_mean_w == pytest.approx(140)


def test_devices_add_up() -> None:
    rows = counter(100, 5) + counter(50, 5, device="GPU-1")
    assert window_energy(rows, S, 4 * S).energy_j == pytest.approx(450)


def test_one_device_without_readings_leaves_no_number() -> None:
    rows = [*counter(100, 5), reading(1, device="GPU-1", power_w=50)]
    found = window_energy(rows, S, 4 * S)
    assert (found.energy_j, found.power_mean_w) == (None, None)
    assert found.detail == "nvml GPU-1 has no readings that cover the window"


@pytest.mark.parametrize(("start_s", "end_s"), [(-1, 4), (1, 6)])
def test_readings_must_reach_both_ends(start_s: int, end_s: int) -> None:
    assert window_energy(counter(100, 5), start_s * S, end_s * S).energy_j is None


def test_the_cpu_counts_where_there_is_no_accelerator() -> None:
    rows = [without("nvml", "unavailable"), *counter(60, 5, source="rapl", device="package-0")]
    found = window_energy(rows, S, 4 * S)
    assert found.energy_j == pytest.approx(180)
    assert found.status is Status.AVAILABLE


def test_the_cpu_never_stands_for_an_accelerator() -> None:
    both = counter(300, 5) + counter(60, 5, source="rapl", device="package-0")
    assert window_energy(both, S, 4 * S).power_mean_w == pytest.approx(300)
    hidden = [without("nvml", "no_permission", "ask"), *counter(60, 5, source="rapl", device="package-0")]
    found = window_energy(hidden, S, 4 * S)
    assert (found.energy_j, found.status, found.detail) == (None, Status.NO_PERMISSION, "ask")


def test_nothing_to_read_is_null_with_every_reason() -> None:
    rows = [without("amd", "unavailable", "no amd"), without("nvml", "unavailable", "no nvidia")]
    found = window_energy([*rows, without("rapl", "unsupported", "no counter")], 0, S)
    assert (found.energy_j, found.power_mean_w, found.status) == (None, None, Status.UNSUPPORTED)
    assert window_energy(rows, 0, S).detail == "no amd; no nvidia"
    assert window_energy([], 0, S).status is Status.UNAVAILABLE


def test_a_window_without_length_is_an_error() -> None:
    with pytest.raises(ValueError, match="not after its start"):
        window_energy([], S, S)
