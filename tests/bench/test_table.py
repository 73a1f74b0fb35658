"""Figures come from the server's log and the kernel's account; the table compares runs of one turn."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.bench.figures import Quantiles, Reported, Run, figures, most_at_once, sent
from tests.bench.scenario import SCENARIOS, quick
from tests.bench.table import WIDTH, digits, table
from tests.bench.tree import Sample, Usage
from tests.truth.run import TruthRequest

MS = 1_000_000
PACED = next(scenario for scenario in SCENARIOS if scenario.name == "paced-256")
FLOOD = next(scenario for scenario in SCENARIOS if scenario.name == "flood-64")


def request(received_ms: int, sent_ms: Sequence[int]) -> TruthRequest:
    return TruthRequest(
        received_ns=received_ms * MS,
        status=200,
        prompt_tok=64,
        output_tok=len(sent_ms),
        connection=0,
        head_ns=received_ms * MS,
        end_ns=sent_ms[-1] * MS,
        send_ns=array("q", [at_ms * MS for at_ms in sent_ms]),
        tok=array("q", [1] * len(sent_ms)),
    )


def run(tool: str, turn: int = 0, *, scenario: str = PACED.name, load_cpu_s: float = 1.0) -> Run:
    return Run(
        scenario=scenario,
        tool=tool,
        turn=turn,
        completed=PACED.streams,
        failed=0,
        streams=PACED.streams,
        tok=100_000,
        tok_s=25_000.0,
        cpu_s=load_cpu_s + 1,
        load_cpu_s=load_cpu_s,
        start_s=0.5,
        peak_pss_bytes=40_000_000,
        peak_rss_bytes=50_000_000,
        ttft=Quantiles(p50_ms=50.2, p99_ms=52.5),
        true_ttft=Quantiles(p50_ms=50.0, p99_ms=50.5),
        itl=Quantiles(p50_ms=10.0, p99_ms=11.0),
        true_itl=Quantiles(p50_ms=10.0, p99_ms=11.0),
    )


def rows(*runs: Run) -> list[list[str]]:
    return [line.split() for line in table(SCENARIOS, runs, cores="two").splitlines()]


def test_requests_before_those_that_count_are_left_out_of_latencies_but_not_of_tokens() -> None:
    log = [request(0, [900, 1000]), request(1000, [1050, 1060, 1070]), request(1010, [1060, 1080])]
    found = sent(log, lead=1, itl_is_mean=False)
    assert found is not None
    assert (found.tok, found.first_ns, found.load_ns) == (7, 0, 1000 * MS)
    assert found.ttft.p50_ms == pytest.approx(50)
    assert found.itl.p50_ms == pytest.approx(10)
    assert found.tok_s == pytest.approx(5 / 0.080)


def test_the_truth_of_a_mean_itl_has_one_value_a_request() -> None:
    log = [request(0, [50, 60, 90]), request(0, [50, 60, 70])]
    gaps, means = (sent(log, lead=0, itl_is_mean=itl_is_mean) for itl_is_mean in (False, True))
    assert gaps is not None
    assert means is not None
    assert gaps.itl.p50_ms == pytest.approx(10)
    assert means.itl.p50_ms == pytest.approx(15)


def test_a_log_without_gaps_gives_no_truth() -> None:
    assert sent([request(0, [50])], lead=0, itl_is_mean=False) is None
    assert sent([request(0, [50, 60])], lead=1, itl_is_mean=False) is None


@pytest.mark.parametrize(
    ("spans", "most"),
    [([(0, 10), (5, 15), (12, 20)], 2), ([(0, 10), (10, 20)], 1), ([(0, 10), (1, 9), (2, 3)], 3), ([], 0)],
)
def test_streams_are_the_most_that_ran_at_one_time(spans: list[tuple[int, int]], most: int) -> None:
    assert most_at_once(spans) == most


@pytest.mark.parametrize("paced", [True, False])
def test_a_run_has_latencies_only_where_the_server_paced(*, paced: bool) -> None:
    true = sent([request(1000, [1050, 1060])], lead=0, itl_is_mean=False)
    assert true is not None
    usage = Usage(
        started_ns=500 * MS,
        returncode=0,
        cpu_s=3.0,
        samples=(Sample(at_ns=1000 * MS, cpu_s=1.0),),
        peak_pss_bytes=1,
        peak_rss_bytes=2,
    )
    reported = Reported(completed=1, failed=0, ttft=true.ttft, itl=true.itl)
    found = figures(
        scenario="s", tool="t", turn=0, paced=paced, itl_is_mean=False, usage=usage, reported=reported, true=true
    )
    assert (found.start_s, found.load_cpu_s, found.cpu_s) == (0.5, 2.0, 3.0)
    assert (found.ttft is not None, found.true_itl is not None) == (paced, paced)


def test_figures_of_a_tool_are_medians_with_half_their_spread() -> None:
    runs = [run("fleetbench", turn, load_cpu_s=load_cpu_s) for turn, load_cpu_s in enumerate((1.0, 2.0, 1.25))]
    assert ["fleetbench", "80.0k", "31", "22.5", "+2.0ms", "1.000", "0.50", "40", "50"] in rows(*runs)


def test_a_ratio_compares_the_runs_of_one_turn() -> None:
    ours = [run("fleetbench", turn, load_cpu_s=load_cpu_s) for turn, load_cpu_s in enumerate((1.0, 2.0, 4.0))]
    theirs = [run("vllm", turn, load_cpu_s=load_cpu_s) for turn, load_cpu_s in enumerate((2.0, 4.0, 8.0))]
    found = next(row for row in rows(*ours, *theirs) if row[:3] == ["ours", "/", "it"])
    assert found[3:] == ["2.00x", "0.60x", "1.00x", "1.00x", "1.00x"]


def test_the_loop_alone_has_its_own_row_without_what_it_has_no_share_in() -> None:
    found = rows(replace(run("fleetbench"), loop_cpu_s=0.5))
    assert ["loop", "alone", "200k", "5.00", "-", "-", "-", "-", "-"] in found


def test_a_failed_run_is_a_line_with_its_reason_and_no_figures() -> None:
    text = table(SCENARIOS, [Run(scenario=PACED.name, tool="vllm", turn=0, failure="no result in 300 s")], cores="two")
    assert "  ! vllm: no result in 300 s" in text.splitlines()
    assert not any(line.startswith("vllm") for line in text.splitlines())


def test_what_makes_figures_doubtful_is_said_once_for_a_tool() -> None:
    doubtful = replace(run("vllm"), streams=200, failed=3, itl=Quantiles(p50_ms=0.003, p99_ms=52.0), itl_is_mean=True)
    text = " ".join(table(SCENARIOS, [doubtful, run("vllm", 1)], cores="two").split())
    for note in (
        "! vllm: 256 of 256 requests completed, 3 failed (1 of 2 turns)",
        "! vllm: its ITL is a request's mean, and so is the truth beside it (1 of 2 turns)",
        "! vllm: ITL p50 said 0.003 ms, true 10 ms (1 of 2 turns)",
        "! vllm: reached 200 streams of 256 (1 of 2 turns)",
    ):
        assert text.count(note) == 1


def test_a_flood_makes_our_tool_complain_and_the_table_leaves_that_out() -> None:
    late = replace(run("fleetbench"), complaint="the client read late")
    flooded = replace(late, scenario=FLOOD.name, completed=FLOOD.streams, streams=FLOOD.streams)
    assert "read late" in table(SCENARIOS, [late], cores="two")
    assert "read late" not in table(SCENARIOS, [flooded], cores="two")


def test_no_line_is_longer_than_a_terminal() -> None:
    runs = [
        replace(
            run(tool, turn, scenario=scenario.name, load_cpu_s=load_cpu_s),
            complaint="a reason " * 30,
            peak_pss_bytes=99_999_000_000,
            peak_rss_bytes=99_999_000_000,
            start_s=299.9,
        )
        for scenario in SCENARIOS
        for turn, load_cpu_s in enumerate((0.0123, 123.0))
        for tool in ("fleetbench", "user stamps", "inference-perf")
    ]
    assert max(map(len, table(SCENARIOS, runs, cores="a long word " * 20).splitlines())) <= WIDTH


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.00"),
        (9.996, "10.0"),
        (99.96, "100"),
        (999.6, "1.00k"),
        (1234.0, "1.23k"),
        (278_400.0, "278k"),
        (1.9e6, "1.90M"),
    ],
)
def test_figures_have_three_digits(value: float, text: str) -> None:
    assert digits(value) == text


def test_the_quick_form_is_a_part_with_shorter_answers() -> None:
    whole = {scenario.name: scenario for scenario in SCENARIOS}
    assert all(scenario.output_tok < whole[scenario.name].output_tok for scenario in quick())
