from __future__ import annotations

import pytest

from fleetbench_collectors.quality import score, suite

ITEM = next(i for i in suite.embedded(1, 0) if i.category == "json")


def test_the_exact_answer_is_right() -> None:
    assert score.is_correct(ITEM, ITEM.answer)


@pytest.mark.parametrize(
    "spoil", [str.strip, lambda a: " " + a, lambda a: a + "\n", lambda a: a.replace(":", ": "), lambda _: ""]
)
def test_any_other_spelling_is_wrong(spoil: object) -> None:
    assert callable(spoil)
    assert not score.is_correct(ITEM, spoil(ITEM.answer))


def test_totals_keep_no_answer_apart_from_a_wrong_one() -> None:
    assert score.totals([("copy", True), ("copy", False), ("copy", None), ("facts", True)]) == {
        "copy": {"items": 3, "answered": 2, "correct": 1},
        "facts": {"items": 1, "answered": 1, "correct": 1},
    }
