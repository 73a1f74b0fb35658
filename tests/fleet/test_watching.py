"""Which kinds of node a run is planned for, by what was seen of the cluster."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from fleetbench.fleet import watching
from fleetbench.fleet.nodes import labels
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


def test_nodes_that_are_there_and_not_fit_are_named_with_their_reason_by_kind() -> None:
    liars = [replace(seen(name, "h100"), verdict="mismatched", sentence="it has no GPU") for name in ("liar", "crook")]
    unfit = fleet(*liars, seen("here", "sim-h100"), seen("away", "sim-b200", stale=True)).planned().unfit
    assert unfit == {
        "h100": "crook is mismatched (it has no GPU), and 1 more, see `fleetbench nodes`",
        "sim-b200": "away is stale (Ray takes it for dead), see `fleetbench nodes`",
    }


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A head that answers once the event is set; Ray's own question waits for it as long."""
    answers = threading.Event()

    def nodes() -> list[dict[str, object]]:
        answers.wait()
        return []

    monkeypatch.setattr("ray.nodes", nodes)
    monkeypatch.setattr(watching, "LOOK_S", 0.0)
    monkeypatch.setattr(watching, "ANSWER_S", 0.01)
    yield answers
    answers.set()


def test_a_silent_head_is_told_of_once_and_given_up_before_ray_ends_the_process(
    silence: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not silence.is_set()
    said: list[str] = []
    monkeypatch.setattr(watching, "SILENT_S", 0.0)
    waiting = ClusterFleet(say=said.append)
    assert waiting.look() is None
    assert waiting.look() is None
    assert (len(said), waiting.death()) == (1, None)
    monkeypatch.setattr(watching, "GONE_S", 0.0)
    waiting.look()
    assert "see whether it is up" in (waiting.death() or "")


def test_a_head_that_answers_late_is_no_dead_one(silence: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = ClusterFleet(say=lambda _: None)
    waiting.look()
    silence.set()
    monkeypatch.setattr(watching, "ANSWER_S", 10.0)
    waiting.look()
    monkeypatch.setattr(watching, "GONE_S", 0.0)
    waiting.look()
    assert waiting.death() is None


def test_who_parts_leaves_nobody_behind_that_looks_at_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that joined a moment before the run's end: Ray ends a process that asks it after the parting."""
    entry = {"NodeID": "n", "Alive": True, "Labels": {labels.GPU: "sim-h100"}, "Resources": {}}
    looking: list[threading.Thread] = []

    def survey(_: float, *, only: frozenset[str], left: Callable[[], bool]) -> tuple[NodeState, ...]:
        assert only == {"n"}
        looking.append(threading.current_thread())
        while not left():
            threading.Event().wait(0.001)
        return ()

    monkeypatch.setattr("ray.nodes", lambda: [entry])
    monkeypatch.setattr(watching, "survey", survey)
    parting = ClusterFleet(say=lambda _: None)
    while not looking:
        parting.look()
    parting.part()
    assert not looking[0].is_alive()
