"""What a run may cost, in time and money."""

from __future__ import annotations

import pytest

from fleetbench.matrix.types import Outcome
from fleetbench.plan.rules import Rules
from tests.plan.runs import Run, launch, names, node, rows, told

HOUR_S = 3600.0


def priced(cost_usd: float, **prices: float) -> Rules:
    return Rules(cost_usd=cost_usd, price_usd_h=prices or {"h100": 1.0})


def test_when_the_runs_time_is_over_all_that_is_left_is_cancelled() -> None:
    run = Run(Rules(wall_s=100.0), now_s=5000.0)
    run.begin([launch("a", 3), launch("b"), launch("c")], node("n"))
    run.up("a")
    run.measure("a", 0)
    run.fly("a", 1)
    assert run.tick(99) == []
    assert run.machine.wake_s == 5100
    actions = run.tick(1)
    assert sorted(told(actions)) == [(name, 0, Outcome.CANCELLED) for name in ("a-1", "a-2", "b-0", "c-0")]
    assert {row.reason for row in rows(actions)} == {"the run's time of 100 s is over (limits: wall)"}
    assert run.machine.finished
    assert names(run.see(node("n"))) == []


def test_second_tries_are_cancelled_too_when_the_time_is_over() -> None:
    run = Run(Rules(wall_s=100.0, backoff_s=1000.0))
    run.begin([launch("a")], node("n"))
    run.fly("a", 0)
    run.lose("a")
    assert told(run.tick(100)) == [("a-0", 1, Outcome.CANCELLED)]
    assert run.machine.finished


def test_a_run_pays_for_the_gpus_it_keeps_from_others_while_they_are_its() -> None:
    run = Run(priced(1000.0, h100=1.0, b200=2.0))
    shared, whole = node("n", gpus=8), node("m", gpus=8, hardware="b200", use="whole")
    run.begin([launch("a", gpus=2), launch("b", gpus=2, hardware="b200")], shared, whole)
    run.tick(HOUR_S)
    assert run.machine.cost_usd(run.now_s) == 0, "nothing while it waits to be placed"
    run.place("a")
    run.tick(HOUR_S)
    assert run.machine.cost_usd(run.now_s) == pytest.approx(2.0)
    run.place("b")
    run.tick(HOUR_S)
    assert run.machine.cost_usd(run.now_s) == pytest.approx(2 * 2.0 + 8 * 2.0)
    run.finish("a")
    run.finish("b")
    assert run.machine.cost_usd(run.now_s + HOUR_S) == pytest.approx(20.0), "what ended costs no more"


def test_when_the_money_is_spent_all_that_is_left_is_cancelled() -> None:
    run = Run(priced(2.0))
    run.begin([launch("a", 2), launch("b")], node("n"), seconds={"a": HOUR_S, "b": HOUR_S})
    run.up("a")
    run.fly("a", 0)
    assert run.machine.wake_s == 2 * HOUR_S
    actions = run.sleep()
    assert sorted(told(actions)) == [(name, 0, Outcome.CANCELLED) for name in ("a-0", "a-1", "b-0")]
    assert {row.reason for row in rows(actions)} == {"the run's 2 USD are spent (limits: cost_usd)"}
    assert run.machine.finished


def test_launches_that_wait_to_be_placed_are_counted_before_more_are_started() -> None:
    run = Run(priced(2.5))
    launches = [launch(f"l{index}") for index in range(8)]
    assert len(names(run.begin(launches, node("n", gpus=8), seconds={f"l{i}": HOUR_S for i in range(8)}))) == 2


def test_cheap_launches_may_go_where_dear_ones_may_not() -> None:
    run = Run(priced(1.0))
    run.begin(
        [launch("dear"), launch("wide", gpus=8), launch("cheap"), launch("short")],
        node("n", gpus=8),
        seconds={"dear": 2 * HOUR_S, "wide": HOUR_S, "cheap": HOUR_S / 2, "short": HOUR_S / 4},
    )
    assert names(run.actions) == ["cheap", "short"]
    run.finish("cheap")
    actions = run.finish("short")
    assert sorted(told(actions)) == [(name, 0, Outcome.CANCELLED) for name in ("dear-0", "wide-0")]
    assert {row.reason for row in rows(actions)} == {
        "of the run's 1 USD too little is left for another launch (limits: cost_usd)"
    }
    assert run.machine.finished


def test_a_launch_is_judged_by_the_node_that_it_would_keep() -> None:
    run = Run(priced(2.0))
    actions = run.begin([launch("a")], node("n", gpus=8, use="whole"), seconds={"a": HOUR_S})
    assert told(actions) == [("a-0", 0, Outcome.CANCELLED)]
    assert run.machine.finished


def test_where_money_is_short_a_launch_goes_where_it_keeps_the_least() -> None:
    run = Run(priced(2.0))
    run.begin([launch("a")], node("n", gpus=8, use="whole"), node("m", gpus=8), seconds={"a": HOUR_S})
    assert run.where("a") == ("m",)


def test_money_that_one_kind_has_not_spent_is_there_for_another() -> None:
    run = Run(priced(1.5, h100=1.0, b200=1.0))
    run.begin(
        [launch("a"), launch("b", hardware="b200")],
        node("n"),
        node("m", hardware="b200"),
        seconds={"a": HOUR_S, "b": HOUR_S},
    )
    assert names(run.actions) == ["a"]
    assert names(run.finish("a")) == ["b"], "it took no time at all"


def test_kinds_without_a_price_cost_nothing() -> None:
    run = Run(priced(1.0, b200=9.0))
    run.begin([launch("a")], node("n"), seconds={"a": 100 * HOUR_S})
    run.place("a")
    run.tick(100 * HOUR_S)
    assert run.machine.cost_usd(run.now_s) == 0
    assert list(run.machine.running) == ["launch-a"]


def test_a_node_kept_for_a_launch_that_cannot_be_paid_is_free_for_others() -> None:
    run = Run(priced(1.0))
    run.begin([launch("s0"), launch("s1")], node("n", gpus=2), seconds={"s0": 600.0, "s1": 600.0})
    run.machine.begin([launch("big", gpus=2)], seconds={"launch-big": 0.9 * HOUR_S}, now_s=0.0)
    run.machine.begin([launch("t")], seconds={"launch-t": 60.0}, now_s=0.0)
    run.place("s0")
    run.place("s1")
    run.finish("s0")
    assert names(run.finish("s1")) == ["t"]
    assert sorted(told(run.finish("t"))) == [("big-0", 0, Outcome.CANCELLED)]
    assert run.machine.finished
