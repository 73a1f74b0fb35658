"""When the requests of an open loop start: a profile of rates, and a point process that follows it."""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

Process = Literal["constant", "poisson", "gamma"]

RATE_MIN_PER_S = 1e-6
RATE_MAX_PER_S = 1e6
# 104 days: up to there a float tells neighbouring nanoseconds apart.
SECONDS_MAX = 9e6
BURSTINESS_MIN = 1e-3
BURSTINESS_MAX = 1e6

# Decimal rates are no exact binary numbers: 0.1 per s for 30 s adds up to a little more than 3 requests.
_SLACK_RATIO = 1e-12
_NUMBER = r"([0-9]+(?:\.[0-9]+)?)"
_STAGE = re.compile(rf"{_NUMBER}x{_NUMBER}")
_RAMP = re.compile(rf"{_NUMBER}\.\.{_NUMBER}x{_NUMBER}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of time in which the rate goes in a straight line; `seconds` is None where it never ends."""

    seconds: float | None
    start_per_s: float
    end_per_s: float

    def __post_init__(self) -> None:
        for rate in (self.start_per_s, self.end_per_s):
            if rate != 0 and not RATE_MIN_PER_S <= rate <= RATE_MAX_PER_S:
                raise ValueError(f"a rate must be 0 or from 0.000001 to 1000000 requests per second, not {rate:g}")
        if self.seconds is None:
            if self.start_per_s != self.end_per_s or self.start_per_s == 0:
                raise ValueError("a segment without an end must have one rate above 0")
        elif not 0 < self.seconds <= SECONDS_MAX:
            raise ValueError(f"a segment must last more than 0 and at most 9000000 seconds, not {self.seconds:g}")

    @property
    def requests(self) -> float:
        """Area under the rate: the requests that the segment is expected to start; infinite without an end."""
        if self.seconds is None:
            return math.inf
        return (self.start_per_s + self.end_per_s) / 2 * self.seconds

    def reached_s(self, requests: float) -> float:
        """Seconds into the segment until its rate has added up to `requests`, from 0 to below its own.

        With rate(t) = a + m t this is the root of a t + m t^2 / 2 = requests, in the form that does not
        cancel: 2 requests / (a + sqrt(a^2 + 2 m requests)).
        """
        if self.seconds is None or self.start_per_s == self.end_per_s:
            return requests / self.start_per_s
        slope = (self.end_per_s - self.start_per_s) / self.seconds
        root = math.sqrt(max(0.0, self.start_per_s**2 + 2 * slope * requests))
        # Both are 0 at the start of a ramp from 0.
        return min(self.seconds, 2 * requests / (self.start_per_s + root)) if requests > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """The rate over a trial: segments one after the other, of which only the last may be without an end."""

    segments: tuple[Segment, ...]

    def __post_init__(self) -> None:
        if not any(segment.requests for segment in self.segments):
            raise ValueError("a profile of rates needs a rate above 0 somewhere")
        if any(segment.seconds is None for segment in self.segments[:-1]):
            raise ValueError("only the last segment of a profile may be without an end")
        if sum(segment.seconds or 0 for segment in self.segments) > SECONDS_MAX:
            raise ValueError("a profile must last at most 9000000 seconds")


def steady(rate_per_s: float) -> Profile:
    """One rate without an end."""
    return Profile(segments=(Segment(seconds=None, start_per_s=rate_per_s, end_per_s=rate_per_s),))


def ramp(start_per_s: float, end_per_s: float, seconds: float) -> Profile:
    """From one rate to another, which then stays; the profile ends there where that is 0."""
    rise = Segment(seconds=seconds, start_per_s=start_per_s, end_per_s=end_per_s)
    if end_per_s == 0:
        return Profile(segments=(rise,))
    return Profile(segments=(rise, *steady(end_per_s).segments))


def stages(steps: Sequence[tuple[float, float]]) -> Profile:
    """Rates per second, each for its seconds; ends after the last."""
    return Profile(
        segments=tuple(Segment(seconds=seconds, start_per_s=rate, end_per_s=rate) for rate, seconds in steps)
    )


def parse_stages(text: str) -> Profile:
    """Stages as written on a command line: `2x30,5x60` is 2 per second for 30 s, then 5 for 60 s.

    Raises:
        ValueError: it is none, or a number is out of range.
    """
    found = [_STAGE.fullmatch(part.strip()) for part in text.split(",")]
    steps = [(float(match[1]), float(match[2])) for match in found if match]
    if len(steps) < len(found):
        raise ValueError(f"stages must be RATExSECONDS with commas between, as in 2x30,5x60, not {_quoted(text)}")
    return stages(steps)


def parse_ramp(text: str) -> Profile:
    """A ramp as written on a command line: `1..20x60` rises from 1 to 20 per second in 60 s.

    Raises:
        ValueError: it is none, or a number is out of range.
    """
    match = _RAMP.fullmatch(text.strip())
    if not match:
        raise ValueError(f"a ramp must be START..ENDxSECONDS, as in 1..20x60, not {_quoted(text)}")
    return ramp(float(match[1]), float(match[2]), float(match[3]))


def offsets_ns(profile: Profile, process: Process, *, burstiness: float = 1.0, seed: int = 0) -> Iterator[int]:
    """When each request starts, in ns from the trial's start, non-decreasing; endless unless the profile ends.

    Points of a process of rate 1 are mapped through the inverse of the rate's integral. Where the rate is 0,
    nothing starts: a point that falls there starts with the next rate above 0.

    Args:
        profile: the rate over time.
        process: `constant` has the points 0, 1, 2, ...: the first request starts at once. `poisson` has
            exponential gaps of mean 1, before the first request too. `gamma` has gaps of mean 1 with the
            shape `burstiness` and the scale 1 / burstiness.
        burstiness: 1 makes gamma gaps exponential, less makes bursts, more makes the gaps more even; their
            coefficient of variation is burstiness^-1/2.
        seed: of Python's Mersenne Twister; each gap is one call of its `expovariate(1)` or `gammavariate`.

    Raises:
        ValueError: no such process, or a burstiness that is out of range or that the process does not have.

    Source: the time-rescaling theorem (Papangelou 1972; Brown et al., Neural Computation 14, 2002). The
    meaning of burstiness is that of vLLM's `bench serve`.
    """
    if process not in get_args(Process):
        raise ValueError(f"a process must be one of {', '.join(get_args(Process))}, not {process}")
    if not BURSTINESS_MIN <= burstiness <= BURSTINESS_MAX:
        raise ValueError(f"burstiness must be from 0.001 to 1000000, not {burstiness:g}")
    if process != "gamma" and burstiness != 1:
        raise ValueError(f"burstiness belongs to the gamma process, not to {process}")
    return _mapped(profile, _points(process, burstiness, random.Random(seed)))  # noqa: S311 - no secret


def _points(process: Process, burstiness: float, rng: random.Random) -> Iterator[float]:
    """Ascending points of a process of rate 1."""
    if process == "constant":
        return map(float, itertools.count())
    if process == "poisson":
        return itertools.accumulate(rng.expovariate(1.0) for _ in itertools.count())
    return itertools.accumulate(rng.gammavariate(burstiness, 1 / burstiness) for _ in itertools.count())


def _mapped(profile: Profile, points: Iterator[float]) -> Iterator[int]:
    """Walks the segments along the points; a point at a segment's very end belongs to the next."""
    start_ns, before = 0, 0.0
    at_ns = 0
    point = next(points)
    for segment in profile.segments:
        through = before + segment.requests
        last = through * (1 - _SLACK_RATIO)
        while segment.requests and point < last:
            at_ns = max(at_ns, start_ns + round(segment.reached_s(max(0.0, point - before)) * 1e9))
            yield at_ns
            point = next(points)
        before = through
        if segment.seconds is not None:
            start_ns += round(segment.seconds * 1e9)


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:60]}...")  # noqa: PLR2004 - what fits a message
