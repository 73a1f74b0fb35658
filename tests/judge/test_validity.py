"""Validity of a trial: asked against counted."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetbench.judge.validity import Counts, judge
from fleetbench.matrix.types import Outcome

GOOD = Counts(
    asked=8,
    completed=8,
    failures=(),
    wrong_prompt_tok=(),
    wrong_output_tok=(),
    asked_prompt_tok=64,
    asked_output_tok=32,
    cached_tok=1,
    warmup_failed=0,
)


def test_a_trial_that_did_what_was_asked_is_valid() -> None:
    verdict = judge(GOOD)
    assert verdict.valid
    assert verdict.reason is None


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        (replace(GOOD, completed=6, failures=(("timeout", 2),)), "2 of 8 requests failed: timeout"),
        (replace(GOOD, completed=7), "1 of 8 requests never ran"),
        (replace(GOOD, wrong_prompt_tok=((65, 8),)), "8 requests have 65 prompt tokens"),
        (replace(GOOD, wrong_output_tok=((31, 1),)), "1 requests have 31 output tokens"),
        (replace(GOOD, wrong_output_tok=((None, 8),)), "no count of output tokens"),
        (replace(GOOD, cached_tok=2), "2 prompt tokens of a request from a cache"),
        (replace(GOOD, warmup_failed=1), "1 warm-up requests failed"),
    ],
)
def test_a_difference_makes_it_invalid_and_says_which(counts: Counts, said: str) -> None:
    verdict = judge(counts)
    assert verdict.outcome is Outcome.INVALID
    assert verdict.reason is not None
    assert said in verdict.reason


def test_every_reason_is_given() -> None:
    verdict = judge(replace(GOOD, completed=7, failures=(("timeout", 1),), cached_tok=9))
    assert verdict.reason is not None
    assert verdict.reason.count(";") == 1
