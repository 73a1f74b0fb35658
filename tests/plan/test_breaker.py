"""Nodes that fail, lie, go and come."""

from __future__ import annotations

from dataclasses import replace

from fleetbench.matrix.types import EngineInfo, Outcome, Parallel
from fleetbench.plan.events import LaunchEnded
from fleetbench.plan.rules import Rules
from tests.plan.runs import Run, launch, names, node, rows, starts, told

MANY = [launch(f"l{index:02}") for index in range(20)]


def on(run: Run, name: str) -> str:
    """Which launch runs on this node."""
    [launch_id] = [one for one, what in run.machine.running.items() if what.node_ids == (f"id-{name}",)]
    return launch_id.removeprefix("launch-")


def test_a_node_that_fails_everything_is_left_alone() -> None:
    run = Run(Rules(breaker=3))
    run.begin(MANY, node("bad"), node("good"))
    for _ in range(2):
        run.end(on(run, "bad"), Outcome.LAUNCH_FAILED)
        run.finish(on(run, "good"))
    assert run.machine.unfit == {}
    run.end(on(run, "bad"), Outcome.LAUNCH_FAILED, reason="Xid 79")
    assert run.machine.unfit == {"bad": "3 launches in a row came to nothing on it: Xid 79"}
    assert len(run.machine.running) == 1
    [start] = starts(run.finish(on(run, "good")))
    assert start.barred == ("id-bad",)


def test_a_node_on_which_every_trial_crashes_is_left_alone() -> None:
    run = Run(Rules(breaker=3))
    run.begin(MANY, node("bad"), node("good"))
    for _ in range(3):
        name = on(run, "bad")
        run.measure(name, 0, Outcome.CRASHED)
        run.end(name, Outcome.CRASHED)
    assert "bad" in run.machine.unfit


def test_failures_count_in_a_row_only() -> None:
    run = Run(Rules(breaker=2))
    run.begin(MANY, node("bad"), node("good"))
    run.end(on(run, "bad"), Outcome.LAUNCH_FAILED)
    run.finish(on(run, "bad"))
    run.end(on(run, "bad"), Outcome.LAUNCH_FAILED)
    assert run.machine.unfit == {}


def test_a_launch_that_fails_on_two_nodes_is_at_fault_itself() -> None:
    run = Run(Rules(breaker=2))
    run.begin([launch(f"broken{index}") for index in range(8)], node("m"), node("n"), node("o"))
    while not run.machine.finished:
        run.end(next(iter(run.machine.running)).removeprefix("launch-"), Outcome.LAUNCH_FAILED)
    assert run.machine.unfit == {}
    assert len(rows(run.actions)) == 8


def test_a_node_that_was_wrongly_blamed_is_used_again_at_once() -> None:
    run = Run(Rules(breaker=1))
    run.begin([launch("broken"), launch("b")], node("m"), node("n"))
    run.end("broken", Outcome.LAUNCH_FAILED)
    assert list(run.machine.unfit) == ["m"]
    run.finish("b")
    assert run.where("broken") == ("n",)
    run.end("broken", Outcome.LAUNCH_FAILED)
    assert run.machine.unfit == {}


def test_out_of_memory_and_refusals_are_no_fault_of_the_node() -> None:
    run = Run(Rules(breaker=1))
    run.begin(MANY, node("m"), node("n"))
    for outcome in (Outcome.OOM, Outcome.REFUSED, Outcome.OOM):
        run.end(on(run, "m"), outcome)
        run.measure(on(run, "m"), 0, outcome)
        run.end(on(run, "m"), outcome)
    assert run.machine.unfit == {}


def test_the_last_node_of_a_kind_is_never_left_alone() -> None:
    run = Run(Rules(breaker=1))
    run.begin([*MANY, launch("x", hardware="b200")], node("only"), node("other", hardware="b200"))
    while not run.machine.finished:
        run.end(next(iter(run.machine.running)).removeprefix("launch-"), Outcome.LAUNCH_FAILED)
    assert run.machine.unfit == {}


def test_the_last_node_that_has_the_engine_is_never_left_alone() -> None:
    vllm = EngineInfo(name="vllm", version="1.0", toolchain="x")
    run = Run(Rules(breaker=1))
    run.begin([launch("a", engine=vllm)], node("m", engines={"vllm": "1.0"}), node("n", engines={"sglang": "1.0"}))
    run.lose("a")
    assert run.machine.unfit == {}
    assert names(run.sleep()) == ["a"]


def test_a_node_gets_a_second_chance_in_which_one_failure_is_enough() -> None:
    run = Run(Rules(breaker=2, cooldown_s=600.0))
    run.begin([launch(f"l{index:02}") for index in range(40)], node("bad"), node("good"))
    for _ in range(2):
        run.end(on(run, "bad"), Outcome.LAUNCH_FAILED)
    assert run.machine.wake_s == 600
    assert names(run.tick(599)) == []
    assert len(names(run.tick(1))) == 1
    assert run.machine.unfit == {}
    run.end(on(run, "bad"), Outcome.LAUNCH_FAILED)
    assert list(run.machine.unfit) == ["bad"]
    run.tick(600)
    run.finish(on(run, "bad"))
    run.end(on(run, "bad"), Outcome.LAUNCH_FAILED)
    assert run.machine.unfit == {}, "a success clears the count"


def test_a_node_that_was_left_alone_is_used_when_it_is_the_last_one() -> None:
    run = Run(Rules(breaker=1))
    run.begin(MANY, node("bad"), node("good"))
    run.end(on(run, "bad"), Outcome.LAUNCH_FAILED)
    assert list(run.machine.unfit) == ["bad"]
    assert len(names(run.see(node("bad")))) == 1
    assert run.machine.blocked == {}


def test_a_lying_node_is_out_and_its_launch_starts_elsewhere_with_no_try_lost() -> None:
    run = Run(Rules(tries=1))
    run.begin([launch("a"), launch("b")], node("liar"), node("honest"))
    run.finish("b")
    actions = run.end("a", Outcome.REFUSED, unfit="tagged h100, but there is an A100")
    assert rows(actions) == []
    [start] = starts(actions)
    assert (start.node_ids, start.barred, start.attempt) == (("id-honest",), ("id-liar",), 1)
    assert run.machine.unfit == {"liar": "tagged h100, but there is an A100"}
    assert told(run.lose("a")) == [("a-0", 0, Outcome.LOST)], "that was its first try"


def test_a_lying_node_is_out_though_it_is_the_last_one() -> None:
    run = Run(Rules(nodes_s=120.0))
    run.begin([launch("a")], node("liar"))
    run.end("a", Outcome.REFUSED, unfit="an A100")
    assert run.machine.blocked == {"h100": "1 launch waits: no node of kind h100 may be measured on (an A100)"}
    assert run.machine.wake_s == 120
    [row] = rows(run.sleep())
    assert row.outcome is Outcome.CANCELLED
    assert "an A100" in row.reason
    assert run.machine.finished


def test_a_node_that_lies_again_and_again_is_given_up_however_long_nodes_are_waited_for() -> None:
    run = Run(Rules(nodes_s=900.0, cooldown_s=600.0))
    run.begin([launch("a")], node("liar"))
    for _ in range(20):
        for name in [one.removeprefix("launch-") for one in run.machine.running]:
            run.end(name, Outcome.REFUSED, unfit="an A100")
        if run.machine.finished:
            break
        run.sleep()
    assert run.machine.finished
    assert len(starts(run.actions)) == 2


def test_a_node_that_the_fleet_calls_unfit_is_not_used() -> None:
    run = Run()
    assert names(run.begin([launch("a")], node("n", unfit="stale"))) == []
    assert run.machine.unfit == {"n": "stale"}
    assert names(run.see(node("n"))) == ["a"]


def test_work_without_a_node_of_its_kind_says_so_and_is_given_up_after_a_while() -> None:
    run = Run(Rules(nodes_s=120.0))
    run.begin([launch("a", 2, hardware="b200"), launch("b", hardware="b200")], node("n"))
    assert run.machine.blocked == {"b200": "2 launches wait: no node of kind b200 is in the fleet"}
    assert run.tick(119) == []
    actions = run.tick(1)
    assert told(actions) == [(name, 0, Outcome.CANCELLED) for name in ("a-0", "a-1", "b-0")]
    assert {row.reason for row in rows(actions)} == {
        "no node of kind b200 is in the fleet, and none came for 120 s (see `fleetbench nodes`)"
    }
    assert run.machine.finished
    assert run.machine.blocked == {}


def test_work_without_a_node_goes_on_as_soon_as_one_comes() -> None:
    run = Run()
    run.begin([launch("a", hardware="b200")], node("n"))
    run.tick(60)
    assert names(run.see(node("n"), node("m", hardware="b200"))) == ["a"]
    assert run.machine.blocked == {}


def test_the_time_without_nodes_counts_from_new_once_there_were_some() -> None:
    run = Run(Rules(nodes_s=100.0))
    run.begin([launch("a"), launch("b")])
    run.see()
    run.tick(90)
    run.see(node("n"))
    run.finish("a")
    run.see()
    assert rows(run.tick(90)) == []
    assert names(run.see(node("n"))) == ["b"]


def test_what_waits_is_named_by_what_it_lacks() -> None:
    run = Run()
    vllm = EngineInfo(name="vllm", version="0.9", toolchain="x")
    run.begin(
        [launch("a", engine=vllm), launch("b", hardware="b200", gpus=16)],
        node("n", engines={"vllm": "0.8"}),
        node("m", hardware="b200", gpus=8),
    )
    assert run.machine.blocked == {
        "h100": "1 launch waits: no node of kind h100 has vllm 0.9",
        "b200": "1 launch waits: no 16 GPUs of kind b200 can be had together",
    }


def test_work_that_lacks_an_engine_lets_the_rest_of_its_kind_run() -> None:
    run = Run(Rules(nodes_s=50.0))
    vllm = EngineInfo(name="vllm", version="0.9", toolchain="x")
    run.begin([launch("a", engine=vllm), launch("b")], node("n", engines={"llamacpp": "2026.10.11549"}))
    assert names(run.actions) == ["b"]
    run.finish("b")
    assert told(run.sleep()) == [("a-0", 0, Outcome.CANCELLED)]
    assert run.machine.finished


def test_an_engine_on_small_nodes_only_is_not_waited_for_on_large_ones() -> None:
    run = Run()
    vllm = EngineInfo(name="vllm", version="0.9", toolchain="x")
    small = [node(name, gpus=4, engines={"vllm": "0.9"}) for name in "mn"]
    fleet = [node("big", gpus=8, engines={}), *small]
    [start] = starts(run.begin([launch("a", gpus=8, engine=vllm)], *fleet))
    assert (set(start.node_ids), start.gpus) == ({"id-m", "id-n"}, 4)


def test_a_node_that_vanishes_loses_its_launches() -> None:
    run = Run()
    run.begin([launch("a"), launch("b")], node("n"), node("m"))
    run.up("a")
    run.up("b")
    run.fly("a", 0)
    actions = run.see(node("m"))
    assert [(row.trial.trial_id, row.outcome, row.reason) for row in rows(actions)] == [
        ("trial-a-0", Outcome.LOST, "its node n is gone")
    ]
    assert list(run.machine.running) == ["launch-b"]


def test_a_launch_whose_node_goes_before_it_is_placed_waits_again_with_no_try_lost() -> None:
    run = Run(Rules(tries=1))
    run.begin([launch("a")], node("n"))
    assert rows(run.see()) == []
    assert not run.machine.running
    assert run.machine.blocked == {"h100": "1 launch waits: no node of kind h100 is in the fleet"}
    assert names(run.see(node("m"))) == ["a"]
    assert run.where("a") == ("m",)


def test_a_node_with_another_tag_is_another_node() -> None:
    run = Run()
    run.begin([launch("a"), launch("b", hardware="b200")], node("n"))
    run.up("a")
    actions = run.see(node("n", hardware="b200"))
    assert names(actions) == ["b"]
    assert "launch-a" not in run.machine.running


def test_a_launch_with_nothing_left_is_not_started_again() -> None:
    run = Run()
    run.begin([launch("a")], node("n"), node("m"))
    run.measure("a", 0)
    assert starts(run.end("a", Outcome.REFUSED, unfit="an A100")) == []
    assert run.machine.finished


def test_of_several_nodes_only_the_one_that_lies_is_out() -> None:
    run = Run()
    run.begin([launch("wide", gpus=16)], node("m", gpus=8), node("n", gpus=8))
    run.tell(
        LaunchEnded(launch_id="launch-wide", outcome=Outcome.REFUSED, reason=None, unfit="an A100", unfit_node="id-n")
    )
    assert run.machine.unfit == {"n": "an A100"}


def test_on_an_autoscaled_fleet_launches_wait_where_nodes_may_come_for_them() -> None:
    run = Run(Rules(autoscaled=True, window=2, nodes_s=100.0))
    actions = run.begin([launch("a"), launch("b"), launch("c")]) + run.see()
    assert [(start.launch.launch_id, start.node_ids) for start in starts(actions)] == [
        ("launch-a", ()),
        ("launch-b", ()),
    ]
    run.place("a", "new")
    run.see(node("new"))
    assert run.where("a") == ("new",)


def test_on_an_autoscaled_fleet_a_launch_over_several_nodes_has_all_of_them_come() -> None:
    run = Run(Rules(autoscaled=True, nodes_s=100.0))
    wide = replace(launch("wide"), parallel=Parallel(tp=8, pp=2))
    (start,) = starts(run.begin([wide]) + run.see(node("there", gpus=8)))
    assert (start.node_ids, start.nodes, start.gpus, start.share) == ((), 2, 8, 1.0)
    assert run.machine.blocked


def test_an_autoscaled_fleet_that_does_not_grow_is_given_up() -> None:
    run = Run(Rules(autoscaled=True, nodes_s=100.0))
    run.begin([launch("a"), launch("b", hardware="b200")])
    run.see()
    assert sorted(told(run.tick(100))) == [("a-0", 0, Outcome.CANCELLED), ("b-0", 0, Outcome.CANCELLED)]
    assert run.machine.finished
