"""Verdicts over runs whose answers are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleetbench.judge.parity.verdict import Verdict
from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from fleetbench.store.verdicts import Judged, judge_run, keep
from tests.samples import Lab, Row, item_row, trial_row

N = 400
PARITY = {"margin": 0.02, "margins": {}, "reference_runs": 2, "churn": 0.005, "workload": None}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab(Warehouse(tmp_path))
    made.warehouse.create()
    made.run(matrix_json=json.dumps({"parity": PARITY}))
    return made


def ask(lab: Lab, recipe: str, *, wrong: int = 0, repeat: int = 0, n: int = N, **changes: Any) -> None:
    """A quality trial of `recipe` with so many wrong answers among n."""
    shape = {"kind": "quality", "suite": "embedded/1", "batch": None, "random_weights": False, "model": "tiny"}
    row = trial_row(recipe, repeat, **{**shape, "reference": recipe == "f16", **changes})
    items: list[Row] = [item_row(i, correct=i >= wrong) for i in range(n)] if row["outcome"] == "ok" else []
    lab.trial(row, quality_items=items)


def judged(lab: Lab) -> dict[str, Judged]:
    with connect(lab.warehouse.root) as connection:
        return {one.candidate.facts["recipe"]: one for one in judge_run(connection, "run1")}


def rows(lab: Lab, sql: str) -> list[tuple[Any, ...]]:
    with connect(lab.warehouse.root) as connection:
        found: list[tuple[Any, ...]] = connection.execute(sql).fetchall()
        return found


def judge_and_keep(lab: Lab) -> bool:
    with connect(lab.warehouse.root) as connection:
        return keep(lab.warehouse, connection, "run1", judge_run(connection, "run1"))


def test_candidates_are_judged_against_both_runs_of_the_reference(lab: Lab) -> None:
    for repeat in range(2):
        ask(lab, "f16", repeat=repeat)
    ask(lab, "q8_0")
    ask(lab, "q2_k", wrong=60)
    found = judged(lab)
    assert {recipe: one.judgement.verdict for recipe, one in found.items()} == {
        "q8_0": Verdict.PASS,
        "q2_k": Verdict.BLOCK,
    }
    contract = found["q8_0"].contract
    assert contract is not None
    assert (contract.runs, contract.items, contract.margins) == (2, (("facts", N),), (("facts", 0.02),))
    assert contract == found["q2_k"].contract


def test_margins_are_those_of_the_matrix(tmp_path: Path) -> None:
    lab = Lab(Warehouse(tmp_path))
    lab.warehouse.create()
    lab.run(matrix_json=json.dumps({"parity": PARITY | {"margins": {"facts": 0.3}, "workload": ["copy"]}}))
    for repeat in range(2):
        ask(lab, "f16", repeat=repeat)
    ask(lab, "q2_k", wrong=60)
    (found,) = judged(lab).values()
    assert found.judgement.verdict is Verdict.PASS
    assert "copy defines the workload and was not asked" in found.judgement.warnings


@pytest.mark.parametrize(
    ("reference", "candidate", "why"),
    [
        ({}, {}, "the reference ran 1 times, and 2 runs are needed"),
        (None, {}, "the reference f16 was not asked there"),
        (
            {"outcome": "oom", "valid": False, "reason": "out of memory"},
            {},
            "the reference f16 was not measured: out of memory",
        ),
        ({}, {"outcome": "crashed", "valid": False, "reason": "it died"}, "it was not measured: it died"),
        ({}, {"engine_version": "other"}, "the reference f16 was not asked there"),
    ],
)
def test_what_has_nothing_to_be_judged_by_is_named_and_not_passed(
    lab: Lab, reference: Row | None, candidate: Row, why: str
) -> None:
    if reference is not None:
        ask(lab, "f16", **reference)
    ask(lab, "q8_0", **candidate)
    assert judge_and_keep(lab)
    assert rows(lab, "SELECT verdict, why, left_out FROM parity WHERE recipe = 'q8_0'") == [("UNJUDGED", why, why)]


def test_fewer_items_than_the_references_are_not_judged(lab: Lab) -> None:
    for repeat in range(2):
        ask(lab, "f16", repeat=repeat)
    ask(lab, "q8_0", n=N - 1)
    (found,) = judged(lab).values()
    assert found.judgement.why == f"the candidate was asked something else there: {N - 1} items of facts, not {N}"


def test_a_verdict_stands_beside_every_cell_of_its_recipe(lab: Lab) -> None:
    for repeat in range(2):
        ask(lab, "f16", repeat=repeat)
    ask(lab, "q2_k", wrong=60)
    for recipe in ("f16", "q2_k", "q4_k"):
        lab.speed(recipe, 100.0)
    assert judge_and_keep(lab)
    asked = "SELECT recipe, quality_verdict, quality_model FROM cells WHERE kind = 'speed' ORDER BY recipe"
    assert rows(lab, asked) == [("f16", "REFERENCE", "tiny"), ("q2_k", "BLOCK", "tiny"), ("q4_k", None, None)]


def test_judging_again_says_the_same_once_and_something_else_in_its_place(lab: Lab) -> None:
    for repeat in range(2):
        ask(lab, "f16", repeat=repeat)
    ask(lab, "q8_0")
    assert judge_and_keep(lab)
    assert not judge_and_keep(lab)
    ask(lab, "q2_k", wrong=60)
    assert judge_and_keep(lab)
    verdicts = rows(lab, "SELECT recipe, verdict FROM parity WHERE category = 'all' ORDER BY recipe")
    assert verdicts == [("f16", "REFERENCE"), ("q2_k", "BLOCK"), ("q8_0", "PASS")]


def test_models_of_random_weights_are_not_judged(lab: Lab) -> None:
    for repeat in range(2):
        ask(lab, "f16", repeat=repeat, random_weights=True)
    ask(lab, "q8_0", random_weights=True)
    assert judged(lab) == {}
