"""Which kinds of node a run is planned for, by what was seen of the cluster."""

from __future__ import annotations

from dataclasses import replace

from fleetbench.fleet.nodes.state import NodeState
from fleetbench.fleet.watching import ClusterFleet
from fleetbench.plan.nodes import Node


def seen(name: str, hardware: str, *, stale: bool = False) -> NodeState:
    engines = None if stale else {"llamacpp": "1.2"}
    return NodeState(
        node=Node(node_id=name, name=name, hardware=hardware, gpus=8, engines=engines),
        alive=not stale,
        address="",
        version=None,
        facts=None,
        clock_offset_s=None,
        verdict="stale" if stale else "ready",
        sentence="Ray takes it for dead" if stale else "nothing runs on it",
    )


def fleet(*states: NodeState) -> ClusterFleet:
    return ClusterFleet(say=lambda _: None, states={state.node.node_id: state for state in states})


def test_a_kind_whose_nodes_are_gone_just_now_is_planned_for_and_waited_for() -> None:
    """A controller that goes on while a node starts again would refuse what the run has measured already."""
    kinds = fleet(seen("here", "sim-h100"), seen("away", "sim-b200", stale=True)).planned().kinds
    assert kinds["sim-b200"].engines is None
    assert kinds["sim-h100"].engines == {"llamacpp": "1.2"}


def test_of_a_kind_those_that_are_here_say_what_it_has() -> None:
    kinds = fleet(seen("away", "sim-h100", stale=True), seen("here", "sim-h100")).planned().kinds
    assert (kinds["sim-h100"].nodes, kinds["sim-h100"].engines) == (1, {"llamacpp": "1.2"})


def test_where_no_node_says_what_engines_there_are_nothing_is_planned_for() -> None:
    assert fleet(seen("away", "sim-b200", stale=True)).planned().kinds == {}
    other = replace(seen("liar", "h100"), verdict="mismatched")
    assert fleet(other).planned().kinds == {}
