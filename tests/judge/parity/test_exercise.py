"""The exercise of the README: a reference of 78.2 and 78.6, a candidate of 76.8; what the gate says of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fleetbench.judge.parity.paired import Pairs
from fleetbench.judge.parity.verdict import Judged, judge

README = Path(__file__).parents[3] / "fleetbench/judge/parity/README.md"
DROP = (0.782 + 0.786) / 2 - 0.768
ROWS = re.findall(
    r"^\| ([\d,]+) \| (\d+) % \| ([-\d.]+) to ([-\d.]+) \| (\w+) \| (\w+) \| (\w+) \|$",
    README.read_text(encoding="utf-8"),
    flags=re.MULTILINE,
)


def judged(n: int, churn: float, margin: float) -> Judged:
    pairs = Pairs(n=n, lost=n * (churn + DROP) / 2, gained=n * (churn - DROP) / 2, clusters=n, effect=1.0)
    return judge({"all": pairs}, {"all": margin})["all"]


def test_the_readme_has_the_exercise() -> None:
    assert len(ROWS) == 5


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} items, {row[1]} %")
def test_the_readme_says_what_the_gate_says(row: tuple[str, ...]) -> None:
    n, churn, low, high, *verdicts = row
    found = [judged(int(n.replace(",", "")), int(churn) / 100, margin) for margin in (0.01, 0.02, 0.03)]
    assert [str(one.verdict) for one in found] == verdicts
    assert (f"{100 * found[0].low:.1f}", f"{100 * found[0].high:.1f}") == (low, high)
