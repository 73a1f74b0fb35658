"""Launches that wait: who is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetbench.plan.rules import Order
from fleetbench.plan.waiting import UNSURE, Queue, Waiting, lasts
from tests.plan.runs import launch

LONG_S = 1e9
"""A run whose end nothing that waits decides."""


def waiting(
    name: str,
    seconds: float = 10.0,
    *,
    gpus: int = 1,
    priority: int = 0,
    artifact: str | None = None,
    avoid: frozenset[str] = frozenset(),
) -> Waiting:
    one = launch(name, gpus=gpus, artifact=artifact)
    serial = sum(ord(letter) << 8 * place for place, letter in enumerate(reversed(name)))
    return Waiting(launch=one, seconds=seconds, priority=priority, serial=serial, trials=one.trials, avoid=avoid)


def queue(*ones: Waiting, order: Order = "balanced") -> Queue:
    found = Queue(order=order)
    for one in ones:
        found.add(one)
    return found


def turns(line: Queue, remaining_s: float = LONG_S, *, alone: bool = False) -> list[str]:
    """All of them, as they start where everything has room."""
    found = []
    while len(line):
        one = next(line.candidates(remaining_s, alone=alone))
        line.take(one)
        found.append(one.launch.launch_id.removeprefix("launch-"))
    return found


def test_the_largest_goes_first_and_of_a_size_the_longest() -> None:
    line = queue(waiting("a", 9), waiting("b", 1, gpus=4), waiting("c", 2, gpus=4), waiting("d", 3, gpus=2))
    assert turns(line) == ["c", "b", "d", "a"]


def test_what_may_last_to_the_end_goes_before_what_is_larger() -> None:
    ones = (waiting("long", 60), waiting("big", 50, gpus=8), waiting("short", 1))
    assert turns(queue(*ones), remaining_s=60 * UNSURE) == ["long", "big", "short"]
    assert turns(queue(*ones), remaining_s=60 * UNSURE + 1) == ["big", "long", "short"]


def test_sizes_do_not_matter_where_each_has_a_node_of_its_own() -> None:
    assert turns(queue(waiting("a", 9), waiting("b", 1, gpus=8)), alone=True) == ["a", "b"]


def test_what_was_asked_for_first_goes_first_even_before_what_decides_the_end() -> None:
    assert turns(queue(waiting("a", 90), waiting("b", 1, priority=1)), remaining_s=10) == ["b", "a"]


def test_a_control_launch_goes_last_unless_the_end_would_wait_for_it() -> None:
    control = waiting("control", 50, gpus=8, priority=-1)
    assert turns(queue(control, waiting("a", 1))) == ["a", "control"]
    assert turns(queue(control, waiting("a", 1)), remaining_s=51) == ["a", "control"]
    assert turns(queue(control, waiting("a", 1)), remaining_s=50) == ["control", "a"]
    assert not lasts(control, 51)


def test_the_plans_order_is_kept_where_that_is_wanted() -> None:
    line = queue(waiting("c", 1), waiting("b", 9, gpus=8), waiting("a", 5, priority=1), order="first-come")
    assert turns(line, remaining_s=0) == ["a", "b", "c"]


def test_weights_on_the_node_are_taken_among_what_is_about_as_long() -> None:
    head, alike, short = waiting("a", 10), waiting("b", 8, artifact="there"), waiting("c", 7, artifact="there")
    assert queue(head, alike, short).like(head, {"there"}) is alike
    assert queue(head, short).like(head, {"there"}) is head
    assert queue(head, alike, order="first-come").like(head, {"there"}) is head


def test_launches_that_avoid_different_nodes_stand_in_lines_of_their_own() -> None:
    line = queue(waiting("a", 9, avoid=frozenset({"n"})), waiting("b", 5), waiting("c", 3))
    assert [one.launch.launch_id for one in line.candidates(LONG_S)] == ["launch-a", "launch-b"]
    assert [one.launch.launch_id for one in line.behind(line.heads()[1])] == ["launch-c"]


def test_gpu_seconds_count_what_is_kept_from_others() -> None:
    line = queue(waiting("a", 10), waiting("b", 10, gpus=2), waiting("c", 10, gpus=12))
    assert line.gpu_s() == 150
    assert line.gpu_s(8) == 320


@given(
    st.lists(st.tuples(st.floats(0.1, 1e4), st.sampled_from((1, 2, 4, 8)), st.sampled_from((-1, 0, 1))), max_size=20)
)
def test_every_launch_has_its_turn_once_and_leaves_nothing(made: list[tuple[float, int, int]]) -> None:
    ones = [waiting(chr(97 + n), seconds, gpus=g, priority=p) for n, (seconds, g, p) in enumerate(made)]
    line = queue(*ones)
    total = sum(one.seconds * one.gpus for one in ones)
    assert abs(line.gpu_s() - total) <= 1e-9 * max(1.0, total)
    assert sorted(turns(line, remaining_s=100.0)) == sorted(one.launch.label.split()[-1] for one in ones)
    assert (len(line), list(line)) == (0, [])
    assert line.gpu_s() < 1e-6
