"""The run's state machine on a fleet on paper: whatever goes wrong, it ends, and nothing is had twice."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.fleet.simulation.faults import Faults, parse
from fleetbench.fleet.simulation.schedule import Bar, Simulation
from fleetbench.fleet.simulation.simulator import DEATH_S, NODE_GONE_S, PLACE_S, STOP_S, World, nodes_of, simulate
from fleetbench.fleet.simulation.times import Times
from fleetbench.matrix.types import Outcome
from fleetbench.plan.nodes import Node, Use
from fleetbench.plan.rules import Rules
from fleetbench.plan.types import EngineLaunch, Fleet, NodeKind
from tests.plan.runs import launch


def nodes(count: int, *, gpus: int = 8, use: Use = "shared", kind: str = "h100") -> list[Node]:
    return nodes_of(Fleet(kinds={kind: NodeKind(hardware=kind, gpus=gpus, nodes=count, use=use)}, about=""))


def times(of: EngineLaunch, seconds: float) -> Times:
    """A tenth of the time until the engine is up, the rest in equal trials."""
    each = 0.9 * seconds / len(of.trials)
    return Times(start_s=0.1 * seconds, trials_s={trial.trial_id: each for trial in of.trials})


def simulated(
    launches: Mapping[EngineLaunch, float], fleet: Sequence[Node], *, rules: Rules | None = None, **world: Any
) -> Simulation:
    estimates = {one.launch_id: times(one, seconds) for one, seconds in launches.items()}
    given = dataclasses.replace(World(unsure=0.0), **world)
    return simulate(list(launches), fleet, estimates, rules=rules or Rules(), world=given)


def where(found: Simulation) -> list[tuple[str, float, float]]:
    return [(bar.launch.label.split()[-1], round(bar.start_s, 3), round(bar.end_s, 3)) for bar in found.bars]


def test_a_launch_takes_its_time_from_its_placing() -> None:
    found = simulated({launch("a", 2): 10.0}, nodes(1))
    assert where(found) == [("a", PLACE_S, PLACE_S + 10.0)]
    assert found.outcomes == {Outcome.OK: 2}
    assert (found.makespan_s, found.bound_s) == pytest.approx((10.5, 10.0))


def test_launches_share_a_node_as_far_as_its_gpus_go() -> None:
    found = simulated({launch(name, gpus=4): 10.0 for name in "abc"}, nodes(1))
    assert where(found) == [("a", 0.5, 10.5), ("b", 0.5, 10.5), ("c", 11.0, 21.0)]
    assert [bar.gpus for bar in found.bars] == [((0, 1, 2, 3),), ((4, 5, 6, 7),), ((0, 1, 2, 3),)]
    assert found.kinds[0].busy == pytest.approx(120 / (8 * 21.0))


def test_a_whole_node_is_for_one_launch_and_all_of_it_counts_as_busy() -> None:
    found = simulated({launch(name, gpus=2): 10.0 for name in "ab"}, nodes(1, use="whole"))
    assert where(found) == [("a", 0.5, 10.5), ("b", 11.0, 21.0)]
    assert found.bound_s == pytest.approx(20.0)
    assert found.kinds[0].busy == pytest.approx(20 / 21)


def test_a_launch_that_spans_nodes_has_them_together() -> None:
    found = simulated({launch("wide", gpus=16): 10.0, launch("small"): 5.0}, nodes(2))
    wide = next(bar for bar in found.bars if bar.launch.parallel.gpus == 16)
    assert wide.nodes == ("h100-1", "h100-2")
    assert wide.held == 16
    assert found.outcomes == {Outcome.OK: 2}


def test_nodes_without_gpus_run_one_launch_at_a_time() -> None:
    found = simulated({launch("a"): 10.0, launch("b"): 10.0}, nodes(1, gpus=0))
    assert where(found) == [("a", 0.5, 10.5), ("b", 11.0, 21.0)]


def test_the_plans_order_can_be_kept() -> None:
    launches = {launch("short"): 1.0, launch("long"): 9.0}
    assert [name for name, _, _ in where(simulated(launches, nodes(1, gpus=1)))] == ["long", "short"]
    rules = Rules(order="first-come")
    assert [name for name, _, _ in where(simulated(launches, nodes(1, gpus=1), rules=rules))] == ["short", "long"]


def test_true_times_are_off_by_what_is_unsure_and_the_same_for_a_seed() -> None:
    launches = {launch(str(number)): 100.0 for number in range(20)}
    found = simulated(launches, nodes(4), unsure=0.3, seed=7)
    assert all(70 <= bar.seconds <= 130 for bar in found.bars)
    assert len({bar.seconds for bar in found.bars}) == 20
    assert simulated(launches, nodes(4), unsure=0.3, seed=7).bars == found.bars
    assert simulated(launches, nodes(4), unsure=0.3, seed=8).bars != found.bars


@pytest.mark.parametrize(
    ("faults", "outcome", "starts"),
    [
        (Faults(lost=1.0), Outcome.LOST, range(3, 8)),
        (Faults(oom=1.0), Outcome.OOM, range(1, 2)),
        (Faults(fail=1.0), Outcome.LAUNCH_FAILED, range(1, 3)),
        (Faults(timeout=1.0), Outcome.TIMEOUT, range(2, 5)),
        (Faults(crash=1.0), Outcome.CRASHED, range(1, 3)),
    ],
)
def test_what_always_goes_wrong_is_the_outcome_in_the_end(faults: Faults, outcome: Outcome, starts: range) -> None:
    found = simulated({launch("a"): 10.0}, nodes(2), faults=faults, trial_limit_s=20.0)
    assert found.outcomes == {outcome: 1}
    assert len(found.bars) in starts


def test_a_node_on_which_nothing_starts_is_left_alone_and_the_others_do_the_work() -> None:
    launches = {launch(str(number), 2): 50.0 for number in range(60)}
    found = simulated(launches, nodes(4), faults=Faults(bad=0.25), seed=0)
    tries = {share.node.name: share.tries for share in found.node_shares if share.failed}
    assert found.outcomes == {Outcome.OK: 120}
    assert len(tries) == 1
    assert max(tries.values()) <= 8 + Rules().breaker


def test_all_on_a_node_that_dies_is_lost_and_runs_again_and_the_node_comes_back() -> None:
    launches = {launch(str(number)): 400.0 for number in range(16)}
    found = simulated(launches, nodes(1), faults=Faults(node=0.1), seed=1)
    lost = [bar for bar in found.bars if bar.outcome is Outcome.LOST]
    assert lost
    for death in {bar.end_s for bar in lost}:
        later = [bar.start_s for bar in found.bars if bar.start_s > death]
        assert min(later, default=death + NODE_GONE_S) >= death + NODE_GONE_S > death + DEATH_S + STOP_S
    assert sum(found.outcomes.values()) == 16


def test_money_that_is_spent_ends_the_run() -> None:
    launches = {launch(str(number), gpus=8): 3600.0 for number in range(10)}
    found = simulated(launches, nodes(1), rules=Rules(cost_usd=40.0, price_usd_h={"h100": 1.0}))
    assert found.outcomes == {Outcome.OK: 5, Outcome.CANCELLED: 5} or found.outcomes[Outcome.OK] == 4
    assert found.cost_usd <= 40.1
    assert found.kinds[0].cost_usd == pytest.approx(found.cost_usd)


def test_work_that_no_node_can_run_is_given_up() -> None:
    found = simulated({launch("wide", gpus=32): 10.0, launch("a"): 1.0}, nodes(2))
    assert found.outcomes == {Outcome.OK: 1, Outcome.CANCELLED: 1}


KINDS = ("h100", "b200")


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[EngineLaunch, float], list[Node], dict[str, Any]]:
    fleet = [
        node
        for kind in KINDS
        for node in nodes(
            draw(st.integers(1, 4)),
            gpus=draw(st.sampled_from((0, 1, 4, 6, 8))),
            use=draw(st.sampled_from(("shared", "whole"))),
            kind=kind,
        )
    ]
    launches = {
        launch(
            str(number),
            draw(st.integers(1, 4)),
            gpus=draw(st.sampled_from((1, 2, 3, 4, 8, 16))),
            hardware=draw(st.sampled_from(KINDS)),
            role=draw(st.sampled_from(("measure", "measure", "control"))),
        ): draw(st.floats(1.0, 1000.0))
        for number in range(draw(st.integers(1, 16)))
    }
    chances = {name: draw(st.sampled_from((0.0, 0.0, 0.1, 0.5))) for name in Faults.__dataclass_fields__}
    world: dict[str, Any] = {"faults": Faults(**chances), "seed": draw(st.integers(0, 9)), "unsure": 0.3}
    return launches, fleet, world


def overlaps(bars: Sequence[Bar]) -> bool:
    ordered = sorted(bars, key=lambda bar: bar.start_s)
    return any(after.start_s < before.end_s for before, after in itertools.pairwise(ordered))


@settings(max_examples=60, deadline=None)
@given(worlds(), st.sampled_from(("balanced", "first-come")))
def test_whatever_goes_wrong_every_trial_ends_once_and_no_gpu_is_had_twice(
    made: tuple[dict[EngineLaunch, float], list[Node], dict[str, Any]], order: str
) -> None:
    launches, fleet, world = made
    rules = Rules(order="balanced" if order == "balanced" else "first-come")
    found = simulated(launches, fleet, rules=rules, **world)
    assert sum(found.outcomes.values()) == found.trials == sum(len(one.trials) for one in launches)
    held: dict[tuple[str, int], list[Bar]] = {}
    for bar in found.bars:
        for name, gpus in zip(bar.nodes, bar.gpus, strict=True):
            for gpu in gpus:
                held.setdefault((name, gpu), []).append(bar)
    assert not any(overlaps(bars) for bars in held.values())
    for node in (one for one in fleet if one.use == "whole" or not one.gpus):
        assert not overlaps([bar for bar in found.bars if node.name in bar.nodes])
    for kind in found.kinds:
        assert kind.makespan_s >= kind.bound_s * (1 - 1e-9)
        assert kind.busy is None or kind.busy <= 1 + 1e-9
    again = simulated(launches, fleet, rules=rules, **world)
    assert dataclasses.replace(again, machine_cpu_s=0.0) == dataclasses.replace(found, machine_cpu_s=0.0)


def test_the_order_is_near_the_bound_where_there_is_work_enough() -> None:
    launches = {
        launch(str(number), gpus=(1, 2, 4, 8)[number % 4]): 10.0 * 1.01 ** (number * 7 % 460) for number in range(400)
    }
    found = simulated(launches, nodes(4), unsure=0.3)
    first = simulated(launches, nodes(4), unsure=0.3, rules=Rules(order="first-come"))
    assert found.ratio is not None
    assert first.ratio is not None
    assert found.ratio < 1.05
    assert found.ratio < first.ratio


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss=0.1", "'loss' is no known fault (did you mean lost?)"),
        ("zzz=0.1", "known: lost, node, fail, oom, crash, timeout, bad"),
        ("lost", "NAME=PROBABILITY"),
        ("lost=much", "NAME=PROBABILITY"),
        ("lost=-0.1", "from 0 to 1"),
        ("lost=1.5", "from 0 to 1"),
        ("lost=nan", "from 0 to 1"),
        ("lost=0.1,lost=0.2", "stands twice"),
    ],
)
def test_a_fault_that_means_nothing_is_said(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        parse(text)


def test_faults_are_read_as_they_are_written() -> None:
    assert parse("") == Faults()
    assert parse(" lost=0.01, node = 0.5 ") == Faults(lost=0.01, node=0.5)
    assert str(parse("oom=0.5,lost=0.01")) == "lost=0.01,oom=0.5"
