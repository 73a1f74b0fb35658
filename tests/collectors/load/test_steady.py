from __future__ import annotations

import heapq
from array import array
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from fleetbench_collectors.load.record import NUMBERS, OUTCOMES, PHASES, Records
from fleetbench_collectors.load.steady import Steady, find, loaded

S = 1_000_000_000
TOK = 20
Rate = Callable[[float], float]


def records(start_s: list[float], took_s: list[float], ttft_s: float = 0.1) -> Records:
    """Requests of 20 tokens that arrive evenly after the first."""
    n = len(start_s)
    start = (np.asarray(start_s) * S).astype(np.int64)
    first = start + int(ttft_s * S)
    gap_us = np.maximum((np.asarray(took_s) - ttft_s) * 1e6 / (TOK - 1), 1).astype(np.uint32)
    last = first + gap_us.astype(np.int64) * 1000 * (TOK - 1)
    known: dict[str, NDArray[np.int64] | int] = {
        "number": np.arange(n),
        "phase": PHASES.index("measure"),
        "outcome": OUTCOMES.index("ok"),
        "intended_ns": start,
        "start_ns": start,
        "first_byte_ns": first,
        "first_token_ns": first,
        "last_token_ns": last,
        "end_ns": last,
        "output_tok": TOK,
        "chunks": TOK,
        "gaps_n": TOK - 1,
    }
    found = Records()
    for name in NUMBERS:
        column = np.broadcast_to(np.asarray(known.get(name, -1), dtype=np.int64), n)
        found.numbers[name] = array("q", column.tobytes())
    found.gaps_us = array("I", np.repeat(gap_us, TOK - 1).tobytes())
    return found


def closed(rng: np.random.Generator, batch: int, n: int, *, jitter: float = 0, rate: Rate = lambda _: 1.0) -> Records:
    """Requests of about 1 s, each at the rate of its start, one after the other on every place."""
    free = [0.0] * batch
    starts, took = [], []
    for _ in range(n):
        at = heapq.heappop(free)
        starts.append(at)
        took.append(max(rng.normal(1, jitter), 0.2) / rate(at))
        heapq.heappush(free, at + took[-1] + 1e-6)
    return records(starts, took)


def waves(rng: np.random.Generator, batch: int, n: int, *, jitter: float = 0) -> Records:
    """All streams start and end together; a wave is quick or slow as a whole."""
    took = np.maximum(rng.normal(1, jitter, n // batch), 0.2)
    starts = np.cumsum(took) - took + 1e-6 * np.arange(len(took))
    return records(np.repeat(starts, batch).tolist(), np.repeat(took, batch).tolist(), ttft_s=0.15)


def opened(rng: np.random.Generator, n: int, *, rate_per_s: float, places: int = 8) -> Records:
    """Poisson arrivals at a server that answers `places` at once, in 1 s each."""
    free = [0.0] * places
    arrivals = np.cumsum(rng.exponential(1 / rate_per_s, n)).tolist()
    ends = []
    for at in arrivals:
        ends.append(max(heapq.heappop(free), at) + 1)
        heapq.heappush(free, ends[-1])
    return records(arrivals, [end - at for at, end in zip(arrivals, ends, strict=True)])


def invalid(steady: Steady) -> bool:
    return steady.judged and steady.share_ratio < 0.25


SHAPES = ((1, 20), (1, 60), (4, 8), (4, 20), (8, 80), (8, 240))


@pytest.mark.parametrize("jitter", [0.0, 0.05, 0.4])
@pytest.mark.parametrize("load", [closed, waves])
def test_a_closed_loop_that_does_not_change_is_never_without_a_steady_state(
    load: Callable[..., Records], jitter: float
) -> None:
    wrong = [
        (seed, shape)
        for seed in range(84)
        for shape in [SHAPES[seed % len(SHAPES)]]
        if invalid(find(load(np.random.default_rng(seed), *shape, jitter=jitter), batch=shape[0]))
    ]
    assert wrong == []


@pytest.mark.parametrize("jitter", [0.0, 0.01, 0.05])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_rate_that_changes_by_30_pct_throughout_is_no_steady_state(jitter: float, sign: int) -> None:
    for seed in range(20):
        ramp = closed(np.random.default_rng(seed), 8, 240, jitter=jitter, rate=lambda at: 1 + sign * 0.3 * at / 30)
        found = find(ramp, batch=8)
        assert found.reason is not None
        assert "changed by" in found.reason
        assert (found.start_ns, found.share_ratio, invalid(found)) == (None, 0.0, True)


def test_a_ramp_at_the_start_is_cut() -> None:
    for seed in range(20):
        slow = closed(np.random.default_rng(seed), 8, 240, jitter=0.1, rate=lambda at: min(0.3 + 0.7 * at / 8, 1))
        found = find(slow, batch=8)
        assert found.start_ns is not None
        assert 4 * S < found.start_ns < 16 * S


def test_one_round_is_steady_all_along() -> None:
    found = find(records([0.0] * 16, [10.0] * 16), batch=16)
    assert (found.reason, found.share_ratio) == (None, 1.0)
    uneven = find(records([0.0] * 16, [float(took) for took in range(1, 17)]), batch=16)
    assert not invalid(uneven)


def test_the_window_ends_where_places_run_out_of_requests() -> None:
    long_last = records([0.0, 0.0, 3.0, 3.0, 6.0, 6.0], [3.0, 3.0, 3.0, 3.0, 3.0, 9.0])
    found = find(long_last, batch=2)
    assert found.end_ns == pytest.approx(9 * S, abs=S / 100)
    assert found.share_ratio == pytest.approx(9 / 15, abs=0.01)


def test_places_that_never_filled_are_the_reason() -> None:
    found = find(records([float(at) for at in range(10)], [0.9] * 10), batch=2)
    assert found.reason == "never more than 1 of 2 requests in flight"
    assert invalid(found)


def test_a_closed_loop_under_5_s_is_not_judged() -> None:
    rng = np.random.default_rng(0)
    assert not find(closed(rng, 8, 32), batch=8).judged
    assert find(closed(rng, 8, 64), batch=8).judged


def test_a_load_that_is_to_change_is_not_judged() -> None:
    assert not find(opened(np.random.default_rng(0), 100, rate_per_s=16), batch=None, constant=False).judged


@pytest.mark.parametrize("rate_per_s", [12, 16])
def test_an_overloaded_open_loop_has_no_steady_state(rate_per_s: float) -> None:
    for seed in range(40):
        found = find(opened(np.random.default_rng(seed), 300, rate_per_s=rate_per_s), batch=None)
        assert invalid(found)
        assert found.reason is not None
        assert "requests come faster than they are answered" in found.reason


def test_an_open_loop_below_capacity_has_one_between_its_first_and_last_start() -> None:
    for seed in range(100):
        load = opened(np.random.default_rng(seed), 300, rate_per_s=5)
        found = find(load, batch=None)
        assert found.share_ratio >= 0.5
        assert found.end_ns == max(load.numbers["start_ns"])


def test_a_server_that_fills_up_and_settles_is_not_overloaded() -> None:
    at = np.arange(400) / 20
    found = find(records(at.tolist(), np.clip(1 + at / 4, 1, 3).tolist()), batch=None)
    assert found.reason is None


def test_no_measured_request_is_no_steady_state() -> None:
    found = find(Records(), batch=4)
    assert (found.reason, found.judged, loaded(Records())) == ("no request was measured", False, None)
    assert find(records([1.0], [1.0]), batch=None).reason == "all requests started at once"
