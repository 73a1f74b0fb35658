from __future__ import annotations

import pytest

from fleetbench.judge.drift import drifted


@pytest.mark.parametrize(
    ("ratios", "out", "change_pct"),
    [
        ([], False, None),
        ([1.0, 1.05, 0.96], False, 5),
        ([0.9, 1.1], False, 10),
        ([1.0, 0.89], True, -11),
        ([1.5, 0.7, 1.0], True, 50),
    ],
)
def test_a_run_drifted_where_any_control_is_over_ten_percent_off(
    ratios: list[float], *, out: bool, change_pct: float | None
) -> None:
    found = drifted(ratios)
    assert found.drifted is out
    assert found.change_pct == (None if change_pct is None else pytest.approx(change_pct))
