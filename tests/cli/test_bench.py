"""`fleetbench bench` as a user runs it, on a server that logs what it truly did."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.cli.shell import Said, fleetbench
from tests.truth.run import Truth, build, serve

NOTHING = {"mean": None, "p50": None, "p90": None, "p99": None, "n": 0}
LATENCIES = ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms")
SHORT = ("--batch", "4", "--requests", "12", "--output", "6")
SMALL = (*SHORT, "--context", "32")
TINY = Path(__file__).parents[2] / "fleetbench" / "artifact" / "tiny"
MOONCAKE = (
    '{"timestamp": 0, "input_length": 600, "output_length": 3, "hash_ids": [1, 2]}\n'
    '{"timestamp": 40, "input_length": 30, "output_length": 5, "hash_ids": [3]}\n'
)
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,x,40,3,43,y\n6,x,50,2,52,y\n"


@pytest.fixture(scope="session")
def truth(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return build(tmp_path_factory.getbasetemp() / "truth-server")


def bench(url: str, *arguments: str, folder: Path) -> tuple[Said, dict[str, Any]]:
    """What it said, and its report; none of it may be anything else."""
    said = fleetbench("bench", url, *arguments, "--format", "json", folder=folder)
    assert "Traceback" not in said.err
    found: dict[str, Any] = json.loads(said.out) if said.out else {}
    return said, found


def paced(truth: list[str], *arguments: str, folder: Path, **knobs: Any) -> tuple[dict[str, Any], Truth]:
    """A load that a server at 2 ms a token answers well, whatever the verdict on the client on a busy machine."""
    with serve(truth, **{"ttft_us": 5_000, "itl_us": 2_000, **knobs}) as server:
        said, found = bench(server.url, *arguments, folder=folder)
        known = server.stop()
    assert said.err == ""
    assert said.code == (0 if found["valid"] else 1)
    assert found["failed"] == 0
    return found, known


def test_a_slow_enough_server_gives_a_valid_report_and_0(truth: list[str], tmp_path: Path) -> None:
    with serve(truth, ttft_us=20_000, itl_us=20_000) as server:
        said, found = bench(server.url, *SMALL, folder=tmp_path)
    assert (said.code, said.err) == (0, "")
    assert (found["valid"], found["reasons"], found["failures"], found["interrupted"]) == (True, [], {}, False)


@pytest.mark.parametrize("processes", ["1", "2", "3"])
def test_exactly_what_was_asked_is_sent_once_and_agrees_with_the_servers_log(
    truth: list[str], processes: str, tmp_path: Path
) -> None:
    found, known = paced(truth, *SMALL, "--processes", processes, folder=tmp_path)
    assert (found["requests"], found["completed"]) == (12, 12)
    assert known.requests == 12 + found["probes"]
    log = known.log[-12:]
    assert {(each.prompt_tok, each.output_tok) for each in log} == {(32, 6)}
    assert {name: found[name]["n"] for name in ("ttft_ms", "tpot_ms", "e2e_ms")} == dict.fromkeys(
        ("ttft_ms", "tpot_ms", "e2e_ms"), 12
    )
    assert all(set(found[name]) == {"mean", "p50", "p90", "p99", "n"} for name in LATENCIES)
    assert found["itl_ms"]["n"] <= 12 * 5
    # Each request was written before it was received, and its token read after it was sent.
    ttft_ms = sorted((each.send_ns[0] - each.received_ns) / 1e6 for each in log)
    assert found["ttft_ms"]["p50"] >= (ttft_ms[5] + ttft_ms[6]) / 2
    assert found["ttft_ms"]["p99"] >= ttft_ms[-2]
    gaps_ms = sorted(
        (after - before) / 1e6 for each in log for before, after in zip(each.send_ns, each.send_ns[1:], strict=False)
    )
    assert found["itl_ms"]["p50"] == pytest.approx(gaps_ms[len(gaps_ms) // 2], rel=0.5)


def test_seconds_end_the_load_and_a_warm_up_is_apart(truth: list[str], tmp_path: Path) -> None:
    arguments = ("--batch", "2", "--seconds", "0.4", "--warmup", "3", "--output", "4")
    found, known = paced(truth, *arguments, folder=tmp_path)
    assert found["warmup"] == 3
    assert known.requests == found["requests"] + found["probes"] + 3
    assert found["duration_s"] >= 0.3


def test_the_table_is_the_default(truth: list[str], tmp_path: Path) -> None:
    with serve(truth, itl_us=2_000) as server:
        said = fleetbench("bench", server.url, *SMALL, folder=tmp_path)
    assert (said.err, max(map(len, said.out.splitlines())) <= 80) == ("", True)
    assert "TTFT" in said.out


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
@pytest.mark.parametrize(
    ("knobs", "warning"),
    [
        ({"prompt_extra": 7}, None),
        ({"prompt_fixed": 5}, "does not depend on the prompt"),
        ({"usage": "none"}, "the server counts no prompt tokens"),
    ],
)
def test_lengths_are_exact_or_said_to_be_unverified(
    truth: list[str], endpoint: str, knobs: dict[str, Any], warning: str | None, tmp_path: Path
) -> None:
    found, known = paced(truth, *SMALL, "--endpoint", endpoint, folder=tmp_path, **knobs)
    if warning is None:
        assert found["warnings"] == []
        assert {each.prompt_tok for each in known.log[-12:]} == {32}
    else:
        assert any(warning in sentence for sentence in found["warnings"])
        assert "wrong_lengths" not in found["kinds"]
    if knobs.get("usage") == "none":
        assert found["tokens_from"] == "chunks"


@pytest.mark.parametrize(
    ("knobs", "more", "kind"),
    [
        ({"model": "m"}, ("--model", "wrong"), "http_error"),
        ({"fault": "status", "status": 503}, (), "http_error"),
        ({"fault": "reset", "fault_after": 2}, (), "transport_error"),
        ({"fault": "close", "fault_after": 2}, (), "transport_error"),
        ({"fault": "garbage", "fault_after": 2}, (), "protocol_error"),
        ({"fault": "endless-line", "fault_after": 2}, (), "protocol_error"),
        ({"fault": "error", "fault_after": 2}, ("--processes", "2"), "http_error"),
    ],
)
def test_requests_that_fail_are_counted_by_kind_and_give_no_figure(
    truth: list[str], knobs: dict[str, Any], more: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    with serve(truth, **knobs) as server:
        said, found = bench(server.url, *SMALL, *more, folder=tmp_path)
    assert (said.code, said.err) == (1, "")
    assert not found["valid"]
    assert "of 12 requests failed" in found["reasons"][0]
    assert (found["requests"], found["completed"], found["failed"]) == (12, 0, 12)
    assert {name: entry["count"] for name, entry in found["failures"].items()} == {kind: 12}
    assert found["failures"][kind]["example"]
    assert [found[name] for name in LATENCIES] == [NOTHING] * 4


def test_nobody_at_the_port_is_a_report_of_failures(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://{}:{}".format(*listener.getsockname())
    said, found = bench(url, *SMALL, folder=tmp_path)
    assert (said.code, found["failed"]) == (1, 12)
    assert "Connection refused" in found["failures"]["transport_error"]["example"]


def test_a_server_that_refuses_all_is_not_asked_for_as_long_as_the_load_was_to_last(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "http://{}:{}".format(*listener.getsockname())
    said, found = bench(url, "--batch", "4", "--seconds", "300", folder=tmp_path)
    assert (said.code, found["completed"]) == (1, 0)
    assert found["failed"] >= 1000


def test_streams_that_stall_end_the_load_after_a_round(truth: list[str], tmp_path: Path) -> None:
    arguments = ("--batch", "8", "--requests", "800", "--output", "6", "--timeout", "1")
    with serve(truth, fault="stall", fault_after=2) as server:
        said, found = bench(server.url, *arguments, folder=tmp_path)
    assert (said.code, found["valid"]) == (1, False)
    assert (found["failed"], found["failures"]["timeout"]["count"], found["ttft_ms"]["n"]) == (8, 8, 0)
    never = 800 - found["failed"] - found["cancelled"]
    assert f"{never} of 800 requests never ran" in found["reasons"]


def test_a_server_that_accepts_and_never_answers_costs_a_few_time_limits(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        url = "http://{}:{}".format(*listener.getsockname())
        said, found = bench(url, *SMALL, "--timeout", "0.3", "--requests", "4000", folder=tmp_path)
    assert (said.code, found["probes"], found["completed"]) == (1, 1, 0)
    assert found["failed"] < 40
    assert "timeout" in found["failures"]


@pytest.mark.parametrize(
    ("more", "requests"),
    [
        (("--rate", "200", "--requests", "20"), 20),
        (("--rate", "200", "--requests", "20", "--arrivals", "gamma", "--burstiness", "0.5"), 20),
        (("--rate", "100", "--arrivals", "constant", "--seconds", "0.2"), 20),
        (("--ramp", "10..100x1", "--requests", "10", "--processes", "2"), 10),
        (("--stages", "50x0.1,100x0.1", "--requests", "9", "--arrivals", "constant"), 9),
    ],
)
def test_an_open_loop_sends_what_is_due(truth: list[str], more: tuple[str, ...], requests: int, tmp_path: Path) -> None:
    found, known = paced(truth, *more, "--context", "32", "--output", "3", folder=tmp_path)
    assert (found["requests"], found["batch"]) == (requests, None)
    assert known.requests == requests + found["probes"]
    assert found["ttft_intended_ms"]["n"] == requests


@pytest.mark.parametrize(
    ("name", "text", "lengths"),
    [("trace.jsonl", MOONCAKE, [(600, 3), (30, 5)]), ("trace.csv", BURSTGPT, [(40, 3), (50, 2)])],
)
def test_a_trace_is_replayed_with_its_lengths(
    truth: list[str], name: str, text: str, lengths: list[tuple[int, int]], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    found, known = paced(truth, "--trace", name, "--speed", "10", "--tokenizer", str(TINY), folder=tmp_path)
    assert [(each.prompt_tok, each.output_tok) for each in known.log[-2:]] == lengths
    assert found["load"] == f"trace {name}"


def test_lengths_vary_within_what_was_asked_and_prompts_share_their_beginning(truth: list[str], tmp_path: Path) -> None:
    more = ("--context", "16..64", "--output", "lognormal:4,0.5,2..8", "--shared-prefix", "8")
    found, known = paced(truth, "--batch", "4", "--requests", "24", *more, folder=tmp_path)
    prompts = [each.prompt_tok for each in known.log[-24:]]
    assert (min(prompts) >= 16, max(prompts) <= 64, len(set(prompts)) > 5) == (True, True, True)
    assert {each.output_tok for each in known.log[-24:]} <= set(range(2, 9))
    assert found["warnings"] == []


def test_a_tokenizer_gives_ids_whose_number_the_server_counts(truth: list[str], tmp_path: Path) -> None:
    found, known = paced(truth, *SMALL, "--tokenizer", str(TINY), folder=tmp_path)
    assert {each.prompt_tok for each in known.log} == {32}
    assert found["calibration"]["verified"]


def test_prompts_come_from_a_file_without_probes(truth: list[str], tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one two three\nfour five\n")
    found, known = paced(truth, *SHORT, "--prompts", "lines.txt", folder=tmp_path)
    assert (found["probes"], found["warnings"], found["calibration"]) == (0, [], None)
    assert sorted(each.prompt_tok for each in known.log) == [2] * 6 + [3] * 6
    found, known = paced(truth, *SHORT, "--prompts", "lines.txt", "--unique", folder=tmp_path)
    assert min(each.prompt_tok for each in known.log) > 2


def test_requests_that_failed_count_against_goodput(truth: list[str], tmp_path: Path) -> None:
    with serve(truth, fault="reset", fault_every=3, itl_us=2_000) as server:
        said, found = bench(server.url, *SMALL, "--slo", "ttft:10s", "--slo", "e2e=20s", folder=tmp_path)
    assert said.code == 1
    assert found["failed"] == 4
    assert (found["goodput"]["met"], found["goodput"]["asked"]) == (8, 12)


@pytest.mark.engine
def test_a_real_engine_is_measured_at_exact_lengths(tiny_url: str, tmp_path: Path) -> None:
    said, found = bench(tiny_url, *SMALL, "--model", "tiny", folder=tmp_path)
    assert said.code == (0 if found["valid"] else 1)
    assert set(found["kinds"]) <= {"client_bound", "off_schedule"}
    assert (found["completed"], found["prompt_tok"]) == (12, {"mean": 32.0, "min": 32, "max": 32})
    assert found["output_tok"] == {"mean": 6.0, "min": 6, "max": 6}
