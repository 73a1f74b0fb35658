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
from fleetbench.fleet.control.sole import BeingDrivenError
from fleetbench.fleet.control.visiting import DeskClosedError, OnCluster, runs_on_cluster
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
with connected(sys.argv[1], Path(sys.argv[2])):
    from fleetbench.fleet.control.desk import desk
    from tests.fleet.told import STATUS
    with desk(STATUS.run_id) as opened:
        opened.tell(STATUS)
        opened.say("here I am")
        print("open", flush=True)
        while not opened.cancel_wanted():
            time.sleep(0.05)
        print("cancelled", flush=True)
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[FakeFleet]:
    with fleet() as up:
        yield up


@pytest.fixture(scope="module")
def connection(cluster: FakeFleet) -> Iterator[FakeFleet]:
    with connected(cluster.address, cluster.token):
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
    unknown = fleetbench("logs", STATUS.run, *at, folder=tmp_path)
    assert unknown.code == 2
    assert "found by --warehouse DIR" in unknown.err


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
