"""A run's desk on a real cluster: told, asked and cancelled from other processes, and gone with its controller."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

from fleetbench.fleet.control.desk import LINES, DeskActor, desk
from fleetbench.fleet.control.parting import KEPT, keep, last_word, last_words
from fleetbench.fleet.control.sole import BeingDrivenError
from fleetbench.fleet.control.visiting import DeskClosedError, OnCluster, runs_on_cluster, runs_that_left
from fleetbench.fleet.nodes.connection import connected
from tests.cli.shell import fleetbench
from tests.fleet.cluster import FakeFleet, fleet
from tests.fleet.told import STATUS, status

RUN = STATUS.run_id
PATIENCE_S = 30
OTHER = """
import sys
import time
from pathlib import Path
from fleetbench.fleet.nodes.connection import connected
with connected(sys.argv[1], Path(sys.argv[2]), print):
    from fleetbench.fleet.control.desk import desk
    from tests.fleet.told import STATUS, status
    with desk(STATUS.run_id) as opened:
        opened.tell(STATUS)
        opened.say("here I am")
        print("open", flush=True)
        while not opened.cancel_wanted():
            time.sleep(0.05)
        opened.tell(status(state="interrupted", warehouse="/srv/results"))
        print("cancelled", flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeFleet]:
    with fleet() as up:
        yield up


@pytest.fixture(scope="module")
def connection(cluster: FakeFleet) -> Iterator[FakeFleet]:
    with connected(cluster.address, cluster.token, pytest.fail):
        yield cluster


@contextmanager
def other_driver(cluster: FakeFleet) -> Iterator[subprocess.Popen[str]]:
    """A controller in a process of its own, once its desk is open."""
    command = [sys.executable, "-c", OTHER, cluster.address, str(cluster.token)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=cluster.env) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "open\n"
            yield process
        finally:
            process.kill()


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end


@pytest.mark.ray
@pytest.mark.usefixtures("connection")
def test_a_desk_tells_who_asks_and_hears_a_cancel() -> None:
    visitor = OnCluster(RUN)
    assert visitor.look().condition == "gone"
    with desk(RUN) as opened:
        assert visitor.look().condition == "starting"
        opened.tell(STATUS)
        opened.say("\x1b[31ma line")
        seen = visitor.look()
        assert (seen.condition, seen.status, seen.on_cluster) == ("running", STATUS, True)
        ((line,), after) = visitor.lines(0)
        assert line.endswith("Z a line")
        assert visitor.lines(after) == ([], after)
        assert [run.run_id for run in runs_on_cluster()] == [RUN]
        assert not opened.cancel_wanted()
        visitor.cancel()
        visitor.cancel()
        until(opened.cancel_wanted)
        opened.tell(status(state="interrupted"))
        assert visitor.look().condition == "interrupted"
    until(lambda: not runs_on_cluster())
    assert visitor.look().condition == "interrupted", "the last word stays with who heard it"
    assert visitor.lines(after) == ([], after)
    with pytest.raises(DeskClosedError, match="is not being driven on this cluster"):
        OnCluster(RUN).cancel()


@pytest.mark.ray
def test_a_second_driver_is_refused_and_the_desk_dies_with_the_first(connection: FakeFleet) -> None:
    visitor = OnCluster(RUN)
    with other_driver(connection) as process:
        with pytest.raises(BeingDrivenError, match=f"run {RUN} is being measured already"), desk(RUN):
            pass
        assert visitor.look().condition == "running"
        assert visitor.lines(0)[0][0].endswith("here I am")
        process.send_signal(signal.SIGKILL)
        process.wait()
        until(lambda: visitor.look().condition == "gone")
    with desk(RUN) as opened:  # the name is free at once, or waited for
        opened.tell(STATUS)
        assert OnCluster(RUN).look().condition == "running"


@pytest.mark.ray
@pytest.mark.fleet
def test_a_shell_on_the_cluster_sees_the_run_and_cancels_it(connection: FakeFleet, tmp_path: Path) -> None:
    at = ("--address", connection.address, "--token", str(connection.token))
    with other_driver(connection) as process:
        listed = fleetbench("status", *at, "--format", "json", folder=tmp_path)
        assert [(run["run_id"], run["state"]) for run in json.loads(listed.out)] == [(RUN, "running")]
        asked = fleetbench("cancel", STATUS.run, *at, "--no-wait", folder=tmp_path)
        assert asked.code == 0
        assert f"fleetbench watch {RUN} --address" in asked.err
        assert process.stdout is not None
        assert process.stdout.readline() == "cancelled\n"
        assert process.wait() == 0
    listed = fleetbench("status", *at, folder=tmp_path)
    assert f"{RUN}  zoo/nightly  interrupted  3/6" in listed.out
    assert "all that have ended are in their warehouse: fleetbench status --warehouse DIR" in listed.err
    one = fleetbench("status", STATUS.run, *at, folder=tmp_path)
    assert "interrupted at " in one.out
    assert f"more by: fleetbench status {RUN} --warehouse /srv/results" in one.out
    logged = fleetbench("logs", STATUS.run, *at, folder=tmp_path)
    assert (logged.code, f"fleetbench logs {RUN} --warehouse /srv/results" in logged.err) == (1, True)
    unknown = fleetbench("watch", "nix", *at, folder=tmp_path)
    assert unknown.code == 2
    assert f"the cluster at {connection.address} knows no run nix" in unknown.err


@pytest.mark.ray
@pytest.mark.usefixtures("connection")
def test_a_last_word_stays_on_the_cluster_until_another_controller_begins() -> None:
    for run_id, state in (("a" * 12, "ended"), ("b" * 12, "interrupted"), ("c" * 12, "running")):
        with desk(run_id) as opened:
            opened.tell(status(run_id=run_id, state=state, updated_s=1.8e9 + ord(run_id[0])))
    left = [(seen.run_id[0], seen.condition) for seen in runs_that_left() if seen.run_id != RUN]
    assert left == [("b", "interrupted"), ("a", "ended")]
    assert OnCluster("a" * 12).look().condition == "ended"
    with desk("a" * 12):
        assert last_word("a" * 12) is None
    assert OnCluster("a" * 12).look().condition == "gone"


@pytest.mark.ray
@pytest.mark.usefixtures("connection")
def test_a_cluster_keeps_the_last_words_of_the_latest_runs_alone() -> None:
    for number in range(KEPT + 2):
        keep(status(run_id=f"{number:012d}", state="ended", updated_s=2e9 + number))
    kept = last_words()
    assert (len(kept), kept[0].run_id) == (KEPT, f"{KEPT + 1:012d}")


@pytest.mark.ray
@pytest.mark.usefixtures("connection")
def test_a_controller_whose_desk_dies_opens_another() -> None:
    with desk(RUN) as opened:
        opened.tell(STATUS)
        first = opened.actor
        ray.kill(first)

        def taken_over() -> bool:
            assert not opened.cancel_wanted()
            return opened.actor is not first and OnCluster(RUN).look().condition == "running"

        until(taken_over)


def test_lines_beyond_what_a_desk_keeps_are_skipped() -> None:
    holder = DeskActor()
    for number in range(LINES + 5):
        holder.say(str(number))
    page, after = holder.lines(0)
    assert page[0] == "5"
    assert after == 5 + len(page)
    assert holder.lines(LINES + 99) == ([], LINES + 5)
    assert holder.lines(LINES + 4) == ([str(LINES + 4)], LINES + 5)
