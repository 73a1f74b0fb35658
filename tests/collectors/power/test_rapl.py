from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench_collectors.power.common import ReadFailedError, Status
from fleetbench_collectors.power.rapl import Rapl, advance_uj

RANGE_UJ = 262_143_328_850


def domain(root: Path, name: str, label: str, energy_uj: int) -> Path:
    """A powercap domain as the kernel lays it out."""
    place = root / name
    place.mkdir(parents=True)
    (place / "name").write_text(f"{label}\n")
    (place / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    (place / "energy_uj").write_text(f"{energy_uj}\n")
    return place


def test_packages_and_memory_are_read_and_their_parts_are_not(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "package-0", 5)
    domain(tmp_path, "intel-rapl:0:0", "core", 3)
    domain(tmp_path, "intel-rapl:0:1", "dram", 2)
    domain(tmp_path, "intel-rapl:1", "psys", 9)
    domain(tmp_path, "intel-rapl-mmio:0", "package-0", 5)
    source = Rapl(tmp_path)
    assert source.open().status is Status.AVAILABLE
    assert [r.device for r in source.read()] == ["intel-rapl:0/package-0", "intel-rapl:0:1/dram"]


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    place = domain(tmp_path, "intel-rapl:0", "package-0", RANGE_UJ - 1_000_000)
    source = Rapl(tmp_path)
    source.open()
    (place / "energy_uj").write_text("2000000\n")
    assert source.read()[0].energy_j == pytest.approx(3.0)
    (place / "energy_uj").write_text("3000000\n")
    assert source.read()[0].energy_j == pytest.approx(4.0)


@given(start=st.integers(0, RANGE_UJ - 1), used=st.integers(0, RANGE_UJ - 1))
def test_what_was_used_is_found_across_a_wrap(start: int, used: int) -> None:
    assert advance_uj(start, (start + used) % RANGE_UJ, RANGE_UJ) == used


def test_no_powercap_is_absent(tmp_path: Path) -> None:
    assert Rapl(tmp_path / "missing").open().status is Status.UNAVAILABLE


def test_a_machine_without_a_package_is_unsupported(tmp_path: Path) -> None:
    domain(tmp_path, "intel-rapl:0", "psys", 1)
    assert Rapl(tmp_path).open().status is Status.UNSUPPORTED


def test_an_unreadable_counter_is_no_permission_and_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = domain(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj"
    real = Path.read_text

    def as_a_plain_user(path: Path) -> str:
        if path == place:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(Path, "read_text", as_a_plain_user)  # root, who runs the tests in CI, may read all
    found = Rapl(tmp_path).open()
    assert found.status is Status.NO_PERMISSION
    assert found.detail is not None
    assert str(place) in found.detail


def test_a_counter_that_is_no_number_is_unsupported(tmp_path: Path) -> None:
    (domain(tmp_path, "intel-rapl:0", "package-0", 1) / "energy_uj").write_text("what")
    assert Rapl(tmp_path).open().status is Status.UNSUPPORTED


def test_a_domain_that_goes_away_is_a_failed_reading(tmp_path: Path) -> None:
    place = domain(tmp_path, "intel-rapl:0", "package-0", 1)
    source = Rapl(tmp_path)
    source.open()
    (place / "energy_uj").unlink()
    with pytest.raises(ReadFailedError, match="cannot be read"):
        source.read()
