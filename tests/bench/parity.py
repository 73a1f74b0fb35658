"""How often two parity gates ship a candidate that is worse, and block one that is not: `make sim-parity`.

The naive rule runs the reference twice and lets a candidate pass whose accuracy is below the mean of both by no more
than three times their difference. The gate is that of fleetbench.judge.parity. Candidates are drawn by seed: a share of
the items (the churn) has another answer than the reference's first run, more of them lost than gained by the true drop.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np

from fleetbench.judge.parity.paired import Pairs
from fleetbench.judge.parity.power import Truth, draw, passing, power_at
from fleetbench.judge.parity.verdict import Verdict, judge

MARGIN = 0.02
SIZES = (200, 500, 1000, 2000, 5000)
CHURNS = (0.02, 0.03, 0.04, 0.06, 0.10)
JUDGED = 400
"""Candidates of each point that go through the whole gate, for its third word; each takes a bisection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Shares of candidates: shipped though the drop is the margin (false ships), not shipped though there is none.

    planned: the power that the planner says, by draws of its own; blocked: lossless ones that the gate calls BLOCK.
    """

    n: int
    churn: float
    naive_ships: float
    naive_blocks: float
    gate_ships: float
    gate_passes: float
    planned: float
    blocked: float


def simulate(n: int, churn: float, *, replicates: int, seed: int) -> Point:
    """One point of the grid."""
    generator = np.random.default_rng([seed, n, round(churn * 1e4)])
    worse = draw(Truth(churn=churn, drop=MARGIN), n, replicates, generator)
    same = draw(Truth(churn=churn), n, replicates, generator)
    noise = draw(Truth(churn=churn), n, replicates, generator)  # the reference's second run, against its first
    return Point(
        n=n,
        churn=churn,
        naive_ships=_naive(worse, noise, n),
        naive_blocks=1 - _naive(same, noise, n),
        gate_ships=passing(worse, n, MARGIN),
        gate_passes=passing(same, n, MARGIN),
        planned=power_at(n, Truth(churn=churn), MARGIN, replicates=replicates, seed=seed + 1),
        blocked=_blocked(same[:JUDGED], n),
    )


def _naive(candidates: np.ndarray, noise: np.ndarray, n: int) -> float:
    """The share of candidates that the naive rule ships."""
    between = (noise[:, 0] - noise[:, 1]) / n  # the first run's accuracy less the second's
    drop = (candidates[:, 0] - candidates[:, 1]) / n - between / 2
    return float((drop <= 3 * np.abs(between)).mean())


def _blocked(candidates: np.ndarray, n: int) -> float:
    words = [
        judge({"all": Pairs(n=n, lost=int(b), gained=int(c), clusters=n, effect=1)}, {"all": MARGIN})["all"].verdict
        for b, c in candidates
    ]
    return words.count(Verdict.BLOCK) / len(words)


def points(replicates: int, seed: int) -> Iterator[Point]:
    for n, churn in product(SIZES, CHURNS):
        yield simulate(n, churn, replicates=replicates, seed=seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicates", type=int, default=20_000, help="candidates of each kind at each point")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one object a line instead of the table")
    given = parser.parse_args()
    began = time.monotonic()
    found = list(points(given.replicates, given.seed))
    if given.json:
        for point in found:
            print(json.dumps(asdict(point)))  # noqa: T201 - a program's output
        return
    said = [
        f"{100 * MARGIN:g} points of budget, {given.replicates:,} candidates of each kind a point, seed {given.seed}",
        "",
        "              ships a true 2-point loss    does not ship a lossless one    planner's",
        "items  churn       naive     gate            naive     gate   BLOCK          power",
    ]
    said += [
        f"{p.n:5}  {100 * p.churn:4.0f}%      {100 * p.naive_ships:5.1f}%   {100 * p.gate_ships:5.1f}%"
        f"           {100 * p.naive_blocks:5.1f}%   {100 * (1 - p.gate_passes):5.1f}%  {100 * p.blocked:5.1f}%"
        f"         {100 * p.planned:5.1f}%"
        for p in found
    ]
    worst = max(found, key=lambda p: p.gate_ships)
    off = max(abs(p.gate_passes - p.planned) for p in found)
    said.append(
        f"\nworst false ship of the gate {100 * worst.gate_ships:.1f}% (wanted: 6 at most); lossless candidates pass "
        f"as planned within {100 * off:.1f} points (wanted: 2); {time.monotonic() - began:.0f} s"
    )
    print("\n".join(said))  # noqa: T201 - a program's output


if __name__ == "__main__":
    main()
