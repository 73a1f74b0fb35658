from __future__ import annotations

import random
from dataclasses import replace

import pytest

from fleetbench.judge.parity.contract import Contract, Deployment, asked_of
from fleetbench.judge.parity.gate import Answer, Answers, gate
from fleetbench.judge.parity.verdict import Verdict

N = 400
REFERENCE = Deployment(
    recipe="f16",
    model="d" * 64,
    weights="a1",
    engine="llamacpp",
    engine_version="2026.10",
    hardware="local",
    parallel=(1, 1, 1),
    effective=None,
)


def answers(wrong: int = 0, *, category: str = "facts", n: int = N) -> Answers:
    return [
        Answer(
            item_id=f"{category}{i:04}",
            category=category,
            stratum="easy",
            cluster=f"{category}{i:04}",
            context_tok=10,
            correct=i >= wrong,
            expected="x",
            answer="x" if i >= wrong else "y",
        )
        for i in range(n)
    ]


def contract(run: Answers, *, margin: float = 0.02, workload: tuple[str, ...] = ()) -> Contract:
    counts: dict[str, int] = {}
    for one in run:
        counts[one.category] = counts.get(one.category, 0) + 1
    return Contract(
        reference=REFERENCE,
        suite="embedded/1",
        seed=0,
        items=tuple(sorted(counts.items())),
        asked=asked_of([one.item_id for one in run]),
        runs=2,
        margins=tuple((category, margin) for category in sorted(counts)),
        churn=0.005,
        workload=workload,
    )


BEFORE = answers()
AGREED = contract(BEFORE)


def test_the_reference_against_itself_passes() -> None:
    found = gate(AGREED, [BEFORE, BEFORE], [BEFORE])
    assert (found.verdict, found.why) == (Verdict.PASS, None)
    assert found.churn == {"facts": 0.0}


def test_a_loss_beyond_the_margin_blocks_and_names_its_category() -> None:
    two = [*BEFORE, *answers(category="copy")]
    found = gate(contract(two), [two, two], [[*answers(40), *answers(category="copy")]])
    assert found.verdict is Verdict.BLOCK
    assert found.why == "facts: a drop of 10.0 points is shown"


def test_the_order_of_answers_changes_nothing() -> None:
    candidate = list(answers(7))
    shuffled = random.Random(1).sample(candidate, len(candidate))  # noqa: S311 - an order, no secret
    assert gate(AGREED, [BEFORE, BEFORE], [candidate]) == gate(AGREED, [BEFORE[::-1], BEFORE], [shuffled])


@pytest.mark.parametrize(
    ("reference", "candidate", "why"),
    [
        ([BEFORE], [BEFORE], "the reference ran 1 times, and 2 runs are needed"),
        ([BEFORE, BEFORE], [], "the candidate ran 0 times, and 1 runs are needed"),
        ([BEFORE, BEFORE], [BEFORE[1:]], "the candidate was asked something else there: 399 items of facts, not 400"),
        ([BEFORE, BEFORE], [[*BEFORE, BEFORE[7]]], "the candidate has 1 items twice there, facts0007 for one"),
        (
            [BEFORE, [*BEFORE[1:], replace(BEFORE[0], item_id="other")]],
            [BEFORE],
            "the reference was asked something else in run 2: other items under the same suite and seed",
        ),
        (
            [BEFORE, BEFORE],
            [[*BEFORE[1:], replace(BEFORE[0], correct=None, refusal="the scorer failed: ValueError")]],
            "the candidate has no answer to 1 of 400 items there: the scorer failed: ValueError",
        ),
        (
            [BEFORE, BEFORE],
            [[*BEFORE, *answers(category="new", n=1)]],
            "the candidate was asked something else there: 1 items of new, which the contract has not",
        ),
    ],
)
def test_what_cannot_be_paired_is_not_judged(reference: list[Answers], candidate: list[Answers], why: str) -> None:
    found = gate(AGREED, reference, candidate)
    assert (found.verdict, found.why, found.categories) == (None, why, {})


def test_a_margin_above_three_sigma_and_a_workload_that_was_not_asked_are_warned_of() -> None:
    found = gate(contract(BEFORE, workload=("tool_call",)), [BEFORE, BEFORE], [BEFORE])
    assert found.warnings == (
        "facts: the margin of 2.0 points is above three sigma of the reference's own churn, 1.1 points at 400 items",
        "tool_call defines the workload and was not asked",
    )
    assert gate(contract(BEFORE, margin=0.01), [BEFORE, BEFORE], [BEFORE]).warnings == ()


def test_a_contract_is_known_by_all_that_it_says() -> None:
    assert AGREED.contract_id == contract(BEFORE).contract_id
    others = [
        contract(BEFORE, margin=0.03),
        replace(AGREED, seed=1),
        replace(AGREED, runs=3),
        replace(AGREED, reference=replace(REFERENCE, weights="a2")),
        contract(BEFORE[1:]),
    ]
    assert len({AGREED.contract_id, *(one.contract_id for one in others)}) == len(others) + 1
