"""The steady part of a trial, found without anybody's choice, or why there is none.

A ramp is cut by MSER on batch means: of all starts the one that minimises the variance of what is left over its length
(White, Simulation 69(6), 1997; batch means as in MSER-5, White, Cobb and Spratt, WSC 2000). Only starts before the
middle are tried, and the last of them is no finding. A trend is looked for apart, because MSER keeps a slow one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fleetbench_collectors.load.columns import Floats, Ints, Mask, arrivals, column, measured, tokens, until_ns
from fleetbench_collectors.load.latency import e2e_intended_ms, e2e_ms
from fleetbench_collectors.load.record import Records

BUSY_RATIO = 0.95
"""Of the places asked for: so many in flight count as all, for places are refilled one after the other."""
JUDGED_MIN_S = 5.0
"""Below it a few slow responses are a trend."""
JUDGED_MIN_ROUNDS = 3
"""Below it a closed loop's first and last round, in which places fill and empty, are most of it by design."""
DRIFT_RATIO = 0.10
"""A closed loop's speed may change that much over the window: as much as a control of the fleet may drift."""
GROWTH_RATIO = 0.50
"""Of the mean response time, from the first to the last arrival: a rate above the capacity doubles it and more."""
_CHANCE = 1e-5
_SAME_SLOPE_RATIO = 0.5
_BLOCKS_MIN, _BLOCKS_MAX = 5, 20
_BLOCK_REQUESTS_MIN = 10
_BINS_MIN, _BINS_MAX = 10, 200
_NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Steady:
    """Bounds in ns on the rows' clock, None with a reason where there is no steady state.

    share_ratio: of the trial, which is first start to last end in a closed loop, first to last start in an open one.
    judged: the trial is long enough for its lack to count against it.
    """

    start_ns: int | None
    end_ns: int | None
    share_ratio: float
    reason: str | None
    judged: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Flow:
    """The measured requests: when each was in flight, [n] in ns."""

    rows: Mask
    start_ns: Ints
    until_ns: Ints

    @property
    def first_ns(self) -> int:
        return int(self.start_ns.min())

    @property
    def last_start_ns(self) -> int:
        return int(self.start_ns.max())

    @property
    def last_ns(self) -> int:
        return int(self.until_ns.max())


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trend:
    """Change over the whole time, over the mean; and slope in the values' unit per ms.

    certain: noise would bring so straight a line about less than once in 100,000 times; (1 - r^2)^((k - 2) / 2) bounds
    that chance for k independent means.
    """

    change_ratio: float
    slope: float
    certain: bool


_NO_TREND = _Trend(change_ratio=0.0, slope=0.0, certain=False)


def find(records: Records, *, batch: int | None, constant: bool = True) -> Steady:
    """The window in which the load is the one that was asked for and the server has settled to it.

    Closed loop: from all places busy to the first that nothing is left for, less the ramp of the token rate. No more
    requests than places are one round: no ramp can be told from it. Open loop: first to last start, less the ramp of
    the requests in flight.

    Args:
        records: of one trial.
        batch: places of a closed loop; None in an open loop.
        constant: False where the load is to change (stages, a trace): then its lack is nobody's fault.
    """
    rows = measured(records)
    if not rows.any():
        return Steady(start_ns=None, end_ns=None, share_ratio=0.0, reason="no request was measured", judged=False)
    flow = _Flow(rows=rows, start_ns=column(records, "start_ns")[rows], until_ns=until_ns(records)[rows])
    if batch is None:
        return _open(records, flow, constant=constant)
    return _closed(records, flow, batch, constant=constant)


def loaded(records: Records) -> tuple[int, int] | None:
    """From a closed loop's first start to the first end after its last, in ns: every place has work meanwhile.

    None where nothing was measured.
    """
    rows = measured(records)
    if not rows.any():
        return None
    starts, untils = column(records, "start_ns")[rows], until_ns(records)[rows]
    return int(starts.min()), int(untils[untils >= starts.max()].min())


def _closed(records: Records, flow: _Flow, batch: int, *, constant: bool) -> Steady:
    places = min(batch, len(flow.start_ns))
    one_round = len(flow.start_ns) <= batch
    trial_ns = flow.last_ns - flow.first_ns
    enough = len(flow.start_ns) >= JUDGED_MIN_ROUNDS * batch
    judged = constant and enough and trial_ns >= JUDGED_MIN_S * 1e9
    bounds, most = _full(flow, math.ceil(BUSY_RATIO * places))
    if bounds is None:
        return _none(f"never more than {most} of {places} requests in flight", judged=judged)
    start_ns, end_ns = bounds
    if not one_round:
        typical_ns = max(float(np.median(flow.until_ns - flow.start_ns)), 1.0)
        rounds = int((end_ns - start_ns) / typical_ns)
        full = _drift(records, start_ns, end_ns, typical_ns)
        start_ns += _ramp_ns(_token_rate(records, start_ns, end_ns, rounds), end_ns - start_ns)
        rest = _drift(records, start_ns, end_ns, typical_ns)
        if _goes_on(full, rest, DRIFT_RATIO) or (rest.certain and abs(rest.change_ratio) > DRIFT_RATIO):
            said = f"the token rate of a request changed by {100 * full.change_ratio:+.0f} % throughout"
            return _none(said, judged=judged)
    return _some(start_ns, end_ns, trial_ns, judged=judged)


def _open(records: Records, flow: _Flow, *, constant: bool) -> Steady:
    start_ns, end_ns = flow.first_ns, flow.last_start_ns
    trial_ns = end_ns - start_ns
    judged = constant and trial_ns >= JUDGED_MIN_S * 1e9
    if not trial_ns:
        return _none("all requests started at once", judged=judged)
    bins = min(_BINS_MAX, len(flow.start_ns) // 2)
    edges = np.linspace(start_ns, end_ns, bins + 1)
    full = _growth(records, start_ns)
    start_ns += _ramp_ns(np.diff(_flight_ns(flow, edges)), trial_ns)
    # A server that only fills up has settled by the second half.
    rest = _growth(records, max(start_ns, end_ns - trial_ns // 2))
    if full.slope > 0 and _goes_on(full, rest, GROWTH_RATIO):
        change_pct = 100 * full.change_ratio
        grown = f"the time to answer grew by {change_pct:.0f} % of its mean until the last request started"
        return _none(f"{grown}: requests come faster than they are answered", judged=judged)
    return _some(start_ns, end_ns, trial_ns, judged=judged)


def _goes_on(full: _Trend, rest: _Trend, limit_ratio: float) -> bool:
    """Whether a trend of the whole time is left when the ramp is cut.

    A cut into a steady trend leaves its slope, though often too little time to be certain of it; a ramp leaves none.
    """
    return full.certain and abs(full.change_ratio) > limit_ratio and rest.slope / full.slope > _SAME_SLOPE_RATIO


def _some(start_ns: int, end_ns: int, trial_ns: int, *, judged: bool) -> Steady:
    share = (end_ns - start_ns) / trial_ns if trial_ns else 1.0
    return Steady(start_ns=start_ns, end_ns=end_ns, share_ratio=share, reason=None, judged=judged)


def _none(reason: str, *, judged: bool) -> Steady:
    return Steady(start_ns=None, end_ns=None, share_ratio=0.0, reason=reason, judged=judged)


def _full(flow: _Flow, need: int) -> tuple[tuple[int, int] | None, int]:
    """From the first time to the last that `need` requests are in flight; and the most that ever were."""
    times = np.concatenate([flow.start_ns, flow.until_ns])
    change = np.repeat([1, -1], len(flow.start_ns))
    order = np.lexsort((-change, times))
    level = np.cumsum(change[order])
    full = np.flatnonzero(level >= need)
    if not full.size:
        return None, int(level.max())
    return (int(times[order[full[0]]]), int(times[order[full[-1] + 1]])), int(level.max())


def _token_rate(records: Records, start_ns: int, end_ns: int, rounds: int) -> Floats:
    """Tokens that arrive in bins, each at least a typical request long: waves of requests make no ramp of it."""
    bins = max(min(rounds, _BINS_MAX), 1)
    came = arrivals(records, measured(records))
    inside = (came.at_ns >= start_ns) & (came.at_ns < end_ns)
    position = (came.at_ns[inside] - start_ns) * bins // (end_ns - start_ns)
    return np.bincount(position, weights=came.tok[inside], minlength=bins).astype(np.float64)


def _ramp_ns(values: Floats, span_ns: int) -> int:
    """How much to cut off a span by the [b] values of its bins."""
    n = len(values)
    if n < _BINS_MIN:
        return 0
    left = np.arange(n, 0, -1)
    total, squares = np.cumsum(values[::-1])[::-1], np.cumsum(np.square(values[::-1]))[::-1]
    score = ((squares - np.square(total) / left) / np.square(left))[: n // 2 + 1]
    cut = int(score.argmin())
    return span_ns * cut // n if cut < n // 2 else 0


def _drift(records: Records, start_ns: int, end_ns: int, typical_ns: float) -> _Trend:
    """Of the token rate of whole requests over the window.

    Of requests, not of time: streams that start and end together make the rate over time wave, not their own. Those
    that begin within a request's time of the end run on where places are empty, and are left out.
    """
    tok, took_ms, begun = tokens(records).tok, e2e_ms(records), column(records, "start_ns")
    rows = measured(records, "ok") & (begun >= start_ns) & (begun <= end_ns - typical_ns) & (took_ms > 0) & (tok > 0)
    blocks = min(_BLOCKS_MAX, int((end_ns - start_ns) / typical_ns))
    return _trend(begun[rows], tok[rows] / took_ms[rows], blocks)


def _growth(records: Records, start_ns: int) -> _Trend:
    """Of the time from scheduled start to last token until the last start."""
    took_ms, at = e2e_intended_ms(records), column(records, "intended_ns")
    rows = measured(records, "ok") & np.isfinite(took_ms) & (at >= start_ns)
    return _trend(at[rows], took_ms[rows], min(_BLOCKS_MAX, int(rows.sum()) // _BLOCK_REQUESTS_MIN))


def _trend(at_ns: Ints, values: Floats, blocks: int) -> _Trend:
    """By a line through the means of blocks of [n] values; none where there are too few blocks."""
    if blocks < _BLOCKS_MIN or len(values) < blocks:
        return _NO_TREND
    order = np.argsort(at_ns, kind="stable")
    x = np.array([part.mean() for part in np.array_split(at_ns[order] / _NS_PER_MS, blocks)])
    y = np.array([part.mean() for part in np.array_split(values[order], blocks)])
    x_off, y_off = x - x.mean(), y - y.mean()
    spread_x, spread_y, both = float(x_off @ x_off), float(y_off @ y_off), float(x_off @ y_off)
    if not spread_x or not spread_y:
        return _NO_TREND
    unexplained = max(1 - both**2 / (spread_x * spread_y), 0.0)
    slope = both / spread_x
    return _Trend(
        change_ratio=slope * float(np.ptp(at_ns)) / _NS_PER_MS / float(y.mean()),
        slope=slope,
        certain=unexplained ** ((blocks - 2) / 2) < _CHANCE,
    )


def _flight_ns(flow: _Flow, edges: Floats) -> Floats:
    """[e] in-flight time of all requests summed up to each edge, in ns."""

    def since(stamps: Ints) -> Floats:
        ordered = np.sort(stamps - flow.first_ns)
        before = np.concatenate([[0], np.cumsum(ordered)])
        at = edges - flow.first_ns
        n = np.searchsorted(ordered, at)
        flight_ns: Floats = n * at - before[n]
        return flight_ns

    return since(flow.start_ns) - since(flow.until_ns)
