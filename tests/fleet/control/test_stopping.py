"""Stopping cleanly, and one run at a time on a machine."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

from fleetbench.fleet.control.stopping import Stop, sole_on_machine


def test_a_stop_that_is_watched_for_is_only_noted() -> None:
    stop = Stop()
    with stop.watched():
        stop.request()
    assert stop.is_wanted()


def test_a_stop_while_nobody_watches_breaks_off_what_is_waited_for() -> None:
    stop = Stop()
    with pytest.raises(KeyboardInterrupt):
        stop.request()
    assert stop.is_wanted()


def test_a_second_run_waits_for_the_first_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    said: list[str] = []
    waiting, entered = threading.Event(), threading.Event()

    def second() -> None:
        def say(text: str) -> None:
            said.append(text)
            waiting.set()

        with sole_on_machine(say):
            entered.set()

    thread = threading.Thread(target=second)
    with sole_on_machine(said.append):
        thread.start()
        assert waiting.wait(10)
        assert not entered.is_set()
    thread.join(10)
    assert entered.is_set()
    assert len(said) == 1


def test_the_lock_ends_with_its_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with sole_on_machine(print):
        pass
    said: list[str] = []
    with sole_on_machine(said.append):
        assert said == []
