from __future__ import annotations

from array import array
from typing import Any

import numpy as np
import pytest

from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.parse import Reply
from fleetbench_collectors.load.record import Records
from fleetbench_collectors.load.slo import Goodput, Slo, goodput, met, parse

MS = 1_000_000


def add(
    records: Records,
    *,
    gaps_ms: tuple[int, ...] = (10,) * 4,
    waited_ms: int = 0,
    phase: str = "measure",
    **changes: Any,
) -> Records:
    """A request that starts at 1 s: first token after 50 ms, then one every 10 ms."""
    start_ns = 1000 * MS
    stamps = (start_ns + 50 * MS + MS * np.cumsum([0, *gaps_ms])).tolist()
    values = {
        "token_ns": array("q", stamps),
        "chunks": len(stamps),
        "output_tok": len(stamps),
        "end_ns": 1100 * MS,
    }
    records.add(
        Request(number=len(records), payload=b"", prompt_tok=10, output_tok=5),
        phase,
        intended_ns=start_ns - waited_ms * MS,
        start_ns=start_ns,
        reply=Reply(**{**values, **changes}),
    )
    return records


def kept(records: Records, targets: str) -> list[bool]:
    found: list[bool] = met(records, parse(targets)).tolist()
    return found


@pytest.mark.parametrize(
    "texts",
    [
        "ttft:500,itl:50,tpot:50,e2e:10000",
        "ttft=500ms itl=50 tpot=50000us e2e=10s",
        ["ttft:0.5s,itl:50", "tpot:50", "e2e:10s"],
    ],
)
def test_targets_are_read_in_milliseconds(texts: str | list[str]) -> None:
    assert parse(texts) == Slo(ttft_ms=500, itl_ms=50, tpot_ms=50, e2e_ms=10_000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft", "'ttft' is no target: write NAME:MS, such as ttft:500"),
        ("", "'' is no target: write NAME:MS"),
        ("ttft:-5", "is no target"),
        ("e2el:5", "there is no target 'e2el': use ttft, itl, tpot or e2e"),
        ("ttft:5h", "has the unit 'h': use us, ms or s"),
        ("ttft:0", "must be above 0"),
        ("ttft:5,ttft:6", "ttft has two targets"),
    ],
)
def test_a_mistake_is_named_with_the_right_form(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)


@pytest.mark.parametrize("target", ["ttft", "tpot", "e2e", "itl"])
def test_a_target_is_met_up_to_its_value(target: str) -> None:
    values = {"ttft": 50, "tpot": 10, "e2e": 90, "itl": 10}
    records = add(Records())
    assert kept(records, f"{target}:{values[target]}.001") == [True]
    assert kept(records, f"{target}:{values[target] - 1}") == [False]


def test_the_wait_within_the_client_counts() -> None:
    records = add(Records(), waited_ms=30)
    assert kept(records, "ttft:79") + kept(records, "e2e:119") == [False, False]
    assert kept(records, "ttft:81,e2e:121") == [True]


def test_one_long_gap_breaks_the_itl_target_and_not_the_tpot_target() -> None:
    records = add(Records(), gaps_ms=(10,) * 20 + (400,))
    assert (kept(records, "itl:200"), kept(records, "tpot:30")) == ([False], [True])


def test_a_single_token_waits_for_no_other() -> None:
    assert kept(add(Records(), gaps_ms=()), "itl:1,tpot:1") == [True]


def test_what_is_unknown_is_not_met() -> None:
    records = add(add(Records()), output_tok=None)
    assert kept(records, "tpot:50") == [True, False]
    assert kept(add(Records(), token_ns=array("q")), "ttft:500") == [False]


def test_failed_requests_count_against_goodput_and_cancelled_ones_do_not() -> None:
    records = add(add(add(Records()), gaps_ms=(10, 80)), outcome="http_error", error="busy")
    add(add(records, outcome="cancelled", end_ns=None), phase="warmup")
    found = goodput(records, parse("itl:50"))
    assert (found.met, found.asked) == (1, 3)
    assert found.ratio == pytest.approx(1 / 3)
    assert found.per_s == pytest.approx(1 / 0.14)


def test_nothing_asked_has_no_goodput() -> None:
    assert goodput(add(Records(), phase="warmup"), Slo(ttft_ms=1)) == Goodput(per_s=None, ratio=None, met=0, asked=0)
