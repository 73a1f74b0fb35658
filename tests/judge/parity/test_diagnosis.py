from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import hypothesis.strategies as st
import pyarrow.parquet as pq
import pytest
from hypothesis import given

from fleetbench.judge.parity.diagnosis import ROLES, Hint, hints
from fleetbench.judge.parity.examples import MOST, examples
from fleetbench.judge.parity.gate import Answer, Answers
from fleetbench.matrix.types import KvFormat, Recipe
from fleetbench_collectors.quality import suite
from fleetbench_collectors.quality.code import items as code
from fleetbench_collectors.quality.general import suite as general
from tests.judge.parity.fake_quantized import ANSWERS

N = 100
F16 = Recipe(name="f16", weights="f16")
Q4_KV4 = Recipe(name="q4-kv4", weights="q4_k", group_size=32, kv=KvFormat(k="q4_0", v="q4_0"))


def answered(deployment: str) -> Answers:
    """The tiny model's answers with one axis made coarse; `fake_quantized` made them and says how."""
    return [
        Answer(
            item_id=row["item_id"],
            category=row["category"],
            stratum=row["stratum"],
            cluster=row["cluster"],
            context_tok=row["context_tok"],
            correct=row[deployment] == row["expected"],
            expected=row["expected"],
            answer=row[deployment],
        )
        for row in pq.read_table(ANSWERS).to_pylist()
    ]


REFERENCE, INT8, WEIGHTS, KV = (answered(name) for name in ("reference", "int8", "weights_int2", "kv_int2"))


def group(
    category: str, *, lost: int = 0, stratum: str = "easy", tok: int = 10, degenerate: str | None = None
) -> tuple[Answers, Answers]:
    """`N` items that the reference has right, and a candidate that loses some."""
    before = [
        Answer(
            item_id=f"{category}/{stratum}/{tok}/{i:03}",
            category=category,
            stratum=stratum,
            cluster=f"{category}/{stratum}/{tok}/{i:03}",
            context_tok=tok,
            correct=True,
            expected="x",
            answer="x",
        )
        for i in range(N)
    ]
    wrong = [replace(one, correct=False, answer="y", degenerate=degenerate) for one in before[:lost]]
    return before, [*wrong, *before[lost:]]


def diagnosed(*groups: tuple[Answers, Answers], recipes: tuple[Recipe, Recipe] | None = None) -> tuple[Hint, ...]:
    before = [one for had, _ in groups for one in had]
    after = [one for _, has in groups for one in has]
    return hints([before, before], [after], recipes=recipes)


def suspects(found: Sequence[Hint]) -> list[str]:
    return [hint.suspect.what for hint in found]


def test_int2_weights_of_the_tiny_model_are_told_from_an_int2_cache() -> None:
    assert suspects(hints([REFERENCE, REFERENCE], [WEIGHTS])) == ["weights or activations of few bits"]
    assert suspects(hints([REFERENCE, REFERENCE], [KV])) == ["the KV cache"]
    assert hints([REFERENCE, REFERENCE], [INT8]) == hints([REFERENCE, REFERENCE], [REFERENCE]) == ()


def test_a_hint_says_what_speaks_for_it() -> None:
    (hint,) = hints([REFERENCE, REFERENCE], [WEIGHTS])
    facts = Counter(
        one.correct and not two.correct
        for one, two in zip(REFERENCE, WEIGHTS, strict=True)
        if one.category in {"facts", "addition"}
    )
    assert hint.evidence[0].startswith(f"addition and facts lost {facts[True]} of 577 (")
    assert hint.text.startswith("may be weights or activations of few bits: addition and facts lost ")


@pytest.mark.parametrize(
    ("groups", "suspect"),
    [
        ([group("copy", lost=30), group("needle", lost=20), group("facts"), group("addition")], ["the KV cache"]),
        (
            [group("copy"), group("needle"), group("facts", lost=20), group("addition", lost=20)],
            ["weights or activations of few bits"],
        ),
        (
            [group("needle", tok=128), group("needle", lost=30, tok=8000), group("arithmetic")],
            ["the KV cache"],
        ),
        (
            [group("tool_call", lost=20), group("facts", stratum="head"), group("needle")],
            ["weights where the vocabulary is rare"],
        ),
        (
            [group("facts", stratum="tail", lost=20), group("facts", stratum="head")],
            ["weights where the vocabulary is rare"],
        ),
        ([group("code", lost=20), group("instruction"), group("refusal", lost=1)], ["activations"]),
        (
            [group(each, lost=5, degenerate="loop") for each in ("code", "language", "json_schema", "needle", "facts")],
            ["outlier channels or their scales"],
        ),
    ],
)
def test_a_pattern_of_losses_has_its_suspect(groups: list[tuple[Answers, Answers]], suspect: list[str]) -> None:
    assert suspects(diagnosed(*groups)) == suspect


@pytest.mark.parametrize(
    "groups",
    [
        [group("facts", lost=4), group("addition"), group("copy"), group("needle")],
        [group("facts", lost=100), group("addition", lost=95), group("copy", lost=98), group("needle", lost=99)],
        [group("json", lost=60), group("facts"), group("copy")],
        [group("tool_call", lost=30), group("needle", lost=30), group("language")],
        [group("code", lost=30), group("instruction", lost=25)],
        [group("json_schema", lost=25, degenerate="loop"), group("language"), group("needle"), group("facts")],
        [group("facts", lost=40)],
    ],
    ids=["too few", "all is lost", "no role", "reading too", "chat too", "one category", "nothing beside it"],
)
def test_nothing_is_said_where_the_evidence_does_not_carry_it(groups: list[tuple[Answers, Answers]]) -> None:
    assert diagnosed(*groups) == ()


def test_questions_on_few_haystacks_are_no_evidence() -> None:
    before, after = group("needle", lost=60)
    few = [[replace(one, cluster=min("5", one.item_id[-1:])) for one in run] for run in (before, after)]
    assert suspects(diagnosed((before, after), group("facts"))) == ["the KV cache"]
    assert diagnosed((few[0], few[1]), group("facts")) == ()


def test_gains_count_against_losses() -> None:
    before, after = group("copy", lost=30)
    gained = [replace(one, correct=False, answer="z") for one in before[70:]]
    assert diagnosed(([*before[:70], *gained], after), group("facts")) == ()


def test_the_next_experiment_is_the_axis_alone() -> None:
    (hint,) = diagnosed(group("copy", lost=30), group("facts"), recipes=(F16, Q4_KV4))
    assert hint.changed == ("kv",)
    assert hint.recipes == (Recipe(name="q4-kv4-kv-only", weights="f16", kv=Q4_KV4.kv),)
    assert hint.next == "run q4-kv4-kv-only (weights f16, activations auto, KV q4_0)"
    (hint,) = diagnosed(group("copy"), group("facts", lost=30), recipes=(F16, Q4_KV4))
    assert hint.recipes == (Recipe(name="q4-kv4-weights-only", weights="q4_k", group_size=32),)


def test_where_two_axes_may_be_at_fault_each_is_run_alone() -> None:
    w8a8 = Recipe(name="w8a8", weights="int8", activations="int8")
    (hint,) = diagnosed(group("copy"), group("facts", lost=30), recipes=(F16, w8a8))
    assert [(one.weights, one.activations) for one in hint.recipes] == [("int8", "auto"), ("f16", "int8")]


def test_an_axis_that_the_recipe_left_alone_is_said_to_be_that() -> None:
    (hint,) = diagnosed(group("copy", lost=30), group("facts"), recipes=(F16, replace(F16, name="q4", weights="q4_k")))
    assert (hint.changed, hint.recipes) == ((), ())
    assert hint.next.startswith("this recipe leaves kv as in the reference")


def test_of_a_single_axis_the_next_experiment_is_a_cure() -> None:
    (hint,) = diagnosed(group("copy", lost=30), group("facts"), recipes=(F16, replace(F16, name="kv4", kv=Q4_KV4.kv)))
    assert (hint.changed, hint.recipes) == (("kv",), ())
    assert hint.next.startswith("this recipe changes kv alone, so try keys alone")


def test_every_category_with_a_role_belongs_to_a_suite() -> None:
    assert ROLES.keys() <= {*suite.CATEGORIES, *general.CATEGORIES, code.CATEGORY}


def test_examples_are_lost_items_of_every_category_the_worst_first() -> None:
    found = examples([REFERENCE, REFERENCE], [KV])
    assert len(found) == MOST
    right = {one.item_id: one.expected for one in REFERENCE if one.correct}
    assert all(one.before == one.expected == right[one.item_id] and one.after != one.expected for one in found)
    order = list(dict.fromkeys(one.category for one in found))
    assert order == ["tool_call", "json", "facts", "copy", "addition", "needle"]
    assert {one.stratum for one in found if one.category == "facts"} == {"head", "tail"}


def test_an_item_that_some_run_of_the_reference_had_wrong_is_no_example() -> None:
    before, after = group("facts", lost=3)
    shaky = [replace(before[0], correct=False, answer="y"), *before[1:]]
    assert [one.item_id[-3:] for one in examples([before, shaky], [after])] == ["001", "002"]


@given(lost=st.integers(0, N), others=st.lists(st.sampled_from(sorted(ROLES)), unique=True, max_size=6))
def test_never_more_than_twenty_examples_and_all_where_there_are_fewer(lost: int, others: list[str]) -> None:
    groups = [group(each, lost=lost) for each in others]
    found = examples([[one for had, _ in groups for one in had]], [[one for _, has in groups for one in has]])
    assert len(found) == min(MOST, lost * len(others))
    assert len({one.item_id for one in found}) == len(found)


@given(st.lists(st.tuples(st.sampled_from(sorted(ROLES)), st.booleans()), min_size=1, max_size=300))
def test_without_a_regression_there_is_no_hint(items: list[tuple[str, bool]]) -> None:
    before = [
        Answer(
            item_id=str(i),
            category=category,
            stratum=None,
            cluster=str(i),
            context_tok=10 * (i + 1),
            correct=right,
            expected="x",
            answer="x" if right else "y",
        )
        for i, (category, right) in enumerate(items)
    ]
    better = [replace(one, correct=True, answer="x") for one in before]
    assert hints([before, before], [before]) == hints([before], [better]) == ()
    assert examples([before, before], [better]) == ()


@pytest.mark.parametrize("candidate", [WEIGHTS, KV])
def test_the_order_of_items_changes_nothing(candidate: Answers) -> None:
    shuffled = random.Random(1).sample(list(candidate), len(candidate))  # noqa: S311 - an order, no secret
    assert hints([REFERENCE], [candidate]) == hints([REFERENCE[::-1]], [shuffled])
    assert examples([REFERENCE], [candidate]) == examples([REFERENCE[::-1]], [shuffled])


def test_without_runs_or_common_items_there_is_nothing_to_say() -> None:
    assert hints([], [REFERENCE]) == hints([REFERENCE], []) == hints([REFERENCE[:5]], [REFERENCE[5:]]) == ()
    silent = [replace(one, correct=None, answer=None) for one in REFERENCE]
    assert hints([REFERENCE], [silent]) == ()
    assert examples([REFERENCE], [silent]) == ()
