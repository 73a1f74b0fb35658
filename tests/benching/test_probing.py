from __future__ import annotations

import socket
from typing import Any

import pytest

from fleetbench.bench.probing import Probed, probe
from fleetbench_collectors.load import calibrate
from fleetbench_collectors.load.lengths import parse
from fleetbench_collectors.load.workload import Ids, Words
from tests.benching.ask import asked, never
from tests.benching.strict import strict
from tests.truth.run import serve


def probed(url: str, *, ids: range | None = None, context: str = "32", **changes: Any) -> Probed:
    load = asked(url, context=parse(context), **changes)
    return probe(load.workload("m", Ids(ids=range(1))), words=(), ids=ids, stopped=never)


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
@pytest.mark.parametrize("extra", [0, 7])
def test_what_the_server_adds_to_a_text_is_found_and_verified_at_the_longest_prompt(
    truth: list[str], endpoint: str, extra: int
) -> None:
    with serve(truth, prompt_extra=extra) as server:
        found = probed(server.url, context="16..64", endpoint=endpoint)
        log = server.stop().log
    assert isinstance(found.prompts, Words)
    assert (found.calibration.verified, found.calibration.overhead_tok) == (True, 1 + extra)
    assert found.failure is None
    assert len(log) == found.requests
    assert (log[-1].prompt_tok, log[-1].output_tok) == (64, 1)


def test_ids_are_used_where_the_endpoint_takes_them(truth: list[str]) -> None:
    with serve(truth, prompt_extra=1) as server:
        found = probed(server.url, ids=range(3, 99))
        assert server.stop().log[-1].prompt_tok == 32
    assert found.prompts == Ids(ids=range(3, 99), overhead_tok=1)
    assert found.calibration.verified


@pytest.mark.parametrize("endpoint", ["completions", "chat"])
@pytest.mark.parametrize(
    ("knobs", "reason"), [({"prompt_fixed": 5}, calibrate.CONSTANT), ({"usage": "none"}, calibrate.NO_USAGE)]
)
def test_counts_that_say_nothing_leave_the_length_unverified(
    truth: list[str], endpoint: str, knobs: dict[str, Any], reason: str
) -> None:
    with serve(truth, **knobs) as server:
        found = probed(server.url, endpoint=endpoint)
    assert found.failure is None
    assert (found.calibration.verified, found.calibration.reason) == (False, reason)


@pytest.mark.parametrize(
    ("knobs", "timeout_s", "words"),
    [
        ({"model": "another"}, 20.0, "HTTP 404"),
        ({"fault": "status", "status": 503}, 20.0, "HTTP 503"),
        ({"fault": "reset"}, 20.0, "reset"),
        ({"fault": "stall"}, 0.2, "no whole response in 0.2 s"),
        ({"fault": "endless-line"}, 20.0, "more than 1048576 bytes"),
    ],
)
def test_the_first_probe_that_fails_ends_the_probing_and_says_why(
    truth: list[str], knobs: dict[str, Any], timeout_s: float, words: str
) -> None:
    with serve(truth, **knobs) as server:
        found = probed(server.url, timeout_s=timeout_s)
        assert len(server.stop().log) == found.requests == 1
    assert found.failure is not None
    assert words in found.failure
    assert not found.calibration.verified
    assert found.calibration.reason == f"a probe failed: {found.failure}"


def test_whoever_stops_it_is_heard_while_a_probe_waits() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        load = asked("http://{}:{}".format(*listener.getsockname())).workload("m", Ids(ids=range(1)))
        found = probe(load, words=(), ids=None, stopped=lambda: True)
    assert (found.requests, found.failure) == (1, "stopped")


LEFT_OUT = ("cache_prompt", "ignore_eos", "seed", "stream_options")


@pytest.mark.parametrize(
    ("refused", "status", "without", "attempts"),
    [
        ({"cache_prompt"}, 400, LEFT_OUT[:1], 2),
        ({"cache_prompt", "seed"}, 422, LEFT_OUT[:3], 3),
        ({"stream_options"}, 400, LEFT_OUT, 4),
    ],
)
def test_keys_that_the_server_refuses_are_left_out_and_each_attempt_is_a_probe(
    refused: set[str], status: int, without: tuple[str, ...], attempts: int
) -> None:
    with strict(refused, status=status) as (url, seen):
        found = probed(url)
    assert (found.refused, found.failure, found.requests) == (without, None, len(seen))
    assert [bool(keys & refused) for keys in seen[:attempts]] == [True] * (attempts - 1) + [False]
    assert not any(keys & set(without) for keys in seen[attempts:])


def test_a_server_that_refuses_whatever_is_sent_is_quoted_on_the_request_as_it_was_meant() -> None:
    with strict({"model"}) as (url, seen):
        found = probed(url)
    assert (found.refused, found.requests, len(seen)) == ((), 4, 4)
    assert found.failure is not None
    assert "HTTP 400" in found.failure


def test_a_key_that_the_user_gave_is_never_left_out() -> None:
    with strict({"cache_prompt"}) as (url, seen):
        found = probed(url, body={"cache_prompt": True, "ignore_eos": None})
    assert found.failure is not None
    assert all("cache_prompt" in keys and "ignore_eos" not in keys for keys in seen)
    assert [keys >= {"seed"} for keys in seen] == [True, False, False]
