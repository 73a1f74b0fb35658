from __future__ import annotations

import json
from array import array
from typing import Any

import pytest

from fleetbench.judge import validity
from fleetbench_collectors.load.certify import collect, counts
from fleetbench_collectors.load.evidence import CacheCounts, Client, Evidence
from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.parse import Reply
from fleetbench_collectors.load.record import Records
from fleetbench_collectors.load.steady import Steady
from fleetbench_collectors.load.tally import Tally

MS = 1_000_000
UNSTEADY = Steady(start_ns=None, end_ns=None, share_ratio=0.0, reason="too short", judged=False)


def tally(**changes: Any) -> Tally:
    values = {"cpu_s": 1.0, "wall_s": 10.0, "stamped_kernel": 100, "stamped_user": 0, "lag_us": (50,), "step_ns": 0}
    return Tally(**{**values, **changes})


def add(
    records: Records,
    *,
    start_ms: int = 1000,
    waited_ms: int = 0,
    phase: str = "measure",
    asked: int = 5,
    **changes: Any,
) -> Records:
    """A request of five tokens, one every 10 ms after 50 ms, in 100 ms."""
    start_ns = start_ms * MS
    values = {
        "token_ns": array("q", [start_ns + at * MS for at in (50, 60, 70, 80, 90)]),
        "first_byte_ns": start_ns + 50 * MS,
        "end_ns": start_ns + 100 * MS,
        "chunks": 5,
        "prompt_tok": 10,
        "output_tok": asked,
        "cached_tok": 1,
    }
    records.add(
        Request(number=len(records), payload=b"", prompt_tok=10, output_tok=asked),
        phase,
        intended_ns=start_ns - waited_ms * MS,
        start_ns=start_ns,
        reply=Reply(**{**values, **changes}),
    )
    return records


def client(records: Records, *tallies: Tally, batch: int | None = None, steady: Steady = UNSTEADY) -> Client:
    return collect(records, tallies, steady, asked=len(records), batch=batch).client


def test_what_was_asked_is_compared_with_what_the_server_counted() -> None:
    records = add(add(Records()), prompt_tok=12, output_tok=None, cached_tok=7)
    add(add(records, outcome="timeout", error="late"), outcome="timeout", error="late")
    add(add(records, outcome="cancelled"), phase="warmup", outcome="timeout", output_tok=2)
    found = counts(records, asked=9)
    assert (found.asked, found.completed, found.cancelled, found.warmup_failed) == (9, 2, 1, 1)
    assert found.failures == (("timeout (late)", 2),)
    assert (found.wrong_prompt_tok, found.wrong_output_tok) == (((12, 1),), ((None, 1),))
    assert (found.asked_prompt_tok, found.asked_output_tok, found.cached_tok) == (10, 5, 7)


def test_lengths_that_vary_are_compared_one_by_one() -> None:
    found = counts(add(add(Records(), asked=5), asked=6), asked=2)
    assert (found.wrong_output_tok, found.asked_output_tok) == ((), None)


def test_the_worst_process_counts() -> None:
    quick, late = tally(lag_us=(10,) * 1000), tally(lag_us=(900, 1100), cpu_s=9, step_ns=-5)
    found = client(add(Records()), quick, late)
    assert (found.read_lag_p50_us, found.cpu_ratio, found.step_ns, found.processes) == (1000, 0.9, 5, 2)


@pytest.mark.parametrize(
    ("kernel", "user", "said"), [(100_000, 3, "kernel"), (100, 1, "user"), (0, 100, "user"), (0, 0, None)]
)
def test_stamps_are_the_kernels_where_nearly_all_are(kernel: int, user: int, said: str | None) -> None:
    assert client(add(Records()), tally(stamped_kernel=kernel, stamped_user=user)).stamp == said


def test_chunks_that_share_a_stamp_are_counted() -> None:
    assert client(add(Records())).merged_ratio == 0
    assert client(add(Records(), chunks=20)).merged_ratio == pytest.approx(0.75)
    assert client(Records()).merged_ratio is None


def test_first_chunks_that_came_with_the_next_are_counted_where_later_ones_came_alone() -> None:
    hidden: dict[str, Any] = {"chunks": 6, "asked": 6, "chunk_tok": array("I", [2, 1, 1, 1, 1])}
    assert client(add(add(Records()), **hidden)).first_merged_ratio == 0.5
    in_pairs: dict[str, Any] = {"chunks": 10, "asked": 10, "chunk_tok": array("I", [2] * 5)}
    later: dict[str, Any] = {"chunks": 6, "asked": 6, "chunk_tok": array("I", [1, 2, 1, 1, 1])}
    many_tokens_a_chunk: dict[str, Any] = {"asked": 9, "chunk_tok": array("I", [5, 1, 1, 1, 1])}
    for other in (in_pairs, later, many_tokens_a_chunk):
        assert client(add(Records(), **other)).first_merged_ratio == 0
    assert client(add(Records(), token_ns=array("q", [1100 * MS]))).first_merged_ratio is None


def test_the_lag_of_first_reads_is_that_of_the_latest() -> None:
    """One read in five is a first one: the middle of the latest fifth."""
    lags = tally(lag_us=(10,) * 800 + (9_000,) * 200)
    assert client(add(Records()), tally(), lags).first_lag_us == 9_000
    assert client(add(Records())).first_lag_us is None


def test_an_open_loop_is_held_to_its_schedule_and_a_closed_one_to_its_batch() -> None:
    records = add(add(add(Records()), start_ms=1010), start_ms=1050, waited_ms=10)
    found = client(records)
    assert found.schedule_lag_p99_ms == pytest.approx(9.8)
    assert (found.interval_ms, found.asked_batch) == (20, None)
    found = client(records, batch=8)
    assert (found.schedule_lag_p99_ms, found.interval_ms, found.asked_batch) == (None, None, 3)
    # Until the first end after the last start.
    assert found.achieved_batch == pytest.approx((100 + 90 + 50) / 100)
    steady = Steady(start_ns=1050 * MS, end_ns=1100 * MS, share_ratio=0.3, reason=None, judged=True)
    assert client(records, batch=8, steady=steady).achieved_batch == pytest.approx(3)


def test_requests_whose_stamps_run_backwards_are_counted() -> None:
    assert client(add(add(Records()), first_byte_ns=5)).backwards == 1


def test_the_servers_cache_counter_is_read_before_and_after() -> None:
    records = add(add(Records()), phase="warmup")
    both = {"before": CacheCounts(hits_tok=40), "after": CacheCounts(hits_tok=72)}
    found = collect(records, (), UNSTEADY, asked=1, batch=1, **both).client
    assert (found.cache_hit_tok, found.sent) == (32, 2)
    assert client(records).cache_hit_tok is None


def test_the_judge_reads_it_back_from_json() -> None:
    records = add(add(Records(), prompt_tok=12), outcome="timeout", error="late")
    evidence: Evidence = collect(records, [tally()], UNSTEADY, asked=2, batch=1)
    found = Evidence.from_json(json.loads(json.dumps(evidence.to_json())))
    assert found.counts.wrong_prompt_tok == evidence.counts.wrong_prompt_tok
    assert found.counts.failures == evidence.counts.failures
    assert found.client.gap_p50_ms == pytest.approx(10)
    assert not validity.judge(found.counts, found.client).valid
