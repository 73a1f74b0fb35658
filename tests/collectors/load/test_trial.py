from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from fleetbench.engine.protocol import Session
from fleetbench_collectors.load import trial
from fleetbench_collectors.load.spec import SpecError
from fleetbench_collectors.tables import REQUESTS
from tests.collectors.load.conftest import Engine, Turn

Start = Callable[[Callable[[Turn], None]], Engine]


def spec(base_url: str, **more: Any) -> dict[str, Any]:
    values = {
        "run_id": "r",
        "trial_id": "t",
        "attempt": 1,
        "base_url": base_url,
        "model": "m",
        "batch": 2,
        "rate_per_s": None,
        "arrivals": None,
        "context_tok": 16,
        "output_tok": 4,
        "requests": 6,
        "warmup": 1,
        "warmup_context_tok": 16,
        "warmup_output_tok": 4,
        "seed": 0,
        "nonce": "n",
        "token_ids": {"first": 3, "count": 95},
        "request_timeout_s": 30,
        "out": "unused",
    }
    return values | more


def seen_gaps(rows: list[dict[str, Any]]) -> int:
    """Tokens after each request's first arrival: on a busy machine one read may bring several."""
    return sum(sum(row["chunk_tok"][1:]) if row["chunk_tok"] else row["chunks"] - 1 for row in rows)


def test_a_trial_gives_a_row_for_every_request_and_the_columns_of_its_trial(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    result = trial.run(spec(server.url))
    requests = result["tables"]["requests"]
    assert requests.schema.equals(REQUESTS, check_metadata=True)
    rows = requests.to_pylist()
    assert [row["phase"] for row in rows] == ["warmup"] + ["measure"] * 6
    assert sorted(row["request"] for row in rows) == list(range(7))
    assert {(row["outcome"], row["prompt_tok"], row["output_tok"], row["chunks"]) for row in rows} == {("ok", 16, 4, 4)}
    assert result["summary"]["completed_requests"] == 6
    assert result["summary"]["itl_n"] == seen_gaps(rows[1:])
    start, end = result["window"]
    assert result["summary"]["clock_mono_ns"] < start < end
    assert result["summary"]["window_s"] == pytest.approx((end - start) / 1e9)


def test_the_engine_gets_what_was_asked_and_never_the_same_prompt(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    trial.run(spec(server.url))
    trial.run(spec(server.url, nonce="another"))
    bodies = [turn.body for turn in server.turns]
    assert len({tuple(body["prompt"]) for body in bodies}) == len(bodies) == 14
    for body in bodies:
        assert len(body.pop("prompt")) == 16
        assert body == {
            "model": "m",
            "max_tokens": 4,
            "ignore_eos": True,
            "temperature": 0,
            "seed": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "cache_prompt": False,
        }


def test_a_warm_up_of_its_own_lengths_is_asked_and_kept_as_such(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    asked = spec(server.url, warmup=5, warmup_context_tok=1, warmup_output_tok=2)
    rows = trial.run(asked)["tables"]["requests"].to_pylist()
    lengths = [(row["phase"], row["asked_prompt_tok"], row["asked_output_tok"]) for row in rows]
    assert lengths == [("warmup", 1, 2)] * 5 + [("measure", 16, 4)] * 6
    assert [(row["prompt_tok"], row["output_tok"]) for row in rows] == [(1, 2)] * 5 + [(16, 4)] * 6
    heads = {turn.body["prompt"][0] for turn in server.turns}
    assert len(heads) == len(server.turns) == 11


def test_the_shape_of_the_warm_up_does_not_change_the_measured_prompts(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    trial.run(spec(server.url, batch=1))
    trial.run(spec(server.url, batch=1, warmup_context_tok=2))
    first, second = server.turns[:7], server.turns[7:]
    assert [turn.body["prompt"] for turn in second[1:]] == [turn.body["prompt"] for turn in first[1:]]


def test_times_agree_with_the_servers_own_stamps(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    result = trial.run(spec(server.url, batch=1, requests=3, warmup=0))
    zero_ns = result["summary"]["clock_mono_ns"]
    for row, turn in zip(result["tables"]["requests"].to_pylist(), server.turns, strict=True):
        stamps = [row[name] + zero_ns for name in ("start_ns", "first_token_ns", "last_token_ns", "end_ns")]
        assert all(before <= after for before, after in pairwise(stamps))
        assert stamps[0] <= turn.sent_ns[0] <= stamps[1]
        assert turn.sent_ns[3] <= stamps[2]
        assert sum(row["gaps_us"]) == pytest.approx((stamps[2] - stamps[1]) / 1e3, abs=2)


def test_failures_are_rows_and_give_no_numbers(engine: Start) -> None:
    def script(turn: Turn) -> None:
        if turn.number % 2:
            turn.over()
            turn.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\nbang")
        else:
            turn.answer()

    server = engine(script)
    result = trial.run(spec(server.url, batch=1, warmup=0))
    rows = result["tables"]["requests"].to_pylist()
    assert [row["outcome"] for row in rows] == ["ok", "http_error"] * 3
    assert rows[1]["error"] == "HTTP 500: bang"
    assert (rows[1]["gaps_us"], rows[1]["first_token_ns"]) == (None, None)
    assert (result["summary"]["completed_requests"], result["summary"]["failed_requests"]) == (3, 3)


def test_counts_that_differ_from_what_was_asked_are_kept_as_the_server_said_them(engine: Start) -> None:
    def script(turn: Turn) -> None:
        turn.head()
        turn.token()
        turn.end(prompt_tok=17, output_tok=1)

    rows = trial.run(spec(engine(script).url))["tables"]["requests"].to_pylist()
    assert {(row["asked_prompt_tok"], row["prompt_tok"]) for row in rows} == {(16, 17)}
    assert {(row["asked_output_tok"], row["output_tok"]) for row in rows} == {(4, 1)}


def test_an_engine_that_is_gone_gives_a_trial_without_numbers(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    url = server.url
    server.stop()
    result = trial.run(spec(url))
    assert result["window"] is None
    assert (result["summary"]["completed_requests"], result["summary"]["failed_requests"]) == (0, 6)
    assert result["summary"]["output_tok_s"] is None


def test_a_broken_specification_starts_nothing() -> None:
    with pytest.raises(SpecError, match="batch"):
        trial.run(spec("http://127.0.0.1:1", batch=0))


def test_an_open_loop_gives_its_rows_and_how_late_they_were_sent(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    asked = spec(server.url, batch=None, rate_per_s=200, arrivals="constant", warmup=0)
    result = trial.run(asked)
    rows = sorted(result["tables"]["requests"].to_pylist(), key=lambda row: int(row["request"]))
    intended = [row["intended_ns"] for row in rows]
    assert [after - before for before, after in pairwise(intended)] == [5_000_000] * 5
    assert all(row["start_ns"] >= row["intended_ns"] for row in rows)
    assert result["summary"]["schedule_lag_p99_ms"] is not None
    assert result["evidence"]["client"]["asked_batch"] is None


def test_the_evidence_says_what_was_asked_and_what_came(engine: Start) -> None:
    counts = trial.run(spec(engine(lambda turn: turn.answer()).url))["evidence"]["counts"]
    assert (counts["asked"], counts["completed"], counts["cancelled"], counts["failures"]) == (6, 6, 0, ())
    assert (counts["wrong_prompt_tok"], counts["wrong_output_tok"]) == ((), ())


def test_a_load_of_which_every_request_runs_out_of_time_ends_after_a_round(engine: Start) -> None:
    server = engine(lambda turn: turn.head())
    result = trial.run(spec(server.url, batch=8, requests=64, warmup=0, request_timeout_s=0.1))
    outcomes = Counter(result["tables"]["requests"]["outcome"].to_pylist())
    assert (outcomes["timeout"], outcomes["ok"], sum(outcomes.values()) < 64) == (8, 0, True)
    assert result["evidence"]["counts"]["asked"] == 64


def test_a_load_goes_on_where_one_request_went_well(engine: Start) -> None:
    def script(turn: Turn) -> None:
        if turn.number == 0:
            turn.answer()
        else:
            turn.head()

    result = trial.run(spec(engine(script).url, batch=8, requests=24, warmup=0, request_timeout_s=0.1))
    outcomes = Counter(result["tables"]["requests"]["outcome"].to_pylist())
    assert outcomes == {"ok": 1, "timeout": 23}


def test_a_rate_that_no_client_reaches_starts_nothing(engine: Start) -> None:
    server = engine(lambda turn: turn.answer())
    with pytest.raises(SpecError, match="rate"):
        trial.run(spec(server.url, batch=None, rate_per_s=1e300, arrivals="poisson"))
    assert server.connections == 0


@pytest.mark.engine
def test_the_real_engine_counts_what_was_asked(tiny_session: Session) -> None:
    url, model = tiny_session.receipt.base_url, tiny_session.receipt.model_alias
    result = trial.run(spec(url, model=model, batch=4, requests=8, context_tok=64, output_tok=32, request_timeout_s=60))
    rows = result["tables"]["requests"].to_pylist()
    assert [row["error"] for row in rows] == [None] * 9
    said = [(row["prompt_tok"], row["output_tok"], row["cached_tok"], row["chunks"]) for row in rows]
    assert said == [(16, 4, 0, 4)] + [(64, 32, 0, 32)] * 8
    assert result["summary"]["itl_n"] == seen_gaps(rows[1:])
    assert result["summary"]["output_tok_s"] > 0
