"""What a controller writes of its run, and what another process reads of it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.errors import UnusableEnvironmentError
from fleetbench.fleet.control.journal import Journal, control, read_lines, read_status, request_cancel
from fleetbench.fleet.control.telling import BrokenStatusError, Everywhere, decode, encode, line_of
from tests.fleet.told import LAUNCH, STATUS, status


def test_a_status_comes_back_as_it_was_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "control")
    assert read_status(journal.folder) is None
    journal.tell(STATUS)
    journal.tell(later := status(state="ended", updated_s=1_790_000_020.0, running=(), cost_usd=1.5))
    assert read_status(journal.folder) == later
    assert [path.name for path in journal.folder.iterdir()] == ["status.json"]


def test_a_status_of_a_later_version_is_read_without_what_it_adds() -> None:
    said = json.loads(encode(STATUS))
    said["mood"] = "good"
    said["running"][0]["colour"] = "blue"
    assert decode(json.dumps(said)) == STATUS
    assert decode(encode(STATUS)).running == (LAUNCH,)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "EOF"),
        ("[]", "object"),
        (json.dumps({**json.loads(encode(STATUS)), "state": "dreaming"}), "state: .*'running'"),
        (json.dumps({**json.loads(encode(STATUS)), "outcomes": {"ok": "many"}}), "outcomes.ok: .*integer"),
    ],
)
def test_what_is_no_status_is_said_in_a_sentence_with_its_file(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(BrokenStatusError, match=f"status.json cannot be used: it is no status of a run .*{why}"):
        read_status(tmp_path)


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_any_bytes_are_a_status_or_a_broken_one(data: bytes | str) -> None:
    with pytest.raises(BrokenStatusError):
        decode(data)


def test_lines_have_their_time_and_nothing_that_a_terminal_obeys(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "control")
    journal.say("\x1b[31mred\x1b[0m and\na second line\x07\x9b2J é")
    journal.say("x" * 10_000)
    (first, second), after = read_lines(journal.folder)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ red and a second line 2J é", first)
    assert len(second) < 2100
    assert second.endswith("…")
    journal.say("third")
    assert [line.partition(" ")[2] for line in read_lines(journal.folder, after)[0]] == ["third"]


def test_a_line_that_is_being_written_is_not_read_yet(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("one\ntw")
    lines, after = read_lines(tmp_path)
    assert lines == ["one"]
    (tmp_path / "log.txt").write_text("one\ntwo\n")
    assert read_lines(tmp_path, after) == (["two"], 8)
    assert read_lines(tmp_path, 8) == ([], 8)
    assert read_lines(tmp_path / "nowhere") == ([], 0)


def test_a_long_log_is_read_page_by_page(tmp_path: Path) -> None:
    lines = [f"{number} {'x' * 1000}" for number in range(2500)]
    (tmp_path / "log.txt").write_text("".join(f"{line}\n" for line in lines))
    found: list[str] = []
    after = 0
    while (page := read_lines(tmp_path, after))[1] > after:
        found, after = found + page[0], page[1]
    assert found == lines


def test_a_journal_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    journal = Journal(tmp_path / "file" / "control")
    journal.clear()
    journal.tell(STATUS)
    journal.say("a line")
    assert not journal.cancel_wanted()
    full = Journal(Path("/proc/control"))
    full.tell(STATUS)
    full.say("a line")


def test_what_is_no_regular_file_is_said_and_not_waited_for(tmp_path: Path) -> None:
    for name in ("status.json", "log.txt"):
        os.mkfifo(tmp_path / name)
    with pytest.raises(BrokenStatusError, match=r"status\.json cannot be read: it is no regular file"):
        read_status(tmp_path)
    with pytest.raises(UnusableEnvironmentError, match=r"log\.txt cannot be read: it is no regular file"):
        read_lines(tmp_path)
    journal = Journal(tmp_path)
    journal.say("nobody reads")
    journal.tell(STATUS)
    assert read_status(tmp_path) == STATUS


def test_a_status_that_is_huge_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "status.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BrokenStatusError, match="is larger than"):
        read_status(tmp_path)


def test_a_request_is_seen_once_it_is_made_and_forgotten_by_the_next_controller(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "control")
    journal.clear()
    journal.tell(STATUS)
    assert not journal.cancel_wanted()
    request_cancel(journal.folder)
    request_cancel(journal.folder)
    assert journal.cancel_wanted()
    journal.clear()
    assert not journal.cancel_wanted()
    assert read_status(journal.folder) is None


def test_a_request_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UnusableEnvironmentError, match="cancel cannot be written: No such file"):
        request_cancel(tmp_path / "nowhere")


def test_several_places_hear_all_and_one_request_is_enough(tmp_path: Path) -> None:
    first, second = Journal(tmp_path / "first"), Journal(tmp_path / "second")
    both = Everywhere((first, second))
    both.tell(STATUS)
    both.say("a line")
    assert read_status(first.folder) == read_status(second.folder) == STATUS
    assert not both.cancel_wanted()
    request_cancel(second.folder)
    assert both.cancel_wanted()


def test_a_folder_of_control_is_below_its_warehouse() -> None:
    assert control(Path("w"), "abc") == Path("w/control/abc")
    with pytest.raises(ValueError, match="cannot be part"):
        control(Path("w"), "../abc")


def test_a_line_without_words_is_still_a_line() -> None:
    assert line_of("").endswith("Z ")
