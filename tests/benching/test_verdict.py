from __future__ import annotations

from typing import Any

import pytest

from fleetbench.bench.probing import Probed
from fleetbench.bench.verdict import Judged, judged
from fleetbench.judge.validity import Kind
from fleetbench_collectors.load.lengths import parse
from fleetbench_collectors.load.words import Calibration
from fleetbench_collectors.load.workload import File, Ids
from tests.benching.ask import asked as asks
from tests.benching.ask import loaded, row, sent
from tests.truth.run import serve

SIX = [row(number) for number in range(6)]


def probed(*, verified: bool = True, overhead_tok: int = 0, cost_tok: int = 1, filler: str | None = None) -> Probed:
    plan = Calibration(
        overhead_tok=overhead_tok,
        cost_tok=cost_tok,
        words=(),
        filler=filler,
        verified=verified,
        off_tok=0 if verified else None,
        probes=1,
        reason=None if verified else "the server counts no prompt tokens",
    )
    return Probed(prompts=Ids(ids=range(9)), calibration=plan, requests=1)


def verdict(rows: list[dict[str, Any]], *, interrupted: bool = False, **changes: Any) -> Judged:
    changes = {"batch": 1, "probed": probed(), **changes}
    return judged(loaded(rows, **changes), interrupted=interrupted)


def sentences(found: Judged) -> list[str]:
    return [reason.sentence for reason in found.validity.reasons if reason.kind is not Kind.UNVERIFIED]


def test_all_that_was_asked_for_is_valid() -> None:
    assert verdict(SIX).validity.valid


def test_a_request_that_was_never_sent_counts_against_it_unless_somebody_stopped_the_load() -> None:
    assert sentences(verdict(SIX[:5])) == ["1 of 6 requests never ran"]
    assert verdict(SIX[:5], interrupted=True).validity.valid
    assert verdict(SIX[:5], requests=None, seconds=1.0).validity.valid
    assert verdict(SIX[:5], requests=6, seconds=1.0).validity.valid


def test_the_rows_of_a_dead_process_are_missed_whatever_was_asked() -> None:
    death = "a process of the load generator ended by signal 9"
    for found in (verdict(SIX, failures=[death]), verdict(SIX, failures=[death], requests=None, seconds=1.0)):
        assert sentences(found) == [death]
        assert found.validity.reason == death
        assert found.row["reasons"] == [death]


@pytest.mark.parametrize(("rows", "n"), [([], 0), ([row(0, "cancelled"), row(1, "cancelled")], 2)])
def test_a_load_of_which_nothing_was_completed_is_not_valid(rows: list[dict[str, Any]], n: int) -> None:
    found = verdict(rows, interrupted=True)
    assert sentences(found) == [f"none of {n} requests was completed"]


def test_what_was_cancelled_by_nobody_was_given_up() -> None:
    found = verdict([row(0, "timeout"), row(1, "cancelled")])
    assert "1 requests were cancelled, and no more sent: the ones before them had all failed" in sentences(found)
    assert "4 of 6 requests never ran" in sentences(found)
    assert verdict([*SIX, row(6, "cancelled")], interrupted=True).validity.valid


def test_lengths_that_nobody_could_verify_are_a_warning_and_verified_ones_that_differ_are_wrong() -> None:
    rows = [row(number, prompt_tok=31) for number in range(6)]
    assert verdict(rows, probed=probed(verified=False)).validity.valid
    assert not verdict(rows).validity.valid


@pytest.mark.parametrize(
    ("context", "plan", "wrong"),
    [
        ("16..64", {"cost_tok": 3}, False),
        ("32", {"cost_tok": 3}, True),
        ("16..64", {"cost_tok": 3, "filler": "."}, True),
    ],
)
def test_lengths_that_dear_words_cannot_reach_are_a_warning(context: str, plan: dict[str, Any], *, wrong: bool) -> None:
    rows = [row(number, prompt_tok=31) for number in range(6)]
    found = verdict(rows, probed=probed(**plan), context=parse(context))
    assert (Kind.WRONG_LENGTHS in {reason.kind for reason in found.validity.reasons}) is wrong
    assert any("words cost 3 tokens" in sentence for sentence in found.row["warnings"]) is not wrong


def test_the_length_of_a_files_prompts_is_nobodys_mistake() -> None:
    rows = [row(number, asked_prompt_tok=0) for number in range(6)]
    found = verdict(rows, probed=None, prompts_file=File(path="x", unique=False))
    assert found.validity.reasons == ()


@pytest.mark.parametrize(
    ("changes", "most_tok"),
    [
        ({}, 16),
        ({"shared_tok": 8}, 24),
        ({"endpoint": "chat", "probed": probed(overhead_tok=7)}, 23),
        ({"endpoint": "chat", "prompts_file": File(path="x", unique=True), "probed": None}, 48),
    ],
)
def test_a_cache_may_hold_what_all_prompts_begin_with_and_no_more(changes: dict[str, Any], most_tok: int) -> None:
    def kinds(cached_tok: int) -> set[Kind]:
        rows = [row(number, cached_tok=cached_tok) for number in range(6)]
        return {reason.kind for reason in verdict(rows, **changes).validity.reasons}

    assert Kind.CACHE_POLLUTED not in kinds(most_tok)
    assert Kind.CACHE_POLLUTED in kinds(most_tok + 1)


def test_the_servers_own_counter_of_its_cache_is_looked_at(truth: list[str]) -> None:
    with serve(truth, cached=20, itl_us=2000) as server:
        found = judged(sent(asks(server.url)), interrupted=False)
    assert found.evidence.client.cache_hit_tok == 6 * 20
    assert Kind.CACHE_POLLUTED in {reason.kind for reason in found.validity.reasons}
