"""Validity of a trial: asked against counted, and the client against its task."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetbench.judge.validity import FLOOR_RATIO, Kind, Speed, Terms, judge
from fleetbench.matrix.types import Outcome
from fleetbench_collectors.load.evidence import Client, Counts

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
    cancelled=0,
)
KEPT_UP = Client(
    stamp="kernel",
    processes=1,
    read_lag_p50_us=50,
    read_lag_p99_us=400,
    gap_p50_ms=10,
    ttft_p50_ms=50,
    lag_n=1000,
    merged_ratio=0,
    merged_chunks=1000,
    first_merged_ratio=0,
    first_lag_us=400,
    cpu_ratio=0.2,
    step_ns=0,
    backwards=0,
    schedule_lag_p99_ms=None,
    interval_ms=None,
    asked_batch=64,
    achieved_batch=63.5,
    sent=10,
    cache_hit_tok=None,
    steady_share_ratio=0.9,
    steady_reason=None,
    steady_judged=True,
)
OPEN = replace(KEPT_UP, asked_batch=None, schedule_lag_p99_ms=0.4, interval_ms=10)
BY_ITSELF = replace(KEPT_UP, stamp="user")
BENCH = Terms(strict=False)


def test_a_trial_that_did_what_was_asked_is_valid() -> None:
    verdict = judge(GOOD)
    assert verdict.valid
    assert verdict.reason is None
    assert judge(GOOD, KEPT_UP).reasons == ()


@pytest.mark.parametrize(
    ("counts", "kind", "said"),
    [
        (replace(GOOD, completed=6, failures=(("timeout", 2),)), Kind.FAILED, "2 of 8 requests failed: timeout"),
        (replace(GOOD, completed=7), Kind.FAILED, "1 of 8 requests never ran"),
        (replace(GOOD, wrong_prompt_tok=((65, 8),)), Kind.WRONG_LENGTHS, "8 requests have 65 prompt tokens"),
        (replace(GOOD, wrong_output_tok=((31, 1),)), Kind.WRONG_LENGTHS, "1 requests have 31 output tokens"),
        (replace(GOOD, wrong_output_tok=((None, 8),)), Kind.WRONG_LENGTHS, "no count of output tokens"),
        (replace(GOOD, cached_tok=2), Kind.CACHE_POLLUTED, "2 prompt tokens of a request from a cache"),
        (replace(GOOD, warmup_failed=1), Kind.FAILED, "1 warm-up requests failed"),
    ],
)
def test_a_difference_makes_it_invalid_and_says_which(counts: Counts, kind: Kind, said: str) -> None:
    verdict = judge(counts)
    assert verdict.outcome is Outcome.INVALID
    assert verdict.reason is not None
    assert said in verdict.reason
    assert [reason.kind for reason in verdict.reasons] == [kind]


def test_every_reason_is_given() -> None:
    verdict = judge(replace(GOOD, completed=7, failures=(("timeout", 1),), cached_tok=9))
    assert verdict.reason is not None
    assert verdict.reason.count(";") == 1


def test_reasons_of_one_sort_are_counted_beyond_the_first_few() -> None:
    verdict = judge(replace(GOOD, completed=0, failures=tuple((f"error {n}", 1) for n in range(8))))
    assert len(verdict.reasons) == 6
    assert verdict.reasons[-1].sentence == "3 of 8 requests failed in other ways"


def test_cancelled_requests_neither_failed_nor_are_missing() -> None:
    assert judge(replace(GOOD, completed=5, cancelled=3)).valid


@pytest.mark.parametrize(
    ("counts", "terms", "valid"),
    [
        (replace(GOOD, wrong_prompt_tok=((None, 8),), wrong_output_tok=((None, 8),)), BENCH, True),
        (replace(GOOD, wrong_prompt_tok=((70, 8),)), BENCH, False),
        (replace(GOOD, wrong_prompt_tok=((70, 8),)), replace(BENCH, calibrated=False), True),
        (replace(GOOD, wrong_output_tok=((3, 8),)), replace(BENCH, calibrated=False), False),
        (replace(GOOD, wrong_prompt_tok=((70, 8),)), Terms(calibrated=False), False),
    ],
)
def test_what_nobody_can_confirm_is_a_warning_unless_terms_are_strict(
    counts: Counts, terms: Terms, *, valid: bool
) -> None:
    verdict = judge(counts, None, terms)
    assert verdict.valid is valid
    assert bool(verdict.warnings) is valid


@pytest.mark.parametrize(
    ("client", "bound"),
    [
        # 2,000 streams that come at once, 3.5 us each: read late, but before their next chunk.
        (replace(KEPT_UP, cpu_ratio=0.7, read_lag_p99_us=7_000), False),
        # The server writes several chunks at once.
        (replace(KEPT_UP, merged_ratio=0.9, gap_p50_ms=160), False),
        # One stream of a very fast server.
        (replace(KEPT_UP, gap_p50_ms=0.2, read_lag_p99_us=50), False),
        (replace(BY_ITSELF, gap_p50_ms=0.2, read_lag_p99_us=50), False),
        # Bursts of one step's tokens, each in a chunk of its own.
        (replace(KEPT_UP, gap_p50_ms=0.02, read_lag_p99_us=90, merged_ratio=0.5), False),
        (replace(KEPT_UP, read_lag_p99_us=8_100, merged_ratio=0.05), True),
        (replace(KEPT_UP, read_lag_p99_us=8_100, merged_ratio=0.05, merged_chunks=2), False),
        (replace(KEPT_UP, read_lag_p99_us=8_100, merged_ratio=0.05, lag_n=14), False),
        (replace(KEPT_UP, gap_p50_ms=0.003, read_lag_p99_us=900, merged_ratio=0.4, cpu_ratio=0.9), True),
        # Chunks were sent every 10 ms, and read three at a time.
        (replace(KEPT_UP, gap_p50_ms=30, read_lag_p99_us=9_500, merged_ratio=2 / 3), True),
        # User stamps of bursts: the lag is small beside the gaps that it moves.
        (replace(BY_ITSELF, gap_p50_ms=40, read_lag_p99_us=1_100, merged_ratio=3 / 4), False),
        # Long streams, whose first chunks are few among all, and read too late.
        (replace(KEPT_UP, merged_ratio=0.001, first_merged_ratio=0.9, first_lag_us=9_000), True),
        (replace(KEPT_UP, merged_ratio=0.001, first_merged_ratio=0.04, first_lag_us=9_000), False),
        (replace(KEPT_UP, merged_ratio=0.001, first_merged_ratio=0.9, first_lag_us=9_000, merged_chunks=9), False),
        # The server sends the first two chunks together.
        (replace(KEPT_UP, merged_ratio=0.001, first_merged_ratio=0.9, first_lag_us=900), False),
        (replace(KEPT_UP, gap_p50_ms=0.003, read_lag_p99_us=5_000, cpu_ratio=0.99), True),
        (replace(KEPT_UP, gap_p50_ms=None, read_lag_p99_us=5_000, merged_ratio=0.9), True),
        (BY_ITSELF, False),
        (replace(BY_ITSELF, read_lag_p99_us=1_100), True),
        (replace(BY_ITSELF, gap_p50_ms=None, read_lag_p99_us=2_400), False),
        (replace(BY_ITSELF, gap_p50_ms=None, read_lag_p99_us=2_600), True),
    ],
)
def test_a_client_is_the_limit_where_its_lag_moves_the_numbers(client: Client, *, bound: bool) -> None:
    assert [reason.kind for reason in judge(GOOD, client).reasons] == [Kind.CLIENT_BOUND] * bound


def test_a_sentence_says_what_to_do() -> None:
    verdict = judge(GOOD, replace(BY_ITSELF, read_lag_p99_us=8_100))
    assert verdict.reason == (
        "the client read 8.1 ms late (p99) where chunks come every 10 ms: "
        "give it more cores (`bench`: --processes 2) or fewer streams (a matrix: a lower batch)"
    )


def test_a_client_that_never_measured_its_lag_is_unverified() -> None:
    verdict = judge(GOOD, replace(KEPT_UP, read_lag_p50_us=None, read_lag_p99_us=None, lag_n=0))
    assert verdict.valid
    assert [reason.kind for reason in verdict.warnings] == [Kind.UNVERIFIED]


@pytest.mark.parametrize(
    ("client", "kind"),
    [
        (replace(OPEN, schedule_lag_p99_ms=1.1), Kind.OFF_SCHEDULE),
        (replace(OPEN, schedule_lag_p99_ms=1.1, interval_ms=100), None),
        (replace(OPEN, schedule_lag_p99_ms=15, ttft_p50_ms=2_000), None),
        (replace(KEPT_UP, achieved_batch=57), Kind.OFF_SCHEDULE),
        (replace(KEPT_UP, achieved_batch=57, steady_judged=False), None),
        (replace(KEPT_UP, step_ns=2_000_000), Kind.CLOCK_STEP),
        (replace(BY_ITSELF, step_ns=2_000_000), None),
        (replace(BY_ITSELF, backwards=3), Kind.CLOCK_STEP),
        (replace(KEPT_UP, steady_share_ratio=0.2), Kind.NO_STEADY_STATE),
        (replace(KEPT_UP, steady_share_ratio=0.2, steady_judged=False), None),
        (replace(KEPT_UP, cache_hit_tok=10), None),
        (replace(KEPT_UP, cache_hit_tok=160), Kind.CACHE_POLLUTED),
    ],
)
def test_a_load_that_was_another_one_is_invalid(client: Client, kind: Kind | None) -> None:
    found = judge(GOOD, client)
    assert [reason.kind for reason in found.reasons] == ([] if kind is None else [kind])
    assert found.valid is (kind is None)


def test_a_prefix_that_was_to_be_shared_may_be_cached() -> None:
    client = replace(KEPT_UP, cache_hit_tok=320)
    assert judge(replace(GOOD, cached_tok=32), client, Terms(shared_tok=32)).valid
    assert not judge(replace(GOOD, cached_tok=33), client, Terms(shared_tok=32)).valid


def speed(
    ttft: tuple[float | None, float | None] = (None, None), itl: tuple[float | None, float | None] = (None, None)
) -> Speed:
    """Measured and floor, ms."""
    return Speed(ttft_p50_ms=ttft[0], ttft_floor_ms=ttft[1], itl_mean_ms=itl[0], itl_floor_ms=itl[1])


@pytest.mark.parametrize(
    ("measured", "wrong"),
    [
        (speed(ttft=(10, 9), itl=(2, 1)), 0),
        (speed(ttft=(5, 10)), 1),
        (speed(itl=(1, 2)), 1),
        (speed(ttft=(5, 10), itl=(1, 2)), 2),
        # Within the tenth that the floor's own figures may be off.
        (speed(itl=(10 * FLOOR_RATIO, 10)), 0),
        (speed(itl=(10 * FLOOR_RATIO - 0.01, 10)), 1),
        # What nobody knows judges nothing.
        (speed(ttft=(5, None), itl=(None, 2)), 0),
        (speed(), 0),
    ],
)
def test_what_is_faster_than_the_hardware_allows_is_an_error_of_measuring(measured: Speed, wrong: int) -> None:
    verdict = judge(GOOD, speed=measured)
    assert [reason.kind for reason in verdict.reasons] == [Kind.ABOVE_ROOFLINE] * wrong
    assert verdict.outcome is (Outcome.INVALID if wrong else Outcome.OK)
    assert verdict.verdict == ("above_roofline" if wrong else "valid")


def test_a_result_above_the_roofline_names_both_figures_and_what_to_look_at() -> None:
    verdict = judge(GOOD, speed=speed(itl=(1.234, 20)))
    assert verdict.reason == (
        "the mean ITL of 1.23 ms is below the 20 ms that the hardware allows at best: "
        "see that model and format are what was asked, and the catalog's figures of this hardware"
    )


def test_a_result_above_the_roofline_comes_beside_other_reasons() -> None:
    verdict = judge(replace(GOOD, cached_tok=9), KEPT_UP, speed=speed(ttft=(5, 10)))
    assert verdict.verdict == "cache_polluted,above_roofline"
