from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from fleetbench.bench.run import reached, send
from fleetbench_collectors.load.crew import Crew
from fleetbench_collectors.load.target import Address, Target
from fleetbench_collectors.load.workload import File
from tests.benching.ask import asked, sent
from tests.benching.strict import strict
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

    def silent(_: Target) -> list[Address]:
        answered.wait()
        return []

    monkeypatch.setattr(Target, "addresses", silent)
    with pytest.raises(KeyboardInterrupt):
        sent(asked("http://somewhere:80"), stopped=lambda: True)
    answered.set()


def test_a_host_that_nobody_knows_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match=r"nowhere\.invalid is not known"):
        sent(asked("http://nowhere.invalid:80"))


def test_the_load_is_sent_without_the_keys_that_the_server_refuses() -> None:
    with strict({"cache_prompt"}) as (url, seen):
        load = sent(asked(url))
    assert load.workload.body == {"cache_prompt": None}
    assert load.outcome.records.errors == {}
    assert len(seen) == load.probes + 6


def test_a_load_goes_to_the_first_address_of_a_name_that_somebody_listens_at(
    truth: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(truth) as server, socket.create_server(("127.0.0.1", 0)) as listener:
        closed, listens = listener.getsockname(), server.address
        listener.close()
        monkeypatch.setattr(Target, "addresses", lambda _: [(socket.AF_INET, closed), (socket.AF_INET, listens)])
        load = sent(asked(server.url))
    assert load.workload.target.address == (socket.AF_INET, listens)
    assert load.outcome.records.errors == {}


def test_addresses_that_all_refuse_leave_the_reason_to_the_requests() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = (int(socket.AF_INET), listener.getsockname())
    target = Target.parse("http://localhost:1")
    assert reached(target, [closed, closed]) == target


def test_the_servers_metrics_are_stamped_on_both_sides_of_the_load(truth: list[str]) -> None:
    with serve(truth) as server:
        load = sent(asked(server.url))
    starts = load.outcome.records.numbers["start_ns"]
    assert load.clock.mono_ns <= load.before_ns <= min(starts) <= max(starts) <= load.after_ns
