from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from io import BytesIO
from typing import Any, BinaryIO, cast

import pytest

from fleetbench_collectors.load.process import serve
from fleetbench_collectors.load.record import OUTCOMES, Records
from fleetbench_collectors.load.tally import Tally
from fleetbench_collectors.load.workload import File, Share, Workload
from tests.collectors.load.conftest import Engine, Turn
from tests.collectors.load.test_crew import load

Start = Callable[[Callable[[Turn], None]], Engine]
COMMAND = [sys.executable, "-m", "fleetbench_collectors.load.process"]


def order(asked: Workload, every_s: float = 0.0) -> bytes:
    data = pickle.dumps((asked, Share(), every_s))
    return b"%d\n%s" % (len(data), data)


def served(orders: bytes, *, more: bool = True) -> tuple[list[dict[str, Any]], Records | None]:
    """What a process says to orders that are all there already; the records where it got so far.

    more: others may follow; else nobody is there to give any.
    """
    answers = BytesIO()
    source, sink = os.pipe()
    with os.fdopen(source, "rb", buffering=0) as stream, os.fdopen(sink, "wb", buffering=0) as owner:
        owner.write(orders)
        if not more:
            owner.close()
        serve(stream, answers)
    answers.seek(0)
    said: list[dict[str, Any]] = []
    while line := answers.readline():
        said.append(json.loads(line))
        if "tally" in said[-1]:
            return said, Records.read(answers)
    return said, None


def test_it_is_ready_goes_and_says_what_came_of_it(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    said, records = served(order(load(server.url, requests=5)) + b"go 0\n")
    assert [next(iter(message)) for message in said] == ["ready", "tally"]
    assert records is not None
    assert sorted(records.numbers["number"]) == [0, 1, 2, 3, 4]
    tally = Tally(**said[1]["tally"])
    assert (tally.way, tally.wall_s > 0, tally.stamped_kernel + tally.stamped_user > 0) == ("direct", True, True)


def test_a_stop_in_place_of_the_start_sends_nothing(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    said, records = served(order(load(server.url)) + b"stop\n")
    assert [next(iter(message)) for message in said] == ["ready", "tally"]
    assert (records is not None and len(records), server.turns) == (0, [])


def test_an_owner_that_says_no_more_is_a_stop(engine: Start) -> None:
    said, records = served(order(load(engine(lambda turn: turn.answer()).url)), more=False)
    assert [next(iter(message)) for message in said] == ["ready", "tally"]
    assert records is not None
    assert len(records) == 0


def test_a_stop_meanwhile_cancels_what_is_in_flight(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.head()
        turn.token()

    said, records = served(order(load(engine(script).url)) + b"go 0\nstop\n")
    assert records is not None
    assert {OUTCOMES[outcome] for outcome in records.numbers["outcome"]} == {"cancelled"}
    assert len(records) == 4
    assert "tally" in said[-1]


def test_progress_has_counts_and_fresh_rows(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    said, _ = served(order(load(server.url, requests=200, places=2), every_s=1e-6) + b"go 0\n")
    progress = [message["progress"] for message in said if "progress" in message]
    assert progress
    numbers = [row["number"] for each in progress for row in each["rows"]]
    assert len(numbers) == len(set(numbers))


def test_a_load_that_makes_no_sense_is_an_error_in_words() -> None:
    said, _ = served(order(load("http://127.0.0.1:9", prompts=File(path="/no/such", unique=False))))
    assert list(said[0]) == ["error"]
    assert "/no/such" in said[0]["error"]
    assert len(said) == 1


def test_orders_that_end_too_early_are_no_load() -> None:
    with pytest.raises(EOFError):
        served(b"100\nshort", more=False)


def test_its_output_is_only_its_messages(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [*COMMAND, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(order(load(server.url, requests=4)) + b"go 0\n")
        process.stdin.flush()
        assert process.stdout.readline() == b'{"ready": true}\n'
        assert process.stdout.readline().startswith(b'{"tally": ')
        assert len(Records.read(cast("BinaryIO", process.stdout))) == 4
        assert (process.stdout.read(), process.wait(20), log.tell()) == (b"", 0, 0)


def test_it_ends_with_its_orders(engine: Start) -> None:
    server = engine(lambda turn: turn.head())
    with subprocess.Popen([*COMMAND, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        out, _ = process.communicate(order(load(server.url, requests=4)) + b"go 0\n", timeout=20)
    assert (process.returncode, out.count(b'"tally"')) == (0, 1)


def test_it_ends_at_once_where_its_owner_is_gone_already() -> None:
    with subprocess.Popen([*COMMAND, "1"], stdin=subprocess.PIPE) as process:
        assert process.wait(20) == 1


def test_it_loads_neither_numpy_nor_pyarrow() -> None:
    code = "import sys, fleetbench_collectors.load.process; print(sorted({'numpy', 'pyarrow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
