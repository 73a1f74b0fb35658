"""What is tried again, where and when, and what is not."""

from __future__ import annotations

import pytest

from fleetbench.matrix.types import Outcome
from fleetbench.plan.events import Stop
from fleetbench.plan.rules import Rules
from tests.plan.runs import Run, launch, names, node, rows, starts, told


def test_a_trial_that_was_lost_has_a_row_and_is_tried_again_after_the_others() -> None:
    run, only = Run(), launch("a", 3)
    run.begin([only], node("n"))
    run.up("a")
    run.measure("a", 0)
    run.fly("a", 1)
    actions = run.lose("a", "raylet died")
    assert [(row.trial, row.attempt, row.tries, row.reason) for row in rows(actions)] == [
        (only.trials[1], 0, 0, "raylet died")
    ]
    assert Stop(launch_id="launch-a") in actions
    [start] = starts(run.sleep())
    assert (start.attempt, start.trials, start.tries) == (1, (only.trials[2], only.trials[1]), (0, 1))
    run.finish("a")
    assert run.machine.finished
    assert run.ended("a", 1) is Outcome.OK


def test_a_trial_is_lost_so_often_and_no_more() -> None:
    run = Run(Rules(trial_tries=3))
    run.begin([launch("a")], node("n"))
    for tries in range(3):
        run.up("a")
        run.fly("a", 0)
        assert told(run.lose("a")) == [("a-0", tries, Outcome.LOST)]
        if tries < 2:
            assert [start.tries for start in starts(run.sleep())] == [(tries + 1,)]
    assert run.machine.finished
    assert run.ended("a") is Outcome.LOST


def test_a_second_start_waits_and_a_third_one_twice_as_long() -> None:
    run = Run(Rules(backoff_s=2.0, tries=3))
    run.begin([launch("a")], node("n"))
    run.lose("a")
    assert names(run.tick(1.9)) == []
    assert names(run.tick(0.1)) == ["a"]
    run.lose("a")
    assert run.machine.wake_s == run.now_s + 4
    assert names(run.tick(3.9)) == []
    assert names(run.tick(0.1)) == ["a"]
    assert told(run.lose("a")) == [("a-0", 0, Outcome.LOST)]
    assert run.machine.finished


def test_a_trial_that_is_lost_again_waits_longer() -> None:
    run = Run(Rules(backoff_s=2.0))
    run.begin([launch("a")], node("n"))
    run.fly("a", 0)
    run.lose("a")
    assert run.machine.wake_s == 2
    run.sleep()
    run.fly("a", 0)
    run.lose("a")
    assert run.machine.wake_s == run.now_s + 4


def test_others_start_while_one_waits_for_its_second_try() -> None:
    run = Run()
    run.begin([launch("a"), launch("b")], node("n"))
    assert names(run.lose("a")) == ["b"]
    assert not run.machine.finished


def test_an_engine_that_was_too_slow_to_start_is_tried_again() -> None:
    run = Run(Rules(tries=2))
    run.begin([launch("a", 2)], node("n"))
    assert told(run.end("a", Outcome.TIMEOUT, retriable=True)) == []
    assert names(run.sleep()) == ["a"]
    assert told(run.end("a", Outcome.TIMEOUT, retriable=True)) == [
        ("a-0", 0, Outcome.TIMEOUT),
        ("a-1", 0, Outcome.TIMEOUT),
    ]
    assert run.machine.finished


def test_a_trial_that_ran_into_its_limit_is_tried_once_more() -> None:
    run = Run()
    run.begin([launch("a", 2)], node("n"))
    run.up("a")
    run.measure("a", 0, Outcome.TIMEOUT)
    run.end("a", Outcome.TIMEOUT)
    [start] = starts(run.sleep())
    assert start.tries == (0, 1)
    run.measure("a", 1)
    run.measure("a", 0, Outcome.TIMEOUT)
    run.end("a", Outcome.TIMEOUT)
    assert run.machine.finished
    assert run.machine.tries["trial-a-0"] == 2
    assert run.ended("a", 0) is Outcome.TIMEOUT


@pytest.mark.parametrize(
    "outcome", [Outcome.OOM, Outcome.CRASHED, Outcome.INVALID, Outcome.NOT_APPLIED, Outcome.REFUSED]
)
def test_a_trial_whose_cause_does_not_pass_is_not_tried_again(outcome: Outcome) -> None:
    run, only = Run(), launch("a", 2)
    run.begin([only], node("n"))
    run.up("a")
    run.measure("a", 0, outcome)
    assert rows(run.end("a", outcome)) == [], "the launch has written its row"
    [start] = [one for one in starts(run.actions) if one.attempt == 1]
    assert start.trials == only.trials[1:]
    run.finish("a")
    assert run.machine.finished
    assert run.ended("a", 0) is outcome


def test_after_a_crash_in_a_trial_the_others_go_on_at_once() -> None:
    run = Run()
    run.begin([launch("a", 3)], node("n"))
    run.up("a")
    run.fly("a", 0)
    actions = run.end("a", Outcome.CRASHED, reason="KeyError")
    assert told(actions) == [("a-0", 0, Outcome.CRASHED)]
    assert names(actions) == ["a"]


def test_out_of_memory_in_the_first_trial_leaves_the_others_running() -> None:
    run = Run()
    run.begin([launch("a", 3)], node("n"))
    run.up("a")
    run.fly("a", 0)
    actions = run.end("a", Outcome.OOM)
    assert told(actions) == [("a-0", 0, Outcome.OOM)]
    assert [len(start.trials) for start in starts(actions)] == [2]


@pytest.mark.parametrize("outcome", [Outcome.OOM, Outcome.REFUSED])
def test_a_launch_that_would_fail_everywhere_is_recorded_at_once(outcome: Outcome) -> None:
    run = Run()
    run.begin([launch("a", 2)], node("n"), node("m"))
    assert told(run.end("a", outcome, retriable=True)) == [("a-0", 0, outcome), ("a-1", 0, outcome)]
    assert run.machine.finished


def test_a_launch_that_fails_for_its_own_reason_is_recorded_at_once_where_there_is_no_other_node() -> None:
    run = Run()
    run.begin([launch("a", 2)], node("n"))
    assert told(run.end("a", Outcome.LAUNCH_FAILED, reason="unknown argument --foo")) == [
        ("a-0", 0, Outcome.LAUNCH_FAILED),
        ("a-1", 0, Outcome.LAUNCH_FAILED),
    ]
    assert run.machine.finished


def test_a_launch_that_fails_for_its_own_reason_is_tried_once_on_another_node() -> None:
    run = Run()
    run.begin([launch("a")], node("n"), node("m"), node("o"))
    [start] = starts(run.end("a", Outcome.LAUNCH_FAILED))
    assert start.node_ids != ("id-n",)
    assert "id-n" in start.barred
    assert told(run.end("a", Outcome.LAUNCH_FAILED)) == [("a-0", 0, Outcome.LAUNCH_FAILED)]
    assert run.machine.finished


def test_a_retry_waits_for_another_node_while_others_use_the_one_it_failed_on() -> None:
    run = Run()
    run.begin([launch(name) for name in "abc"], node("n"), node("m"))
    assert names(run.end("a", Outcome.LAUNCH_FAILED)) == ["c"]
    assert names(run.finish("b")) == ["a"]
    assert run.where("a") == ("m",)


def test_a_retry_goes_back_to_its_node_where_no_other_is_large_enough() -> None:
    run = Run()
    run.begin([launch("a", gpus=8)], node("big", gpus=8), node("small", gpus=2))
    run.lose("a")
    assert names(run.sleep()) == ["a"]
    assert run.where("a") == ("big",)


def test_a_retry_goes_back_to_its_node_where_the_other_one_has_gone() -> None:
    run = Run()
    run.begin([launch("a"), launch("b")], node("n"), node("m"))
    run.lose("a")
    run.see(node("n"))
    assert [one for one in run.machine.running if run.where(one.removeprefix("launch-")) == ("n",)] == ["launch-b"]
    run.finish("b")
    run.tick(100)
    assert run.where("a") == ("n",)


def test_an_engine_that_ends_well_before_its_trials_is_a_failed_launch() -> None:
    run = Run()
    run.begin([launch("a")], node("n"))
    assert told(run.end("a")) == [("a-0", 0, Outcome.LAUNCH_FAILED)]


def test_a_trial_that_kills_its_node_every_time_takes_no_other_trial_with_it() -> None:
    run = Run()
    nodes = [node(name) for name in "lmnop"]
    run.begin([launch("a", 4)], *nodes)
    while not run.machine.finished:
        if not run.machine.running:
            run.sleep()
        [current] = run.machine.running.values()
        run.place("a")
        for trial in list(current.todo):
            if trial == "trial-a-1":
                run.fly("a", 1)
                nodes = [seen for seen in nodes if seen.node.node_id not in current.node_ids]
                run.see(*nodes)
                break
            run.measure("a", int(trial[-1]))
        else:
            run.end("a")
    assert [run.ended("a", index) for index in range(4)] == [Outcome.OK, Outcome.LOST, Outcome.OK, Outcome.OK]
    assert told(run.actions) == [("a-1", tries, Outcome.LOST) for tries in range(3)]


def test_a_measurement_that_could_not_be_kept_is_made_again_without_blame() -> None:
    run = Run(Rules(breaker=1))
    run.begin([launch("a", 2)], node("n"), node("m"))
    run.up("a")
    run.measure("a", 0, Outcome.LOST)
    run.measure("a", 1, Outcome.INVALID)
    [start] = starts(run.end("a"))
    assert start.tries == (1,)
    assert run.machine.unfit == {}
