"""From answers to a verdict on a candidate: whether they can be paired, then category by category."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fleetbench.judge.parity.contract import FEWEST_RUNS, SIGMAS, Contract, differences
from fleetbench.judge.parity.paired import Right, churn, pair
from fleetbench.judge.parity.verdict import Judged, Verdict, judge, noise_sigma, overall


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What was said to an item.

    correct: None where no answer came; refusal: why, if somebody says; degenerate: nan, empty, garbage, flood or loop.
    """

    item_id: str
    category: str
    stratum: str | None
    cluster: str
    context_tok: int
    correct: bool | None
    expected: str
    answer: str | None
    refusal: str | None = None
    degenerate: str | None = None


Answers = Sequence[Answer]
"""One run over a suite, in any order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A candidate against a contract.

    verdict: None where it is not judged, and why then says why; churn: of the reference, by category, None where it
    showed none; warnings: what a reader has to know beside the verdict.
    """

    verdict: Verdict | None
    why: str | None
    categories: Mapping[str, Judged]
    churn: Mapping[str, float | None]
    warnings: tuple[str, ...]


def unjudged(why: str) -> Judgement:
    return Judgement(verdict=None, why=why, categories={}, churn={}, warnings=())


def gate(
    contract: Contract, reference: Sequence[Answers], candidate: Sequence[Answers], *, looks: int = 1
) -> Judgement:
    """A candidate's answers against the reference's, by what the contract allows; order does not matter.

    What cannot be paired is not judged, and so never passes: too few runs of the reference, items that are missing,
    there twice, or other ones, and items without an answer.

    Args:
        contract: which suite and items, and how much may be lost.
        reference: its runs.
        candidate: its runs, one at least.
        looks: how often the items are looked at while they grow in number.
    """
    for name, runs in (("the reference", reference), ("the candidate", candidate)):
        if why := _unfit(contract, runs, fewest=FEWEST_RUNS if runs is reference else 1):
            return unjudged(f"{name} {why}")
    by_category: dict[str, list[str]] = {}
    known = {answer.item_id: answer for answer in reference[0]}
    for item_id in sorted(known):
        by_category.setdefault(known[item_id].category, []).append(item_id)
    had, has = [_by_id(run) for run in reference], [_by_id(run) for run in candidate]
    pairs, churns = {}, {}
    for category, ids in sorted(by_category.items()):
        before, after = _right(had, ids), _right(has, ids)
        pairs[category] = pair(before, after, [known[item_id].cluster for item_id in ids])
        churns[category] = churn(before)
    judged = judge(pairs, dict(contract.margins), looks=looks)
    return Judgement(
        verdict=overall(judged),
        why=_why(judged),
        categories=judged,
        churn=churns,
        warnings=tuple(_warnings(contract, judged, churns)),
    )


def _unfit(contract: Contract, runs: Sequence[Answers], *, fewest: int) -> str | None:
    """Why some runs cannot be judged by a contract, as what follows a name; None where they can."""
    if len(runs) < fewest:
        return f"ran {len(runs)} times, and {fewest} runs are needed"
    for number, run in enumerate(runs):
        where = f"in run {number + 1}" if len(runs) > 1 else "there"
        twice = [item_id for item_id, times in Counter(answer.item_id for answer in run).items() if times > 1]
        if twice:
            return f"has {len(twice)} items twice {where}, {twice[0]} for one"
        items = {answer.item_id: answer.category for answer in run}
        if other := differences(contract, suite=contract.suite, seed=contract.seed, items=items):
            return f"was asked something else {where}: {'; '.join(other)}"
        silent = [answer for answer in run if answer.correct is None]
        if silent:
            said = next((f": {answer.refusal}" for answer in silent if answer.refusal), "")
            return f"has no answer to {len(silent)} of {len(run)} items {where}{said}"
    return None


def _by_id(run: Answers) -> dict[str, bool]:
    return {answer.item_id: bool(answer.correct) for answer in run}


def _right(runs: Sequence[Mapping[str, bool]], ids: Sequence[str]) -> Right:
    """[runs, items] whether each is right."""
    found: NDArray[np.bool_] = np.array([[run[item_id] for item_id in ids] for run in runs], dtype=np.bool_)
    return found


def _why(judged: Mapping[str, Judged]) -> str | None:
    """The categories that keep it from passing, the worst first."""
    worst = [Verdict.BLOCK, Verdict.INCONCLUSIVE]
    blamed = sorted(
        ((worst.index(one.verdict), -one.drop, name, one) for name, one in judged.items() if one.verdict in worst),
        key=lambda each: each[:3],
    )
    first = blamed[0][0] if blamed else None
    return "; ".join(f"{name}: {one.why}" for rank, _, name, one in blamed if rank == first) or None


def _warnings(contract: Contract, judged: Mapping[str, Judged], churns: Mapping[str, float | None]) -> list[str]:
    """Margins above what the reference's own noise comes to, and categories that were not asked."""
    alike: dict[str, list[str]] = {}
    for category, one in judged.items():
        reach = SIGMAS * noise_sigma(churns[category], one.pairs.n, floor=contract.churn)
        if one.margin > reach:
            said = (
                f"the margin of {100 * one.margin:.1f} points is above three sigma of the reference's own churn,"
                f" {100 * reach:.1f} points at {one.pairs.n} items"
            )
            alike.setdefault(said, []).append(category)
    found = [f"{', '.join(categories)}: {said}" for said, categories in alike.items()]
    missing = sorted(set(contract.workload) - judged.keys())
    found += [f"{category} defines the workload and was not asked" for category in missing]
    return found
