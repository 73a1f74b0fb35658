"""One kind of a run: which launch starts on which node, and who waits for it."""

from __future__ import annotations

from fleetbench.plan.rules import Rules
from tests.plan.runs import Run, launch, names, node, starts


def test_small_launches_do_not_keep_a_large_one_waiting_for_ever() -> None:
    """A large one that is tried again gets a node kept free for it, though small ones fit the gaps all the time."""
    run = Run(Rules(backoff_s=1.0, breaker=0))
    small = {f"s{number}": 1.0 + number / 100 for number in range(40)}
    run.begin(
        [launch("big", gpus=2), *(launch(name) for name in small)], node("n", gpus=2), seconds={"big": 2.0, **small}
    )
    run.up("big")
    run.lose("big")
    ended = 0
    while "launch-big" not in run.machine.running and ended < len(small):
        run.tick(2.0)
        for one in list(run.machine.running)[:1]:
            if one != "launch-big":
                run.finish(one.removeprefix("launch-"))
                ended += 1
    assert ended < 10


def test_a_node_that_is_kept_free_is_for_the_next_of_its_line() -> None:
    """Two that avoid one node: the longer one came later, and the other node was kept for the one before it."""
    run = Run(Rules(backoff_s=1.0, breaker=0))
    seconds = {"block": 100.0, "short": 10.0, "long": 50.0}
    launches = [launch("block", gpus=4), launch("short", gpus=2), launch("long", gpus=2)]
    run.begin(launches, node("n", gpus=4), node("m", gpus=4), seconds=seconds)
    assert run.where("short") == run.where("long") != run.where("block")
    for name in ("short", "long"):
        run.up(name)
        run.lose(name)
        run.tick(2.0)
    assert sorted(names(run.finish("block"))) == ["long", "short"]


def test_a_node_of_whole_use_counts_whole_in_what_remains() -> None:
    run = Run()
    launches = [launch("control", role="control"), *(launch(str(number)) for number in range(4))]
    seconds = {"control": 15.0} | {str(number): 10.0 for number in range(4)}
    actions = run.begin(launches, node("n", gpus=8, use="whole"), seconds=seconds)
    order = names(actions)
    while run.machine.running:
        for one in list(run.machine.running):
            order += names(run.finish(one.removeprefix("launch-")))
    assert order == ["0", "1", "2", "3", "control"], "though a node has GPUs enough for all of them at once"


def test_a_launch_is_barred_from_nodes_that_cannot_run_it() -> None:
    run = Run()
    [start] = starts(run.begin([launch("a")], node("n"), node("m", engines={}), node("o", unfit="stale")))
    assert (start.node_ids, start.barred) == (("id-n",), ("id-m", "id-o"))
