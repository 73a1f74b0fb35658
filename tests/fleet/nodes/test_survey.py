"""What is tagged against what is there, on a real cluster of simulated nodes; and the verdicts by themselves."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from fleetbench.cli.nodes import CLEAR, rows_of
from fleetbench.fleet.control.desk import desk
from fleetbench.fleet.nodes import labels
from fleetbench.fleet.nodes.connection import connected
from fleetbench.fleet.nodes.facts import NodeFacts
from fleetbench.fleet.nodes.inspection import device_problem
from fleetbench.fleet.nodes.state import KnownRun, Look, NodeState, judge, tagged, with_names, without_ghosts
from fleetbench.fleet.nodes.survey import survey
from tests.cli.shell import fleetbench
from tests.fleet.cluster import FakeFleet, FakeNode, bare_facts, fleet
from tests.fleet.nodes.test_labels import entry, with_gpus
from tests.fleet.told import LAUNCH, STATUS

NODES = (
    FakeNode(tag="sim-h100", name="first"),
    FakeNode(tag="sim-h100", name="second", use="shared", pool="trial"),
    FakeNode(tag="sim-mi300x", gpus=4, name="third"),
    FakeNode(tag="h100", name="liar"),
    FakeNode(tag="sim-h100", name="old", labels={labels.VERSION: "0.0.1"}),
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeFleet]:
    with fleet(NODES, quick_health=True) as up:
        yield up


@pytest.fixture
def driver(cluster: FakeFleet) -> Iterator[FakeFleet]:
    with connected(cluster.address, cluster.token, pytest.fail):
        yield cluster


def look_around(timeout_s: float = 60) -> dict[str, NodeState]:
    return {state.node.name: state for state in survey(timeout_s)}


@pytest.mark.ray
def test_every_tagged_node_is_seen_as_it_is(driver: FakeFleet) -> None:
    found = look_around()
    assert {name: state.verdict for name, state in found.items()} == {
        "first": "ready",
        "second": "ready",
        "third": "ready",
        "liar": "mismatched",
        "old": "other-version",
    }
    assert "has no GPU" in found["liar"].sentence
    assert "0.0.1" in found["old"].sentence
    assert all(state.remedy for state in found.values() if not state.measurable)
    second = found["second"]
    assert (second.node.use, second.node.pool, second.gpus_free, second.share_free) == ("shared", "trial", 8, 1)
    assert second.node.engines is not None
    assert "llamacpp" in second.node.engines
    assert all(abs(state.clock_offset_s or 9) < 1 for state in found.values())
    assert driver.nodes.keys() - {"head"} == found.keys()
    columns = rows_of(list(found.values()))
    by_name = {row[0]: dict(zip(columns.columns, row, strict=True)) for row in columns.rows}
    assert by_name["third"]["hardware"] == "sim-mi300x"
    assert by_name["liar"]["state"] == "mismatched"
    assert str(by_name["first"]["engines"]).startswith("llamacpp ")


@pytest.mark.ray
@pytest.mark.usefixtures("driver")
def test_a_launch_is_seen_where_it_is_and_what_it_took() -> None:
    class Launch:
        def up(self) -> None: ...

    share = {labels.NODE: 0.5}
    asks: Any = ray.remote(num_cpus=0, num_gpus=3, resources=share, label_selector={labels.HOST: "second"})
    actor = asks(Launch).options(name="launch:run:one").remote()
    ray.get(actor.up.remote(), timeout=60)
    state = look_around()["second"]
    assert (state.verdict, state.launches, state.gpus_free, state.share_free) == ("busy", ("run:one",), 5, 0.5)
    assert state.measurable


@pytest.mark.ray
def test_a_busy_node_is_told_by_the_names_of_run_and_launch(driver: FakeFleet, tmp_path: Path) -> None:
    class Launch:
        def up(self) -> None: ...

    asks: Any = ray.remote(num_cpus=0, num_gpus=2, resources={labels.NODE: 1}, label_selector={labels.HOST: "first"})
    with desk(STATUS.run_id) as opened:
        opened.tell(STATUS)
        launch = asks(Launch).options(name=f"launch:{STATUS.run_id}:{LAUNCH.launch_id}:0").remote()
        ray.get(launch.up.remote(), timeout=60)
        shown = fleetbench("nodes", "--address", driver.address, "--token", str(driver.token), folder=tmp_path)
    assert re.search(r"first +8 x sim-h100 +played by CPU +0 .*busy", shown.out), shown
    assert "first: measuring zoo/nightly (tiny f16)\n" in shown.out


@pytest.mark.ray
def test_a_terminal_is_told_how_many_nodes_are_looked_at(cluster: FakeFleet) -> None:
    main, terminal = pty.openpty()
    words = ("nodes", "--address", cluster.address, "--token", str(cluster.token))
    with subprocess.Popen(
        [sys.executable, "-m", "fleetbench", *words], stderr=terminal, stdout=subprocess.DEVNULL
    ) as process:
        os.close(terminal)
        said = ""
        while not said.endswith(CLEAR):
            said += os.read(main, 4096).decode()
        process.wait()
    os.close(main)
    assert said == f"looking at {len(NODES)} nodes ...{CLEAR}"


@pytest.mark.ray
def test_the_table_says_it_on_80_columns_with_remedies_and_fails(cluster: FakeFleet, tmp_path: Path) -> None:
    shown = fleetbench("nodes", "--address", cluster.address, "--token", str(cluster.token), folder=tmp_path)
    assert (shown.code, shown.err) == (1, "")
    assert "5 nodes at" in shown.out
    assert "3 ready" in shown.out
    assert "tag it anew" in shown.out
    assert "on every node" in shown.out
    table = shown.out.split("\n\n")[0]
    assert max(map(len, table.splitlines())) <= 80
    assert shown.out.count("\n\n") == 2, "the table, what is wrong, the engines"


@pytest.mark.ray
def test_a_node_that_stands_still_or_died_is_stale_and_one_that_left_is_not_told_of(driver: FakeFleet) -> None:
    driver.signal("first", signal.SIGSTOP)
    try:
        assert look_around(3)["first"].verdict == "stale"
    finally:
        driver.signal("first", signal.SIGCONT)
    driver.kill("third")
    driver.take_down("second")
    found = look_around(20)
    assert found["third"].verdict == "stale"
    assert "node up" in (found["third"].remedy or "")
    assert "second" not in found


def judged(
    facts: NodeFacts | None,
    *,
    free: dict[str, float] | None = None,
    look: Look | None = None,
    launches: tuple[str, ...] = (),
    **more: Any,
) -> NodeState:
    said = labels.labels_of(with_gpus(8), tag="h100", gpus=8, name="box")
    one = entry(said, **{"Resources": {"GPU": 8.0, "fb_node": 1.0}, **more})
    node = labels.node_of(one)
    assert node is not None
    return judge(
        one,
        node,
        look or Look(facts=facts),
        free={"GPU": 8.0, "fb_node": 1.0} if free is None else free,
        launches=launches,
        ours=with_gpus(8).version,
        device_problem=device_problem,
    )


def test_a_node_with_the_gpus_of_its_tag_is_ready() -> None:
    state = judged(with_gpus(8))
    assert (state.verdict, state.remedy, state.note) == ("ready", None, None)
    assert (state.gpus_total, state.gpus_free) == (8, 8)


def test_a_gpu_that_fell_off_the_bus_is_a_mismatch() -> None:
    state = judged(with_gpus(7))
    assert state.verdict == "mismatched"
    assert "8 GPUs, and has 7" in state.sentence


def test_gpus_that_ray_counts_otherwise_are_a_mismatch() -> None:
    assert "Ray counts 4" in judged(with_gpus(8), Resources={"GPU": 4.0}).sentence


def test_settings_that_cannot_be_read_are_a_mismatch_with_their_reason() -> None:
    assert judged(replace(with_gpus(8), problem="node.yaml:3: x")).sentence == "node.yaml:3: x"


def test_what_is_all_taken_is_missing_in_ray_s_free_resources_and_busy_here() -> None:
    state = judged(with_gpus(8), free={"CPU": 1.0})
    assert (state.verdict, state.gpus_free, state.share_free) == ("busy", 0, 0)
    assert state.sentence == "8 of 8 GPUs taken"
    part = judged(with_gpus(8), free={"GPU": 8.0, "fb_node": 0.5})
    assert part.verdict == "busy"


def test_a_node_that_launches_have_whole_has_all_its_gpus_free_or_none() -> None:
    assert judged(with_gpus(8)).gpus_open == 8
    assert judged(with_gpus(8), free={"GPU": 6.0}).gpus_open == 0
    assert judged(with_gpus(7)).gpus_open is None, "nothing is measured there"


def test_a_shared_node_has_the_gpus_that_its_share_allows() -> None:
    part = judged(with_gpus(8), free={"GPU": 8.0, "fb_node": 0.375})
    assert replace(part, node=replace(part.node, use="shared")).gpus_open == 3


def test_launches_are_told_by_name_and_those_of_unknown_runs_by_id() -> None:
    busy = judged(with_gpus(8), free={}, launches=("r1:l1:0", "r1:l2:1", "r2:l1:0:1"))
    known = KnownRun(name="zoo/nightly", launches={"l1": "tiny f16"})
    assert with_names(busy, {"r1": known}).sentence == "measuring zoo/nightly (tiny f16, l2), r2 (l1)"
    assert with_names(judged(with_gpus(8)), {"r1": known}).sentence == "nothing runs on it"


def test_nobody_knows_what_is_free_on_a_dead_node() -> None:
    state = judged(None, look=Look(), Alive=False, DeathReasonMessage="missed too many\n heartbeats")
    assert (state.verdict, state.gpus_free, state.gpus_total) == ("stale", None, None)
    assert "missed too many heartbeats" in state.sentence


@pytest.mark.parametrize(
    ("failure", "verdict"),
    [("silent", "stale"), ("gone", "stale"), ("lacks", "other-version"), ("failed", "unreachable")],
)
def test_a_node_that_could_not_be_looked_at_is_told_why_and_what_to_do(failure: Any, verdict: str) -> None:
    state = judged(None, look=Look(failure=failure, said="the reason"))
    assert state.verdict == verdict
    assert state.remedy


@pytest.mark.parametrize(
    ("offset_s", "word"), [(2.5, "2.5 s ahead of"), (-1.5, "1.5 s behind"), (0.9, None), (None, None)]
)
def test_clocks_that_are_apart_are_told_of(offset_s: float | None, word: str | None) -> None:
    note = judged(None, look=Look(facts=with_gpus(8), clock_offset_s=offset_s)).note
    assert note is None if word is None else word in (note or "")


@pytest.mark.parametrize("reason", [1, 3, 4])
def test_nodes_that_left_or_were_drained_or_are_back_are_not_told_of(reason: int) -> None:
    said = labels.labels_of(bare_facts(), tag="sim-h100", gpus=8, name="box")
    assert tagged(entry(said, Alive=False, DeathReason=reason), frozenset()) is None
    assert tagged(entry(said, Alive=False, DeathReason=2), frozenset({"box"})) is None
    assert tagged(entry(said, Alive=False, DeathReason=2), frozenset()) is not None


def test_what_a_node_left_behind_that_is_back_under_its_name_is_not_told_of() -> None:
    back, ghost = judged(with_gpus(8)), judged(None, look=Look(failure="silent"))
    assert (back.node.name, back.verdict) == (ghost.node.name, "ready")
    assert without_ghosts([ghost, back]) == [back]
    assert without_ghosts([ghost]) == [ghost]
    other = replace(ghost, node=replace(ghost.node, name="other"))
    assert without_ghosts([other, back]) == [other, back]
