from __future__ import annotations

import math
import statistics
from itertools import islice, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleetbench_collectors.load.arrivals import (
    Process,
    Profile,
    Segment,
    _mapped,
    offsets_ns,
    parse_ramp,
    parse_stages,
    ramp,
    stages,
    steady,
)

S = 1_000_000_000
RATES = st.one_of(st.just(0.0), st.floats(0.01, 50))
SEGMENTS = st.builds(Segment, seconds=st.floats(0.01, 20), start_per_s=RATES, end_per_s=RATES)
PROFILES = st.builds(
    Profile,
    segments=st.lists(SEGMENTS, min_size=1, max_size=5)
    .filter(lambda all_: any(one.requests for one in all_))
    .map(tuple),
)


def accumulated(profile: Profile, at_s: float) -> float:
    """The rate's integral from 0 to `at_s`, by the trapezium of each segment."""
    total = 0.0
    for segment in profile.segments:
        assert segment.seconds is not None
        inside = min(max(at_s, 0), segment.seconds)
        rate = segment.start_per_s + (segment.end_per_s - segment.start_per_s) * inside / segment.seconds
        total += (segment.start_per_s + rate) / 2 * inside
        at_s -= segment.seconds
    return total


def length_s(profile: Profile) -> float:
    return sum(segment.seconds or 0 for segment in profile.segments)


def test_a_steady_rate_starts_requests_at_even_distances_from_0_and_never_ends() -> None:
    assert list(islice(offsets_ns(steady(4), "constant"), 5)) == [0, S // 4, S // 2, 3 * S // 4, S]
    assert next(islice(offsets_ns(steady(3), "constant"), 100_000, None)) == 33_333_333_333_333


def test_stages_start_rate_times_seconds_requests_and_end() -> None:
    found = list(offsets_ns(stages([(2, 30), (5, 60)]), "constant"))
    assert len(found) == 360
    assert found[59:62] == [29.5 * S, 30 * S, 30.2 * S]
    assert found[-1] < 90 * S


@given(rate_tenths=st.integers(1, 200), seconds=st.integers(1, 60))
@example(rate_tenths=22, seconds=25)
def test_decimal_rates_gain_and_lose_no_request_at_a_boundary(rate_tenths: int, seconds: int) -> None:
    profile = stages([(rate_tenths / 10, seconds), (0, 7), (rate_tenths / 10, seconds)])
    found = list(offsets_ns(profile, "constant"))
    assert len(found) == math.ceil(2 * rate_tenths * seconds / 10)
    assert not any(seconds * S <= at_ns < (seconds + 7) * S for at_ns in found)


def test_a_request_at_a_boundary_starts_with_the_next_rate_and_not_before() -> None:
    # As floats, 2.2 per second for 25 s make 55.00000000000001 requests.
    found = list(offsets_ns(stages([(2.2, 25), (0.000001, 1_000_000)]), "constant"))
    assert found[55:] == [25 * S]


def test_requests_never_run_backwards_where_two_are_closer_than_a_float_tells() -> None:
    profile = Profile(segments=(Segment(seconds=9e6, start_per_s=0, end_per_s=0.8317651384407699),))
    point = 522420.9000103034
    first, second = _mapped(profile, iter([point, math.nextafter(point, math.inf), math.inf]))
    assert first <= second


@given(segment=SEGMENTS)
@example(segment=Segment(seconds=2.5, start_per_s=0.1, end_per_s=0.3))
@example(segment=Segment(seconds=3.9, start_per_s=7.9, end_per_s=0))
def test_a_segment_reaches_all_but_all_of_its_requests_within_its_time(segment: Segment) -> None:
    assert segment.seconds is not None
    if segment.requests:
        assert 0 <= segment.reached_s(math.nextafter(segment.requests, 0)) <= segment.seconds


def test_nothing_starts_while_the_rate_is_0() -> None:
    profile = stages([(0, 5), (1, 2), (0, 10), (1, 1)])
    assert list(offsets_ns(profile, "constant")) == [5 * S, 6 * S, 17 * S]


def test_a_ramp_reaches_k_requests_at_the_root_of_its_integral_and_then_stays() -> None:
    found = list(islice(offsets_ns(ramp(0, 10, 5), "constant"), 40))
    assert found[:25] == [round(math.sqrt(k) * S) for k in range(25)]
    assert found[25:] == [5 * S + k * S // 10 for k in range(15)]


def test_a_ramp_to_0_ends_there() -> None:
    found = list(offsets_ns(ramp(2, 0, 60), "constant"))
    assert len(found) == 60
    assert found[-1] == round((60 - math.sqrt(60)) * S)


def test_an_almost_flat_ramp_goes_like_a_steady_rate() -> None:
    found = list(islice(offsets_ns(ramp(10, 10 + 1e-9, 1000), "constant"), 9_000))
    assert all(abs(at_ns - k * S // 10) <= 50 for k, at_ns in enumerate(found))


@given(profile=PROFILES)
def test_the_rate_has_added_up_to_k_when_request_k_starts(profile: Profile) -> None:
    found = list(offsets_ns(profile, "constant"))
    total = accumulated(profile, length_s(profile))
    assert math.ceil(total - 1e-6) <= len(found) <= math.ceil(total + 1e-6)
    assert all(abs(accumulated(profile, at_ns / S) - k) < 1e-5 for k, at_ns in enumerate(found))


@given(
    profile=PROFILES,
    process=st.sampled_from(["constant", "poisson", "gamma"]),
    burstiness=st.floats(0.01, 100),
    seed=st.integers(),
)
def test_requests_start_in_order_within_the_profile_and_the_same_for_the_same_seed(
    profile: Profile, process: Process, burstiness: float, seed: int
) -> None:
    shape = burstiness if process == "gamma" else 1.0
    found = list(offsets_ns(profile, process, burstiness=shape, seed=seed))
    assert found == sorted(found)
    assert all(0 <= at_ns <= length_s(profile) * S + 10 for at_ns in found)
    assert found == list(offsets_ns(profile, process, burstiness=shape, seed=seed))


@pytest.mark.parametrize(
    ("process", "burstiness", "variation"),
    [("poisson", 1.0, 1.0), ("gamma", 1.0, 1.0), ("gamma", 0.25, 2.0), ("gamma", 16.0, 0.25)],
)
def test_gaps_have_the_mean_of_the_rate_and_the_variation_of_the_process(
    process: Process, burstiness: float, variation: float
) -> None:
    found = list(islice(offsets_ns(steady(20), process, burstiness=burstiness, seed=7), 20_000))
    gaps = [right - left for left, right in pairwise(found)]
    assert statistics.fmean(gaps) / S == pytest.approx(1 / 20, rel=0.05)
    assert statistics.pstdev(gaps) / statistics.fmean(gaps) == pytest.approx(variation, rel=0.05)
    assert found[0] > 0


def test_poisson_requests_are_spread_over_a_profile_as_its_rate() -> None:
    profile = stages([(100, 10), (0, 10), (400, 10)])
    found = list(offsets_ns(profile, "poisson", seed=3))
    counts = [sum(1 for at_ns in found if at_ns // (10 * S) == part) for part in range(3)]
    assert counts == [pytest.approx(1000, abs=130), 0, pytest.approx(4000, abs=260)]


def test_arrivals_do_not_change_from_version_to_version() -> None:
    assert list(islice(offsets_ns(steady(1), "poisson", seed=1), 3)) == [144291064, 2024447330, 3467416255]
    assert list(islice(offsets_ns(steady(1), "gamma", burstiness=0.5, seed=1), 3)) == [50612362, 1685995902, 2374113554]


@pytest.mark.parametrize("process", ["constant", "poisson"])
def test_burstiness_belongs_to_gamma_alone(process: Process) -> None:
    with pytest.raises(ValueError, match="belongs to the gamma process"):
        offsets_ns(steady(1), process, burstiness=0.5)


@pytest.mark.parametrize("burstiness", [0, -1, math.nan, math.inf, 1e-300])
def test_a_burstiness_that_makes_no_process_is_refused_before_the_first_request(burstiness: float) -> None:
    with pytest.raises(ValueError, match="burstiness must be from"):
        offsets_ns(steady(1), "gamma", burstiness=burstiness)


def test_an_unknown_process_is_refused() -> None:
    with pytest.raises(ValueError, match="one of constant, poisson, gamma, not weibull"):
        offsets_ns(steady(1), "weibull")  # type: ignore[arg-type]


def test_a_profile_is_read_from_a_command_line() -> None:
    assert parse_stages("2x30,5x60") == stages([(2, 30), (5, 60)])
    assert parse_stages(" 0x1, 0.5x1.5 ") == stages([(0, 1), (0.5, 1.5)])
    assert parse_ramp("1..20x60") == ramp(1, 20, 60)
    assert parse_ramp("0.5..20.25x1.5") == ramp(0.5, 20.25, 1.5)


@pytest.mark.parametrize(
    "text", ["", ",", "2", "2x", "x30", "2x30,", "2*30", "-1x3", "1e3x3", "nanx3", "infx3", "1_0x3"]
)
def test_what_is_no_list_of_stages_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match="as in 2x30,5x60, not"):
        parse_stages(text)


@pytest.mark.parametrize(
    "text", ["", "1..20", "1.20x60", "1...20x60", "..20x60", "1..x60", "20x60", "-1..2x3", "²..3x4"]
)
def test_what_is_no_ramp_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ValueError, match=r"as in 1\.\.20x60, not"):
        parse_ramp(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0x30", "rate above 0 somewhere"),
        ("2x0", "more than 0 and at most 9000000 seconds"),
        ("2x9000001", "at most 9000000 seconds, not 9e"),
        ("2x8000000,2x8000000", "a profile must last at most"),
        ("1000001x1", "a rate must be 0 or from"),
        ("0.0000001x1", "a rate must be 0 or from"),
        (f"{'9' * 400}x1", "not inf"),
    ],
)
def test_stages_out_of_range_are_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_stages(text)


@pytest.mark.parametrize(("start", "end"), [(math.nan, 1.0), (1.0, math.inf), (-1.0, 1.0)])
def test_a_rate_that_is_none_is_refused(start: float, end: float) -> None:
    with pytest.raises(ValueError, match="a rate must be"):
        ramp(start, end, 10)


def test_a_segment_without_an_end_has_one_rate_and_is_the_last() -> None:
    with pytest.raises(ValueError, match="one rate above 0"):
        Segment(seconds=None, start_per_s=1, end_per_s=2)
    with pytest.raises(ValueError, match="one rate above 0"):
        steady(0)
    with pytest.raises(ValueError, match="only the last"):
        Profile(segments=(*steady(1).segments, *steady(2).segments))
    with pytest.raises(ValueError, match="above 0 somewhere"):
        Profile(segments=())


@given(text=st.text(alphabet="0123456789.x,", max_size=12))
def test_any_text_is_a_profile_or_a_value_error(text: str) -> None:
    for parse in (parse_stages, parse_ramp):
        try:
            profile = parse(text)
        except ValueError:
            continue
        assert all(isinstance(at_ns, int) for at_ns in islice(offsets_ns(profile, "constant"), 3))
