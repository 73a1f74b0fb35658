from __future__ import annotations

import io
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console, Group

from fleetbench.cli.bench_live import (
    ASCII,
    BLOCKS,
    RECENT,
    SHOWN_S,
    Asked,
    BenchView,
    Figures,
    Gauge,
    Seconds,
    Signs,
    left_s,
    picture,
    share,
    sparkline,
)
from fleetbench_collectors.load.record import OUTCOMES, PHASES, UNKNOWN

MS = 1_000_000
CLOSED = Asked(label="llama batch 64", total=100, seconds=None, batch=64)
TIMED = Asked(label="llama rate 5/s", total=None, seconds=30.0, batch=None)


def row(outcome: str = "ok", **changes: int) -> dict[str, int]:
    known = {"start_ns": 0, "first_token_ns": 50 * MS, "last_token_ns": 150 * MS, "output_tok": 11, "chunks": 6}
    return {"phase": PHASES.index("measure"), "outcome": OUTCOMES.index(outcome), **known, **changes}


def progress(*rows: dict[str, int], **totals: int) -> dict[str, Any]:
    return {"completed": 0, "failed": 0, "reads": 0, "in_flight": 0, **totals, "rows": list(rows)}


def figures(*said: dict[str, Any], at_s: float = 10.0) -> Figures:
    gauge = Gauge(1)
    for each in said:
        gauge.add(0, each, at_s)
    return gauge.figures(at_s)


def drawn(asked: Asked, known: Figures, *, said: str = "", signs: Signs = BLOCKS) -> list[str]:
    console = Console(file=io.StringIO(), record=True, width=80)
    console.print(Group(picture(asked, known, said=said, signs=signs)))
    return [line.rstrip() for line in console.export_text().splitlines()]


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(0, 1000)), min_size=1, max_size=20))
def test_nothing_that_arrived_is_lost_or_counted_twice(steps: list[tuple[float, int]]) -> None:
    seconds, now_s, total = Seconds(1), 0.0, 0
    for wait_s, new in steps:
        now_s += wait_s
        total += new
        seconds.add(0, total, now_s)
    seconds.add(0, total, float(int(now_s) + 1))
    assert sum(seconds.whole(100)) == pytest.approx(total)


def test_what_a_process_tells_late_belongs_to_the_seconds_before() -> None:
    seconds = Seconds(1)
    seconds.add(0, 300, 3.0)
    seconds.add(0, 330, 3.5)
    assert seconds.whole(10) == pytest.approx([100, 100, 100])


def test_a_second_counts_when_all_processes_have_told_of_it_but_none_waits_for_one_that_is_gone() -> None:
    seconds = Seconds(2)
    seconds.add(0, 20, 2.0)
    seconds.add(1, 10, 1.0)
    assert seconds.whole(10) == pytest.approx([20])
    seconds.add(0, 60, 6.0)
    assert seconds.whole(10) == pytest.approx([20, 10, 10, 10])
    assert seconds.whole(2) == pytest.approx([10, 10])


def test_latencies_are_of_the_measured_requests_that_went_well() -> None:
    found = figures(
        progress(
            row(), row(phase=PHASES.index("warmup"), first_token_ns=1), row("timeout", first_token_ns=2), completed=1
        )
    )
    assert (found.recent, found.ttft_ms, found.tpot_ms) == (1, 50.0, 10.0)
    assert found.kinds == ("timeout",)


def test_unknown_stamps_and_stamps_that_run_backwards_give_no_latency() -> None:
    unknown = row(start_ns=9 * MS, first_token_ns=UNKNOWN, last_token_ns=UNKNOWN)
    backwards = row(start_ns=9 * MS, first_token_ns=8 * MS, last_token_ns=7 * MS)
    assert figures(progress(unknown, backwards)).recent == 0
    assert figures(progress(row(last_token_ns=UNKNOWN))).tpot_ms is None


def test_a_chunk_stands_for_a_token_where_the_server_counts_none() -> None:
    found = figures(progress(row(output_tok=UNKNOWN), completed=1))
    assert (found.tpot_ms, found.tok_s) == (20.0, 0.6)


def test_only_the_last_requests_are_looked_at() -> None:
    slow, fast = row(first_token_ns=90 * MS), row(first_token_ns=10 * MS)
    found = figures(progress(*[slow] * RECENT), progress(*[fast] * RECENT))
    assert (found.recent, found.ttft_ms, found.ttft_high_ms) == (RECENT, 10.0, 10.0)


@pytest.mark.parametrize(("requests", "high_ms"), [(99, 98.0), (100, 98.0), (200, 197.0)])
def test_the_tail_is_the_largest_of_few_and_the_99th_percentile_of_many(requests: int, high_ms: float) -> None:
    rows = [row(first_token_ns=n * MS, last_token_ns=n * MS) for n in range(requests)]
    assert figures(progress(*rows)).ttft_high_ms == high_ms


def test_requests_that_were_not_told_of_count_with_the_mean_of_those_that_were() -> None:
    assert figures(progress(row(output_tok=10), row(output_tok=30), completed=50), at_s=2.0).tok_s == 500.0


def test_the_processes_add_up() -> None:
    gauge = Gauge(2)
    gauge.add(0, progress(completed=3, failed=1, in_flight=8), 1.0)
    gauge.add(1, progress(completed=4, in_flight=7), 1.0)
    gauge.add(0, progress(completed=5, failed=1, in_flight=6), 1.0)
    found = gauge.figures(1.0)
    assert (found.completed, found.failed, found.in_flight, found.done) == (9, 1, 13, 10)


def test_the_share_and_the_time_left_go_by_what_ends_first() -> None:
    found = figures(progress(completed=20, failed=5), at_s=10.0)
    both = Asked(label="", total=100, seconds=100.0, batch=None)
    neither = Asked(label="", total=None, seconds=None, batch=None)
    assert (share(CLOSED, found), left_s(CLOSED, found)) == (0.25, 30.0)
    assert share(TIMED, found) == pytest.approx(1 / 3)
    assert left_s(TIMED, found) == 20.0
    assert (share(both, found), left_s(both, found)) == (0.25, 30.0)
    assert (share(neither, found), left_s(neither, found)) == (None, None)
    assert left_s(CLOSED, figures(progress())) is None
    over = figures(progress(), at_s=31.0)
    assert (share(TIMED, over), left_s(TIMED, over)) == (1.0, 0.0)


def test_the_sparkline_is_empty_only_where_nothing_came() -> None:
    assert sparkline([0, 1, 500, 1000], BLOCKS.levels) == " ▁▄█"
    assert sparkline([], BLOCKS.levels) == ""
    assert sparkline([0, 0], ASCII.levels) == "  "


def test_the_picture_says_where_the_load_is_and_how_the_server_does() -> None:
    gauge = Gauge(1)
    gauge.add(0, progress(reads=2000, in_flight=64), 1.0)
    gauge.add(0, progress(*[row()] * 40, row("http_error"), completed=40, failed=10, reads=6000, in_flight=50), 2.0)
    assert drawn(CLOSED, gauge.figures(2.5)) == [
        "llama batch 64",
        f"{'━' * 20}{'─' * 20}  50 %  0:02  0:02 left",
        "requests          50  of 100",
        "in flight         50  of 64",
        "chunks/s       4,000  ▄█",
        "tok/s            176  of completed requests",
        "TTFT ms         50.0  p50, 50.0 largest",
        "TPOT ms         10.0  p50, last 40 requests",
        "failed            10  http_error",
    ]


def test_what_is_not_known_yet_is_a_dash() -> None:
    lines = drawn(TIMED, figures(progress(), at_s=0.1))
    assert [line.split()[1] for line in lines if line.startswith(("chunks/s", "tok/s"))] == ["—", "—"]
    assert "None" not in "".join(lines)
    assert not any(line.startswith("failed") for line in lines)


def test_the_time_left_gives_way_to_what_is_awaited_or_said() -> None:
    over = figures(progress(in_flight=7), at_s=3700.0)
    assert drawn(TIMED, over)[1].endswith("100 %  1:01:40  waiting for 7")
    assert drawn(TIMED, over, said="stopping ...")[1].endswith("100 %  1:01:40  stopping ...")


def test_ten_million_requests_an_hour_long_still_fit_a_line() -> None:
    wide = Asked(label="a model " * 20, total=12_345_678, seconds=36_000.0, batch=4096)
    gauge = Gauge(1)
    rows = [row(outcome) for outcome in OUTCOMES]
    for second in range(1, 60):
        gauge.add(0, progress(*rows, completed=9_876_543, failed=9_999, reads=second**4 * 10, in_flight=4096), second)
    lines = drawn(wide, gauge.figures(40_000.0))
    assert len(lines) == 9
    assert max(map(cell_len, lines)) <= 80
    assert len(lines[4].split()[-1]) == SHOWN_S
    assert lines[1].endswith("waiting for 4,096")


def test_a_terminal_without_blocks_gets_ascii() -> None:
    console = Console(file=io.StringIO(), record=True, width=80)
    known = figures(progress(reads=9, completed=50), at_s=1.0)
    console.print(picture(CLOSED, known, said="", signs=ASCII))
    assert console.export_text().replace("—", "-").isascii()


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """To be called in the test itself: pytest's capture takes stderr anew after the fixtures."""
    made = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", made)
    return made


def view() -> BenchView:
    return BenchView(label="llama batch 64", total=100, seconds=None, batch=64, processes=1)


def test_the_view_goes_from_its_phases_to_the_load_and_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = on_a_terminal(monkeypatch)
    with view() as seen:
        seen.say("probing the server")
        assert seen.render().plain == "llama batch 64\nprobing the server  0:00"
        seen.watch(0, progress(completed=50, in_flight=9))
        assert "probing" not in seen.render().plain
        assert "requests          50  of 100" in seen.render().plain
        seen.stopping()
        assert "stopping ..." in seen.render().plain
    assert "requests" in terminal.getvalue()


def test_a_signal_handler_may_speak_while_progress_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal(monkeypatch)
    with view() as seen:
        seen.watch(0, progress())
        with seen._lock:
            seen.say("x")
            seen.stopping()
        assert "stopping ..." in seen.render().plain


def test_nothing_is_written_where_stderr_is_no_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    with view() as seen:
        seen.say("probing the server")
        seen.watch(0, progress(completed=50))
        seen.stopping()
    assert capfd.readouterr() == ("", "")
