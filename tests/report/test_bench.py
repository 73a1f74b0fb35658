from __future__ import annotations

import csv
import io
import itertools
import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from fleetbench.report.bench import FEW, INTENDED, flat, render

NAMES = ("ttft", "first_byte", "itl", "gap", "tpot", "e2e", "queue", "ttft_intended", "e2e_intended")
NONE = {"mean": None, "p50": None, "p90": None, "p99": None, "n": 0}
WINDOW = {"output_tok_s": 8149.3, "total_tok_s": 40746.2, "requests_per_s": 63.7, "achieved_batch": 63.9}
EVIDENCE = {
    "read_lag_p50_us": 12.0,
    "read_lag_p99_us": 81.4,
    "schedule_lag_p99_ms": None,
    "achieved_batch": 63.9,
    "cpu_ratio": 0.312,
    "cpu_s": 6.2,
    "merged_ratio": 0.0,
    "step_ns": 1200,
    "cached_tok": 0,
    "cache_hit_tok": None,
}


def stats(p50: float, n: int = 1230) -> dict[str, Any]:
    return {"mean": p50 * 1.02, "p50": p50, "p90": p50 * 1.3, "p99": p50 * 2.1, "n": n}


def result(**changes: Any) -> dict[str, Any]:
    """A closed loop in which all went well."""
    known: dict[str, Any] = {
        "valid": True,
        "reasons": [],
        "kinds": [],
        "warnings": [],
        "interrupted": False,
        "url": "http://127.0.0.1:8000",
        "model": "llama",
        "endpoint": "completions",
        "load": "batch 64",
        "batch": 64,
        "rate_per_s": None,
        "context": "512",
        "output": "128",
        "prompts": None,
        "seed": 0,
        "processes": 1,
        "stamp": "kernel",
        "way": "direct",
        "requests": 1230,
        "completed": 1230,
        "failed": 0,
        "cancelled": 0,
        "probes": 12,
        "warmup": 64,
        "resent": 0,
        "failures": {},
        "duration_s": 19.83,
        "output_tok_s": 7949.3,
        "total_tok_s": 39746.2,
        "requests_per_s": 62.11,
        "tokens_from": "usage",
        "prompt_tok": {"mean": 512.0, "min": 512, "max": 512},
        "output_tok": {"mean": 126.4, "min": 12, "max": 128},
        **{f"{name}_ms": stats(50.0 * (position + 1)) for position, name in enumerate(NAMES)},
        "user_tok_s": stats(125.3),
        "goodput": None,
        "steady": None,
        "steady_reason": None,
        "evidence": EVIDENCE,
    }
    return {**known, **changes}


STEADY = {
    "start_s": 2.13,
    "end_s": 17.64,
    "share": 0.782,
    **WINDOW,
    **{f"{name}_ms": stats(20.0, 961) for name in ("ttft", "itl", "tpot", "e2e")},
}
OPEN = result(load="rate 5/s poisson", batch=None, rate_per_s=5.0)
LOST = result(
    valid=False,
    reasons=["no request went well: is the model's name right?"],
    completed=0,
    failed=1230,
    failures={"http_error": {"count": 1230, "example": "HTTP 404: no"}},
    **dict.fromkeys(("output_tok_s", "total_tok_s", "requests_per_s", "prompt_tok", "output_tok")),
    **{f"{name}_ms": NONE for name in NAMES},
    user_tok_s=NONE,
    evidence=dict.fromkeys(EVIDENCE),
)


def written(found: dict[str, Any], form: Literal["table", "csv", "markdown"] = "table", *, colour: bool = False) -> str:
    sink = io.StringIO()
    system: Literal["standard"] | None = "standard" if colour else None
    render(found, form, Console(file=sink, width=80, force_terminal=colour, color_system=system, highlight=False))
    return sink.getvalue()


def line(text: str, start: str) -> str:
    return next(each.rstrip() for each in text.splitlines() if each.strip().startswith(start))


def test_the_whole_page() -> None:
    page = [each.rstrip() for each in written(result(steady=STEADY)).splitlines()]
    assert page == [
        "llama  http://127.0.0.1:8000 (completions)",
        "batch 64, context 512 → output 128 tokens",
        "",
        "valid",
        "",
        "requests  1,230 sent: 1,230 completed",
        "tokens    prompt 512, output 126.4 (12 to 128); counted by the server",
        "per user  125.3 tok/s after the first token (p50)",
        "besides   12 to probe, 64 to warm up",
        "",
        "                           output tok/s  total tok/s  requests/s  seconds",
        "whole run                         7,949       39,746        62.1     19.8",
        "steady, 2.13 to 17.6 s            8,149       40,746        63.7     15.5",
        "",
        "ms                             mean      p50      p90      p99         n",
        "all completed requests",
        "  TTFT                         51.0     50.0     65.0    105.0     1,230",
        "  ITL                         153.0    150.0    195.0    315.0     1,230",
        "  TPOT                        255.0    250.0    325.0    525.0     1,230",
        "  end to end                  306.0    300.0    390.0    630.0     1,230",
        "steady, 78.2 % of the run",
        "  TTFT                         20.4     20.0     26.0     42.0       961",
        "  ITL                          20.4     20.0     26.0     42.0       961",
        "  TPOT                         20.4     20.0     26.0     42.0       961",
        "  end to end                   20.4     20.0     26.0     42.0       961",
        "",
        "kernel stamps (direct), read lag p99 81.4 us, client CPU 31.2 %, 63.9 of 64 in",
        "flight, cached prompt tokens 0 of any request by usage",
    ]


def test_the_verdict_stands_before_any_number_with_all_reasons() -> None:
    text = written(result(valid=False, reasons=["read late: add a process", "too short"], interrupted=True))
    assert [each.strip() for each in text.split("\n\n")[1].splitlines()] == [
        "not valid:  read late: add a process",
        "too short",
        "stopped early: these are the requests until then",
    ]
    assert "\x1b[1;31mnot valid:" in written(result(valid=False, reasons=["x"]), colour=True)
    assert "\x1b[1;32mvalid" in written(result(), colour=True)


def test_a_stopped_run_may_be_valid_and_says_so() -> None:
    assert line(written(result(interrupted=True)), "valid").endswith("these are the requests until then")


@pytest.mark.parametrize("form", ["table", "markdown"])
def test_failures_alone_give_no_rate_and_no_latency(form: Literal["table", "markdown"]) -> None:
    text = written(LOST, form)
    assert "HTTP 404: no" in text
    assert "1,230 failed" in text
    assert not any(word in text for word in ("tok/s", "TTFT", "p50", "None"))


def test_failures_are_told_by_kind_the_commonest_first() -> None:
    timeout, status = (
        {"count": 1, "example": "none in 600 s"},
        {"count": 1030, "example": "HTTP [red]503[/]\x1b[0m\nbusy"},
    )
    text = written(result(failed=1031, failures={"timeout": timeout, "http_error": status}))
    assert line(text, "failed") == "failed    1,030 http_error: HTTP [red]503[/]�[0m busy"
    assert line(text, "1 timeout") == "          1 timeout: none in 600 s"


def test_what_was_not_measured_is_a_dash() -> None:
    text = written(result(itl_ms=NONE, prompt_tok=None, total_tok_s=None))
    assert line(text, "ITL").split() == ["ITL", *["—"] * 5]
    assert line(text, "whole run").split() == ["whole", "run", "7,949", "—", "62.1", "19.8"]
    assert line(text, "tokens").startswith("tokens    prompt —, output 126.4")


def test_a_p99_of_few_samples_is_marked_and_explained() -> None:
    few = written(result(ttft_ms=stats(50.0, 99)))
    assert line(few, "TTFT").split()[4:] == ["105.0*", "99"]
    assert line(few, "*") == f"* {FEW}"
    assert "*" not in written(result(ttft_ms=stats(50.0, 100)))
    assert "*" not in written(result(ttft_ms={**stats(50.0, 99), "p99": None}))
    assert FEW in written(result(ttft_ms=stats(50.0, 99)), "markdown")


def test_an_open_loop_shows_what_its_schedule_adds() -> None:
    text = written(OPEN)
    assert line(text, "TTFT, intended").split()[2] == "408.0"
    assert line(text, "queue delay").split()[2] == "357.0"
    assert INTENDED in " ".join(text.split())
    assert "intended" not in written(result())


def test_a_missing_steady_state_has_its_reason() -> None:
    text = written(result(steady_reason="the queue grew throughout"))
    assert line(text, "no steady") == "no steady state: the queue grew throughout"


def test_goodput_names_its_targets() -> None:
    goodput = {"per_s": 55.1, "ratio": 0.887, "met": 1091, "asked": 1230, "slo": "ttft:500,itl:50"}
    text = written(result(goodput=goodput))
    assert line(text, "goodput") == "goodput   55.1 requests/s: 1,091 of 1,230 (88.7 %) meet ttft:500,itl:50"


def test_goodput_of_nothing_asked_is_a_dash() -> None:
    goodput = {"per_s": None, "ratio": None, "met": 0, "asked": 0, "slo": "ttft:500"}
    assert line(written(result(goodput=goodput)), "goodput") == "goodput   — requests/s: 0 of 0 (—) meet ttft:500"


def test_prompts_of_a_file_have_no_length_that_was_asked_for() -> None:
    assert line(written(result(prompts="chat.json")), "batch") == "batch 64, prompts of chat.json → output 128 tokens"


def test_stamps_of_the_client_give_a_lag_that_is_a_lower_bound() -> None:
    text = written(result(stamp="user", tokens_from="chunks", evidence={**EVIDENCE, "schedule_lag_p99_ms": 0.5}))
    assert "client stamps (direct), read lag p99 at least 81.4 us, schedule lag p99 0.500 ms" in " ".join(text.split())
    assert "the server counts none" in text


def test_warnings_come_last_and_yellow() -> None:
    found = result(warnings=["the prompts are 3 tokens too long", "no usage"])
    assert [each.rstrip() for each in written(found).splitlines()][-2:] == [
        "warning  the prompts are 3 tokens too long",
        "warning  no usage",
    ]
    assert "\x1b[33mthe prompts" in written(found, colour=True)


LONG = st.text(max_size=200)


@given(LONG, LONG, LONG, st.floats(1e-6, 1e8), st.integers(1, 10**8))
def test_no_line_is_wider_than_a_page(said: str, url: str, example: str, size: float, n: int) -> None:
    found = result(
        model=said,
        url=url,
        valid=False,
        reasons=[said, url],
        warnings=[example],
        failures={"http_error": {"count": n, "example": example}},
        failed=n,
        requests=n,
        steady={**STEADY, "ttft_ms": stats(size, n)},
        output_tok_s=size,
        duration_s=size,
        **{f"{name}_ms": stats(size, n) for name in NAMES},
    )
    assert max(cell_len(each.rstrip()) for each in written(found).split("\n")) <= 80


def test_csv_is_one_row_whose_columns_stay() -> None:
    latencies = [
        column
        for name in (*NAMES, "steady_ttft", "steady_itl", "steady_tpot", "steady_e2e")
        for column in (*(f"{name}_{part}_ms" for part in ("mean", "p50", "p90", "p99")), f"{name}_n")
    ]
    whole, steady = latencies[: 5 * len(NAMES)], latencies[5 * len(NAMES) :]
    head = (
        "valid reasons kinds warnings interrupted url model endpoint load batch rate_per_s context output prompts seed "
        "processes stamp way requests completed failed cancelled probes warmup resent failures duration_s "
        "output_tok_s total_tok_s requests_per_s prompt_tok_mean prompt_tok_min prompt_tok_max "
        "output_tok_mean output_tok_min output_tok_max tokens_from"
    )
    middle = (
        "user_tok_s_mean user_tok_s_p50 user_tok_s_p90 user_tok_s_p99 user_tok_s_n "
        "goodput_per_s goodput_ratio goodput_met goodput_asked goodput_slo "
        "steady_start_s steady_end_s steady_share_ratio steady_reason "
        "steady_output_tok_s steady_total_tok_s steady_requests_per_s steady_achieved_batch"
    )
    for found in (result(steady=STEADY), OPEN, LOST):
        columns, row = csv.reader(io.StringIO(written(found, "csv")))
        assert " ".join(columns) == " ".join([head, *whole, middle, *steady, *EVIDENCE])
        assert len(row) == len(columns)


def test_csv_keeps_precision_and_leaves_empty_what_was_not_measured() -> None:
    found = result(steady=STEADY, reasons=["a, b"], failures={"timeout": {"count": 1, "example": "x"}})
    said = next(csv.DictReader(io.StringIO(written(found, "csv"))))
    assert (said["valid"], said["ttft_p50_ms"], said["steady_share_ratio"]) == ("true", "50.0", "0.782")
    assert (said["goodput_per_s"], said["rate_per_s"], said["cache_hit_tok"]) == ("", "", "")
    assert json.loads(said["reasons"]) == ["a, b"]
    assert json.loads(said["failures"])["timeout"]["count"] == 1
    assert {len(flat(each).columns) for each in (found, LOST)} == {len(said)}


def test_markdown_holds_the_verdict_beside_the_latencies() -> None:
    text = written(result(steady=STEADY, valid=False, reasons=["too short"], warnings=["no usage"]), "markdown")
    title, _, head, _, *rows = text.splitlines()
    assert title == "### llama: batch 64, context 512 → output 128 tokens (not valid)"
    assert head == "| window | ms | mean | p50 | p90 | p99 | n |"
    table = list(itertools.takewhile(str.strip, rows))
    assert table[0] == "| all completed requests | TTFT | 51.0 | 50.0 | 65.0 | 105.0 | 1230 |"
    assert len(table) == 8
    assert [each for each in rows[len(table) :] if each] == [
        "Not valid: too short",
        "1,230 sent: 1,230 completed.",
        "7,949 output tok/s, 62.1 requests/s.",
        "no usage",
    ]
