from __future__ import annotations

from typing import Any

import pyarrow as pa

from fleetbench.fleet.measure import counts
from fleetbench.judge.validity import Counts
from fleetbench_collectors.tables import REQUESTS
from tests.samples import request_row

SHORT: dict[str, Any] = {
    "phase": "warmup",
    "asked_prompt_tok": 16,
    "asked_output_tok": 2,
    "prompt_tok": 16,
    "output_tok": 2,
}


def counted(*rows: dict[str, Any]) -> Counts:
    key = {"run_id": "r", "trial_id": "t", "attempt": 0}
    return counts(pa.Table.from_pylist([{**key, **row} for row in rows], schema=REQUESTS), asked=1)


def test_what_was_asked_is_read_from_measured_requests_and_not_from_the_warm_up() -> None:
    found = counted(request_row(0, [1], **SHORT), request_row(1, [1], prompt_tok=65))
    assert (found.asked_prompt_tok, found.asked_output_tok) == (64, 4)
    assert (found.wrong_prompt_tok, found.wrong_output_tok) == (((65, 1),), ())


def test_a_trial_that_ended_in_its_warm_up_measured_nothing() -> None:
    found = counted(request_row(0, [1], **{**SHORT, "outcome": "timeout"}))
    assert (found.completed, found.warmup_failed) == (0, 1)
