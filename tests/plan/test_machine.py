"""The state machine of a run: what starts, in which order, and what its launches say of themselves."""

from __future__ import annotations

import pytest

from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import Interrupted, LaunchLost, Placed, Record, Stop, Tick, TrialStarted
from fleetbench.plan.rules import Rules
from tests.plan.runs import Run, launch, names, node, rows, starts, told


def test_nothing_starts_before_a_fleet_is_seen() -> None:
    run = Run()
    run.begin([launch("a")])
    assert run.tell(Tick()) == []
    assert names(run.see(node("n"))) == ["a"]


def test_a_start_says_what_to_run_and_where() -> None:
    run, only = Run(), launch("a", 2, gpus=2)
    [start] = starts(run.begin([only], node("n", gpus=8), node("bad", gpus=8, unfit="stale")))
    assert (start.launch, start.attempt, start.trials, start.tries) == (only, 0, only.trials, (0, 0))
    assert (start.node_ids, start.barred, start.gpus, start.share) == (("id-n",), ("id-bad",), 2, 0.25)


def test_a_launch_on_a_node_for_itself_takes_all_of_it_with_the_gpus_it_asked_for() -> None:
    run = Run()
    [start] = starts(run.begin([launch("a", gpus=2), launch("b", gpus=2)], node("n", gpus=8, use="whole")))
    assert (start.gpus, start.share) == (2, 1.0)


def test_a_node_without_gpus_runs_one_launch_at_a_time() -> None:
    run = Run()
    [start] = starts(run.begin([launch("a"), launch("b")], node("n", gpus=0)))
    assert (start.gpus, start.share) == (0, 1.0)
    assert names(run.finish("a")) == ["b"]


def test_the_next_launch_starts_when_one_ends() -> None:
    run = Run()
    run.begin([launch("a"), launch("b")], node("n"))
    actions = run.finish("a")
    assert actions[0] == Stop(launch_id="launch-a")
    assert names(actions) == ["b"]
    run.finish("b")
    assert run.machine.finished
    assert {run.ended("a"), run.ended("b")} == {Outcome.OK}


def test_gpus_of_a_shared_node_are_never_given_twice() -> None:
    run = Run()
    assert names(run.begin([launch(name, gpus=3) for name in "abc"], node("n", gpus=8))) == ["a", "b"]


def test_only_so_many_launches_of_a_kind_wait_to_be_placed() -> None:
    run = Run(Rules(window=2))
    launches = [launch(name) for name in "abcd"]
    assert names(run.begin(launches, node("n", gpus=8))) == ["a", "b"]
    assert names(run.place("a")) == ["c"]
    assert run.place("a") == [], "placed twice is placed once"
    assert names(run.place("b")) == ["d"]


def test_one_kind_does_not_wait_for_another() -> None:
    run = Run(Rules(window=1))
    launches = [launch("a"), launch("b"), launch("c", hardware="b200")]
    assert names(run.begin(launches, node("n", gpus=8), node("m", gpus=8, hardware="b200"))) == ["a", "c"]


def test_a_launch_runs_on_nodes_of_its_kind_only() -> None:
    run = Run()
    assert names(run.begin([launch("a", hardware="b200")], node("n"), node("m", hardware="b200"))) == ["a"]
    assert run.where("a") == ("m",)


def order(run: Run) -> list[str]:
    """One after the other, as they are started."""
    while run.machine.running:
        for one in list(run.machine.running):
            run.finish(one.removeprefix("launch-"))
    return names(run.actions)


def test_what_is_hurried_goes_first_and_controls_last() -> None:
    run = Run()
    launches = [launch("control", role="control"), launch("plain"), launch("hurried")]
    run.begin(launches, node("n"), seconds={"control": 99.0, "plain": 10.0, "hurried": 1.0}, first=["hurried"])
    assert order(run) == ["hurried", "plain", "control"]


def test_the_longest_goes_first() -> None:
    run = Run()
    run.begin([launch(name) for name in "abc"], node("n"), seconds={"a": 1.0, "b": 3.0, "c": 2.0})
    assert order(run) == ["b", "c", "a"]


def test_the_largest_goes_first_where_no_launch_decides_the_end() -> None:
    run = Run()
    small = [launch(f"s{index}") for index in range(40)]
    actions = run.begin([*small, launch("big", gpus=4)], node("n", gpus=4))
    assert names(actions) == ["big"]


def test_the_plans_order_is_kept_where_that_is_wanted() -> None:
    run = Run(Rules(order="first-come"))
    run.begin(
        [launch("a"), launch("b", gpus=2), launch("c")], node("n", gpus=2, use="whole"), seconds={"a": 1.0, "c": 9.0}
    )
    assert order(run) == ["a", "b", "c"]


def test_weights_on_a_node_are_used_again() -> None:
    run = Run()
    launches = [launch(name, artifact=name[0]) for name in ("x1", "y1", "y2", "x2")]
    run.begin(launches, node("n"), node("m"))
    assert (run.where("x1"), run.where("y1")) == (("n",), ("m",))
    assert names(run.finish("x1")) == ["x2"]
    assert names(run.finish("y1")) == ["y2"]


def test_a_free_node_that_has_the_weights_is_preferred() -> None:
    run = Run()
    launches = [launch("x1", artifact="x"), launch("y1", artifact="y"), launch("x2", artifact="x", gpus=2)]
    run.begin(launches[:2], node("n", gpus=4, use="whole"), node("m", gpus=4, use="whole"))
    first, second = run.where("x1")[0], run.where("y1")[0]
    run.finish("y1")
    run.finish("x1")
    run.machine.begin(launches[2:], seconds={}, now_s=0.0)
    assert names(run.tick(1)) == ["x2"]
    assert run.where("x2") == (first,) != (second,)


def test_a_long_launch_is_not_preferred_to_its_weights() -> None:
    run = Run()
    launches = [launch("x1", artifact="x"), launch("long", artifact="y"), launch("x2", artifact="x")]
    run.begin(launches, node("n"), seconds={"x1": 20.0, "long": 10.0, "x2": 1.0})
    assert order(run) == ["x1", "long", "x2"], "weights decide among launches of about the same time only"


def test_small_launches_do_not_keep_a_large_one_waiting_for_ever() -> None:
    run = Run()
    run.begin([launch(f"s{index}") for index in range(2)], node("n", gpus=2))
    run.machine.begin([launch("big", gpus=2)], seconds={"launch-big": 5.0}, now_s=0.0)
    run.machine.begin([launch(f"t{index}") for index in range(9)], seconds={}, now_s=0.0)
    assert names(run.finish("s0")) == [], "the free GPU is kept for the large one"
    assert names(run.finish("s1")) == ["big"]
    assert names(run.finish("big")) == ["t0", "t1"]


def test_a_retried_large_launch_gets_a_node_though_small_ones_wait() -> None:
    run = Run(Rules(backoff_s=1.0))
    run.begin([launch("big", gpus=2), *(launch(f"s{index}") for index in range(60))], node("n", gpus=2))
    run.lose("big")
    run.tick(1)
    assert names(run.finish("s0")) == []
    assert names(run.finish("s1")) == ["big"]


def test_what_is_kept_for_a_launch_is_free_again_when_it_waits_no_more() -> None:
    run = Run(Rules(nodes_s=10.0))
    run.begin([launch("s0"), launch("s1")], node("n", gpus=2))
    run.machine.begin([launch("big", gpus=2)], seconds={"launch-big": 9.0}, now_s=0.0)
    run.finish("s0")
    run.see(node("n", gpus=2, unfit="ECC errors"))
    assert told(run.tick(10)) == [("big-0", 0, Outcome.CANCELLED)]
    run.finish("s1")
    run.machine.begin([launch("late")], seconds={}, now_s=run.now_s)
    assert names(run.see(node("n", gpus=2))) == ["late"]


def test_a_launch_that_cannot_use_the_free_node_lets_others_have_it() -> None:
    run = Run()
    engines = {"llamacpp": "1.0"}
    run.begin([launch("a"), launch("b")], node("n", engines=engines), node("m", engines=None))
    assert names(run.actions) == ["a"]
    assert run.where("a") == ("m",)


@pytest.mark.parametrize(
    ("there", "usable"),
    [
        ({"llamacpp": "2026.10.11549"}, True),
        ({"llamacpp": "2026.10.11549+cuda"}, True),
        ({"llamacpp": "2026.9"}, False),
        ({"vllm": "2026.10.11549"}, False),
        ({}, False),
        (None, True),
    ],
)
def test_an_engine_runs_where_it_is_in_its_version(there: dict[str, str] | None, usable: bool) -> None:  # noqa: FBT001
    run = Run()
    assert names(run.begin([launch("a")], node("n", engines=there))) == (["a"] if usable else [])


def test_a_launch_that_ray_put_elsewhere_holds_gpus_there() -> None:
    run = Run()
    run.begin([launch("a")], node("n"), node("m"))
    run.place("a", "m")
    run.machine.begin([launch("b"), launch("c")], seconds={}, now_s=0.0)
    assert names(run.tick(1)) == ["b"]
    assert run.where("b") == ("n",)


def test_a_launch_on_a_node_not_seen_before_holds_its_gpus() -> None:
    run = Run()
    run.begin([launch("a")], node("n"))
    run.place("a", "new")
    run.machine.begin([launch("b"), launch("c")], seconds={}, now_s=0.0)
    assert names(run.see(node("n"), node("new"))) == ["b"]
    assert run.where("b") == ("n",)


def test_launches_that_span_nodes_get_all_of_them_or_none() -> None:
    run = Run()
    fleet = [node(name, gpus=8) for name in "lmn"]
    [start] = starts(run.begin([launch("wide", gpus=16), launch("more", gpus=16)], *fleet))
    assert (len(set(start.node_ids)), start.gpus, start.share) == (2, 8, 1.0)
    assert names(run.finish("wide")) == ["more"]


def test_a_launch_that_spans_nodes_waits_for_empty_ones_and_is_not_starved() -> None:
    run = Run()
    run.begin([launch(f"s{index}", gpus=8) for index in range(2)], node("m", gpus=8), node("n", gpus=8))
    run.machine.begin([launch("wide", gpus=16)], seconds={"launch-wide": 9.0}, now_s=0.0)
    run.machine.begin([launch("t0"), launch("t1")], seconds={}, now_s=0.0)
    assert names(run.finish("s0")) == []
    assert names(run.finish("s1")) == ["wide"]


def test_a_launch_that_spans_nodes_is_lost_with_any_of_them() -> None:
    run = Run()
    run.begin([launch("wide", 2, gpus=16)], node("m", gpus=8), node("n", gpus=8))
    run.up("wide")
    run.fly("wide", 0)
    assert told(run.see(node("n", gpus=8))) == [("wide-0", 0, Outcome.LOST)]
    assert not run.machine.running


def test_an_interruption_ends_what_is_in_flight_and_nothing_starts_afterwards() -> None:
    run = Run()
    run.begin([launch("a", 2), launch("b", 2), launch("c")], node("n", gpus=2))
    run.up("a")
    run.fly("a", 0)
    actions = run.tell(Interrupted())
    assert told(actions) == [("a-0", 0, Outcome.CANCELLED)]
    assert [action.launch_id for action in actions if isinstance(action, Stop)] == ["launch-a", "launch-b"]
    assert run.machine.finished
    assert run.machine.outcomes == {"trial-a-0": Outcome.CANCELLED}, (
        "no word of what never began: it is still to be done"
    )
    assert run.see(node("n", gpus=8)) == []
    assert run.tick(1000) == []


def test_an_interruption_says_why() -> None:
    run = Run()
    run.begin([launch("a")], node("n"))
    run.fly("a", 0)
    [row] = rows(run.tell(Interrupted(outcome=Outcome.LOST, reason="Ray is gone")))
    assert (row.outcome, row.reason) == (Outcome.LOST, "Ray is gone")


def test_an_interruption_before_the_beginning_ends_the_run() -> None:
    run = Run()
    run.tell(Interrupted())
    assert run.begin([launch("a")], node("n")) == []
    assert run.machine.finished


def test_an_interruption_forgets_second_tries() -> None:
    run = Run()
    run.begin([launch("a")], node("n"))
    run.lose("a")
    run.tell(Interrupted())
    assert run.machine.finished
    assert run.tick(1000) == []


def test_words_of_a_launch_that_no_longer_runs_mean_nothing() -> None:
    run = Run()
    run.begin([launch("a", 2)], node("n"))
    run.lose("a")
    assert not run.machine.running
    for event in (
        Placed(launch_id="launch-a", node_ids=("id-n",)),
        TrialStarted(launch_id="launch-a", trial_id="trial-a-0"),
        LaunchLost(launch_id="launch-a", reason="again"),
    ):
        assert run.tell(event) == []
    assert run.measure("a", 0) == run.end("a") == []
    assert run.machine.outcomes == {}
    [start] = starts(run.tick(60))
    assert start.attempt == 1


def test_words_of_trials_that_a_launch_does_not_have_mean_nothing() -> None:
    run = Run()
    run.begin([launch("a")], node("n"))
    run.measure("a", 7)
    assert run.machine.outcomes == {}


def test_a_launch_without_a_word_in_a_trial_is_lost() -> None:
    run = Run(Rules(silence_s=30.0))
    run.begin([launch("a", 2)], node("n"))
    run.up("a")
    run.tick(1000)
    assert "launch-a" in run.machine.running, "outside a trial a launch has its own limits"
    run.fly("a", 0)
    assert run.machine.wake_s == run.now_s + 30
    assert run.tick(29) == []
    [row] = rows(run.tick(1))
    assert isinstance(row, Record)
    assert (row.outcome, row.reason) == (Outcome.LOST, "no word of the launch for 30 s")


def test_a_trial_that_ended_is_heard_of() -> None:
    run = Run(Rules(silence_s=30.0))
    run.begin([launch("a", 2)], node("n"))
    run.measure("a", 0)
    assert run.machine.wake_s is None
    assert run.tick(1000) == []


def test_the_demand_is_what_is_not_done() -> None:
    run = Run()
    run.begin([launch("a"), launch("b"), launch("c", gpus=8, hardware="b200")], node("n"))
    assert run.machine.demand() == {("h100", 1): 2, ("b200", 8): 1}
    run.lose("a")
    assert run.machine.demand() == {("h100", 1): 2, ("b200", 8): 1}
    run.finish("b")
    assert run.machine.demand() == {("h100", 1): 1, ("b200", 8): 1}
