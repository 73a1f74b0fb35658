"""Following a job by a dashboard that tells its steps one by one."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from fleetbench.fleet.jobs import runs as jobs
from fleetbench.fleet.jobs.api import JobsApi
from fleetbench.fleet.jobs.marks import MARK
from fleetbench.fleet.jobs.runs import JobHandle, follow

HEADER = "Running entrypoint for job j-1: fleetbench\n"


class _Steps(HTTPServer):
    """A dashboard with one job; steps: its status and its log, the next one each time that its status is asked for."""

    def __init__(self, steps: Sequence[tuple[str, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.steps = list(steps)
        self.now = ("PENDING", "")
        self.fetched = 0


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _Steps)
        if self.path.endswith("/logs"):
            server.fetched += 1
            said: dict[str, object] = {"logs": server.now[1]}
        else:
            server.now = server.steps.pop(0)
            said = {"submission_id": "j-1", "status": server.now[0], "driver_exit_code": 0}
        text = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def dashboard(*steps: tuple[str, str]) -> Iterator[tuple[_Steps, JobHandle]]:
    with _Steps(steps) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        api = JobsApi(url="", _host="127.0.0.1", _port=server.server_port, _base="", _headers={}, _tls=None)
        try:
            yield server, JobHandle(api=api, submission_id="j-1", run_id="", joined=False)
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LOOK_S", 0.0)


def heard(handle: JobHandle, *, last: int | None = None) -> list[tuple[str, bool]]:
    lines: list[tuple[str, bool]] = []
    assert follow(handle, lambda line, out: lines.append((line, out)), last=last) == 0
    return lines


def test_each_line_is_written_once_and_half_a_line_when_it_is_whole() -> None:
    steps = (
        ("PENDING", ""),
        ("RUNNING", f"{HEADER}one\ntw"),
        ("RUNNING", f"{HEADER}one\ntwo\n"),
        ("SUCCEEDED", f"{HEADER}one\ntwo\n{MARK}a row"),
    )
    with dashboard(*steps) as (_, handle):
        assert heard(handle) == [("one", False), ("two", False), ("a row", True)]


def test_a_log_as_long_as_that_is_fetched_once_more_when_the_job_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "LOG_BYTES_PER_S", 1e-6)
    text = f"{HEADER}one\n"
    steps = [("RUNNING", text + "more\n" * number) for number in range(5)]
    with dashboard(*steps, ("SUCCEEDED", f"{text}end\n")) as (server, handle):
        assert [line for line, _ in heard(handle)] == ["one", "end"]
        assert server.fetched == 2


def test_whoever_comes_later_hears_the_last_lines_of_before_and_all_that_come_then() -> None:
    steps = (("RUNNING", f"{HEADER}a\nb\nc\n"), ("SUCCEEDED", f"{HEADER}a\nb\nc\nd\ne\n"))
    with dashboard(*steps) as (_, handle):
        assert [line for line, _ in heard(handle, last=1)] == ["c", "d", "e"]
