from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from fleetbench_collectors.load.arrivals import steady
from fleetbench_collectors.load.crew import Crew, Outcome
from fleetbench_collectors.load.lengths import parse
from fleetbench_collectors.load.record import OUTCOMES, PHASES
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.workload import File, Ids, OpenLoop, Warmup, Workload
from tests.truth.run import build, serve


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build(tmp_path_factory.getbasetemp() / "truth-server")


def load(url: str, **changes: Any) -> Workload:
    values: dict[str, Any] = {
        "target": Target.parse(url),
        "endpoint": "completions",
        "model": "m",
        "places": 4,
        "arrivals": None,
        "requests": 13,
        "seconds": None,
        "context": parse("16"),
        "output": parse("4"),
        "prompts": Ids(ids=range(3, 98)),
        "seed": 0,
        "nonce": "n",
        "request_timeout_s": 20.0,
    }
    return Workload(**values | changes)


def run(asked: Workload, processes: int, watch: Callable[[Crew, dict[str, Any]], None] | None = None) -> Outcome:
    with Crew(processes) as crew:
        if watch is None:
            return crew.run(asked)
        return crew.run(asked, every_s=0.01, watch=lambda _, progress: watch(crew, progress))


def outcomes(found: Outcome) -> list[str]:
    return [OUTCOMES[outcome] for outcome in found.records.numbers["outcome"]]


@pytest.mark.parametrize("processes", [1, 2, 3])
def test_processes_send_every_request_once_and_their_rows_are_put_together(truth: list[str], processes: int) -> None:
    with serve(truth, itl_us=1_000) as server:
        found = run(load(server.url, warmup=Warmup(requests=4, context_tok=3, output_tok=1)), processes)
        known = server.stop()
    numbers = found.records.numbers
    assert sorted(numbers["number"]) == list(range(17))
    assert list(numbers["phase"]).count(PHASES.index("warmup")) == 4
    assert outcomes(found) == ["ok"] * 17
    assert (len(found.tallies), found.failures, found.stopped) == (processes, [], False)
    assert known.requests == 17
    assert sum(tally.stamped_kernel + tally.stamped_user for tally in found.tallies) > 0
    assert found.zero_ns is not None
    measured = [at for at, phase in enumerate(numbers["phase"]) if phase == PHASES.index("measure")]
    assert min(numbers["start_ns"][at] for at in measured) >= found.zero_ns
    assert len(found.records.gaps_us) == sum(numbers["gaps_n"])


def test_no_stamp_is_earlier_than_what_the_server_logged(truth: list[str]) -> None:
    with serve(truth, ttft_us=5_000, itl_us=1_000) as server:
        found = run(load(server.url, places=1), 1)
        log = server.stop().log
    numbers = found.records.numbers
    order = sorted(range(13), key=lambda at: int(numbers["start_ns"][at]))
    for at, logged in zip(order, log, strict=True):
        stamps = [numbers[name][at] for name in ("start_ns", "first_token_ns", "last_token_ns", "end_ns")]
        assert all(before <= after for before, after in pairwise(stamps))
        assert stamps[0] <= logged.received_ns
        # A stamp of the wall clock is put on the monotonic one to within some microseconds.
        assert stamps[1] >= logged.send_ns[0] - 20_000
        assert stamps[2] >= logged.send_ns[-1] - 20_000


def test_an_open_loop_of_several_processes_keeps_one_schedule(truth: list[str]) -> None:
    loop = OpenLoop(profile=steady(200.0), process="constant")
    with serve(truth) as server:
        found = run(load(server.url, arrivals=loop, places=64), 3)
    numbers = found.records.numbers
    intended = sorted(numbers["intended_ns"])
    assert [after - before for before, after in pairwise(intended)] == [5_000_000] * 12
    assert found.zero_ns is not None
    assert (intended[0] - found.zero_ns) % 5_000_000 == 0
    assert all(start >= at for start, at in zip(numbers["start_ns"], numbers["intended_ns"], strict=True))


def test_progress_is_told_meanwhile(truth: list[str]) -> None:
    seen: list[dict[str, Any]] = []
    with serve(truth, itl_us=10_000) as server:
        run(load(server.url), 1, lambda _, progress: seen.append(progress))
    assert {"completed", "failed", "reads", "in_flight", "rows"} <= set(seen[-1])
    completed = [progress["completed"] for progress in seen]
    assert completed == sorted(completed)
    assert max(progress["in_flight"] for progress in seen) == 4
    numbers = [row["number"] for progress in seen for row in progress["rows"]]
    assert len(numbers) == len(set(numbers))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_stop_cancels_what_is_in_flight_and_keeps_what_was_done(truth: list[str], processes: int) -> None:
    stops: list[int] = []

    def stop(crew: Crew, progress: dict[str, Any]) -> None:
        if progress["completed"] and not stops:
            stops.append(progress["completed"])
            crew.stop()
            crew.stop()

    with serve(truth, itl_us=5_000) as server:
        found = run(load(server.url, requests=None, seconds=60.0), processes, stop)
    said = outcomes(found)
    assert found.stopped
    assert set(said) == {"ok", "cancelled"}
    assert said.count("cancelled") <= 4
    assert said.count("ok") >= stops[0]
    assert len(found.tallies) == processes


def test_a_stop_before_the_start_sends_nothing(truth: list[str]) -> None:
    with serve(truth) as server, Crew(2) as crew:
        crew.stop()
        found = crew.run(load(server.url))
        assert server.stop().requests == 0
    assert (found.stopped, found.zero_ns, len(found.records), found.failures) == (True, None, 0, [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompts": File(path="/no/such/file", unique=False)}, "/no/such/file"),
        ({"context": parse("1"), "requests": 100}, "100 prompts of 1 tokens cannot all differ"),
        ({"headers": {"a": "b\nc"}}, "line break"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused_and_nothing_sent(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        run(load("http://127.0.0.1:9", **change), 2)


def test_a_process_that_is_killed_is_a_failure_and_the_others_rows_are_kept(truth: list[str]) -> None:
    killed: list[int] = []

    def kill(crew: Crew, _progress: dict[str, Any]) -> None:
        if not killed:
            killed.append(crew._processes[1].pid)
            os.kill(killed[0], signal.SIGKILL)

    with serve(truth, itl_us=10_000) as server:
        found = run(load(server.url), 2, kill)
    assert found.failures == ["a process of the load generator ended by signal 9: it said nothing"]
    assert len(found.tallies) == 1
    assert sorted(found.records.numbers["number"]) == list(range(0, 13, 2))


def test_a_process_that_died_before_the_load_leaves_the_rest_to_the_others(truth: list[str]) -> None:
    with serve(truth) as server, Crew(2) as crew:
        crew._processes[0].kill()
        crew._processes[0].wait()
        found = crew.run(load(server.url))
    assert len(found.failures) == 1
    assert sorted(found.records.numbers["number"]) == list(range(1, 13, 2))


def test_what_a_dying_process_said_last_is_told() -> None:
    with Crew(1) as crew:
        crew._order(0, b"nonsense\n")
        found = crew.run(load("http://127.0.0.1:9"))
    assert len(found.failures) == 1
    assert found.failures[0].startswith("a process of the load generator ended with exit code 1: ValueError: ")


def test_no_process_is_left_when_the_crew_is(truth: list[str]) -> None:
    with serve(truth, itl_us=10_000) as server:
        with Crew(2) as crew:
            pids = [process.pid for process in crew._processes]
            crew.stop()
            crew.run(load(server.url))
        for pid in pids:
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
