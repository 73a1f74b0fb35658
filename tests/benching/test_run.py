from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from fleetbench.bench.run import send
from fleetbench_collectors.load.crew import Crew
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.workload import File
from tests.benching.ask import asked, sent
from tests.truth.run import serve


class Seen:
    """A view that keeps what it was told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.completed = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def stopping(self) -> None:
        self.said.append("stopping")

    def watch(self, _position: int, progress: Any) -> None:
        self.completed = progress["completed"]


def test_the_servers_model_is_asked_for_where_none_was_given(truth: list[str]) -> None:
    with serve(truth, model="llama") as server:
        load = sent(asked(server.url))
        known = server.stop()
    assert (load.workload.model, load.engine) == ("llama", "vllm")
    assert {each.status for each in known.log} == {200}
    assert len(known.log) == 6 + load.probes


def test_a_view_is_told_what_goes_on(truth: list[str]) -> None:
    view = Seen()
    with serve(truth, itl_us=100_000) as server, Crew(1) as crew:
        send(asked(server.url, warmup=1), crew, view=view, stopped=lambda: False)
    assert view.said == ["probing the server", "warming up"]
    assert 0 < view.completed <= 6


def test_a_file_of_prompts_needs_no_probe(truth: list[str], tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one two\n")
    with serve(truth) as server:
        load = sent(asked(server.url, prompts_file=File(path=str(tmp_path / "lines.txt"), unique=False)))
        assert server.stop().requests == 6
    assert (load.probed, load.probes) == (None, 0)


def test_the_load_begins_after_its_clock(truth: list[str]) -> None:
    with serve(truth) as server:
        load = sent(asked(server.url, warmup=2))
    assert min(load.outcome.records.numbers["start_ns"]) >= load.clock.mono_ns


def test_whoever_stops_it_is_heard_while_a_name_server_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(Target, "resolve", lambda _: answered.wait())
    with pytest.raises(KeyboardInterrupt):
        sent(asked("http://somewhere:80"), stopped=lambda: True)
    answered.set()


def test_a_host_that_nobody_knows_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match=r"nowhere\.invalid is not known"):
        sent(asked("http://nowhere.invalid:80"))
