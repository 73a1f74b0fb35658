"""The nodes of a kind: what is free, and which one a launch gets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleetbench.matrix.types import EngineInfo
from fleetbench.plan.events import Seen
from fleetbench.plan.types import EngineLaunch
from fleetbench.plan.waiting import Waiting
from fleetbench.plan.yard import Yard, same_version
from tests.plan.runs import launch, node


def yard(*seen: Seen) -> Yard:
    found = Yard()
    for one in seen:
        found.see(one)
    return found


def room(found: Yard, one: EngineLaunch, *, avoid: tuple[str, ...] = (), again: bool = False) -> list[str]:
    waits = Waiting(launch=one, seconds=1.0, priority=0, serial=0, avoid=frozenset(f"id-{name}" for name in avoid))
    return [slot.node.name for slot in found.room(waits, again=again)]


def test_the_fullest_node_that_has_room_is_taken() -> None:
    found = yard(node("a", gpus=8), node("b", gpus=8), node("c", gpus=8))
    found.hold(["id-b"], "x", 4)
    found.hold(["id-c"], "y", 6)
    assert room(found, launch("l", gpus=2)) == ["c"]
    assert room(found, launch("l", gpus=3)) == ["b"]
    assert room(found, launch("l", gpus=8)) == ["a"]
    found.hold(["id-a"], "z", 1)
    assert room(found, launch("l", gpus=8)) == []
    found.release("z", ["id-a"])
    assert room(found, launch("l", gpus=8)) == ["a"]


def test_a_node_with_the_weights_goes_before_one_as_full_without() -> None:
    found = yard(node("a", gpus=8), node("b", gpus=8))
    found.slots["id-b"].artifacts.add("weights")
    assert room(found, launch("l", artifact="weights")) == ["b"]


def test_a_whole_node_has_room_for_one() -> None:
    found = yard(node("a", gpus=8, use="whole"))
    assert found.whole
    found.hold(["id-a"], "x", 8)
    assert room(found, launch("l")) == []


def test_a_launch_that_is_wider_than_a_node_gets_empty_ones() -> None:
    found = yard(node("a", gpus=8), node("b", gpus=8), node("c", gpus=4))
    assert room(found, launch("l", gpus=16)) == ["a", "b"]
    assert room(found, launch("l", gpus=24)) == []
    assert (found.able(launch("l", gpus=16)), found.able(launch("l", gpus=24))) == (True, False)
    found.hold(["id-a"], "x", 1)
    assert room(found, launch("l", gpus=16)) == []


def test_nodes_to_avoid_are_left_to_others_unless_there_is_no_choice() -> None:
    found = yard(node("a", gpus=8), node("b", gpus=8))
    found.hold(["id-b"], "x", 8)
    assert room(found, launch("l"), avoid=("a",)) == []
    assert room(found, launch("l"), avoid=("a",), again=True) == ["a"]
    assert found.others_than(("id-a",), launch("l"))
    assert not found.others_than(("id-a", "id-b"), launch("l"))


def test_what_is_unfit_or_lacks_the_engine_or_is_kept_for_another_is_no_room() -> None:
    other = EngineInfo(name="vllm", version="0.33.0", toolchain="none")
    found = yard(node("a", unfit="stale"), node("b", engines={"vllm": "0.32.0"}), node("c", engines={}), node("d"))
    found.slots["id-d"].reserved = (0, (8, "vllm", "0.33.0", frozenset()))
    assert room(found, launch("l", engine=other)) == []
    found.see(node("b", engines={"vllm": "0.33.0+cu128"}))
    assert room(found, launch("l", engine=other)) == ["b"]


def test_a_node_that_is_unfit_or_goes_is_counted_at_once() -> None:
    found = yard(node("a", gpus=8), node("b", gpus=4))
    assert (found.capacity, found.widest) == (12, 8)
    found.see(node("a", gpus=8, unfit="stale"))
    assert (found.capacity, found.widest) == (4, 4)
    assert room(found, launch("l", gpus=4)) == ["b"]
    found.forget("id-a")
    assert (found.capacity, found.widest) == (4, 4)


def test_versions_are_one_whatever_build_they_name() -> None:
    assert same_version("0.33.0+cu128", "0.33.0")
    assert not same_version("0.32.0", "0.33.0")
    assert same_version("not found", "not found")
    assert not same_version(None, "0.33.0")


@given(
    st.lists(st.tuples(st.integers(1, 8), st.booleans()), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=30),
)
def test_gpus_are_never_given_twice(nodes: list[tuple[int, bool]], steps: list[tuple[int, bool]]) -> None:
    found = yard(*(node(str(n), gpus=g, use="whole" if w else "shared") for n, (g, w) in enumerate(nodes)))
    held: dict[str, list[str]] = {}
    for number, (gpus, leave) in enumerate(steps):
        if leave and held:
            name, names = held.popitem()
            found.release(name, names)
            continue
        where = [f"id-{name}" for name in room(found, launch("l", gpus=gpus))]
        if where:
            held[str(number)] = where
            found.hold(where, str(number), -(-gpus // len(where)))
    for slot in found.slots.values():
        assert sum(slot.mine.values()) <= slot.units
        assert slot.node.use == "shared" or len(slot.mine) <= 1
        assert slot.free == (0 if slot.node.use == "whole" and slot.mine else slot.units - sum(slot.mine.values()))
