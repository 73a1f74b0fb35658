from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench_collectors.load import arrivals, lengths
from fleetbench_collectors.load.exchange import Request
from fleetbench_collectors.load.source import Source
from fleetbench_collectors.load.target import Target
from fleetbench_collectors.load.words import WORDS, Calibration
from fleetbench_collectors.load.workload import File, Ids, OpenLoop, Replay, Share, Warmup, Words, Workload
from tests.collectors.load.conftest import workload

PLAN = Calibration(
    overhead_tok=2, cost_tok=1, words=WORDS, filler=None, verified=True, off_tok=0, probes=2, reason=None
)
LOADS = st.builds(
    workload,
    places=st.integers(1, 9),
    requests=st.integers(1, 40),
    seconds=st.none() | st.floats(0.05, 2),
    context=st.sampled_from(["8", "6..40", "lognormal:16,0.7,6..90"]).map(lengths.parse),
    output=st.sampled_from(["1", "2..9", "normal:8,3"]).map(lengths.parse),
    arrivals=st.none()
    | st.builds(
        OpenLoop,
        profile=st.sampled_from([arrivals.steady(30), arrivals.ramp(1, 50, 1), arrivals.stages([(20, 0.5)])]),
        process=st.sampled_from(["constant", "poisson"]),
    ),
    warmup=st.builds(Warmup, requests=st.integers(0, 9), context_tok=st.integers(5, 9), output_tok=st.integers(1, 3)),
    prompts=st.sampled_from([Ids(ids=range(3, 98)), Ids(ids=(5, 7, 11), overhead_tok=1), Words(plan=PLAN)]),
    seed=st.integers(0, 3),
)


def body(request: Request) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.payload.partition(b"\r\n\r\n")[2])
    return found


def sent(load: Workload, share: Share | None = None) -> list[Request]:
    source = Source(load, share or Share())
    return [*source.warmup(), *source.measured()]


def numbers(requests: Iterable[Request]) -> list[int]:
    return [request.number for request in requests]


@given(LOADS, st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_shares_of_several_processes_are_the_load_of_one(load: Workload, processes: int) -> None:
    whole = sent(load)
    shares = [sent(load, Share(position=position, processes=processes)) for position in range(processes)]
    assert sorted((request for share in shares for request in share), key=lambda one: one.number) == whole
    assert numbers(whole) == list(range(len(whole)))
    for share in shares:
        assert numbers(share) == sorted(numbers(share))
    measured = [sum(number >= load.warmup.requests for number in numbers(share)) for share in shares]
    if load.batch is None:
        assert max(measured) - min(measured) <= 1


@given(st.integers(1, 40), st.integers(1, 6), st.integers(1, 8))
def test_each_process_has_requests_for_all_of_its_places(places: int, processes: int, rounds: int) -> None:
    shares = [Share(position=position, processes=processes) for position in range(processes)]
    asked = [sum(share.mine(index, places) for index in range(rounds * places)) for share in shares]
    assert asked == [rounds * share.of(places) for share in shares]


@given(LOADS)
@settings(max_examples=25, deadline=None)
def test_prompts_all_differ_and_are_as_long_as_they_say(load: Workload) -> None:
    requests = sent(load)
    prompts = [json.dumps(body(request)["prompt"]) for request in requests]
    assert len(set(prompts)) == len(requests)
    for request in requests:
        asked = body(request)
        assert asked["max_tokens"] == request.output_tok
        if isinstance(load.prompts, Ids):
            assert len(asked["prompt"]) == request.prompt_tok - load.prompts.overhead_tok
            assert set(asked["prompt"]) <= set(load.prompts.ids)
        else:
            assert len(asked["prompt"].split()) == request.prompt_tok - PLAN.overhead_tok + 1


@given(LOADS)
@settings(max_examples=25, deadline=None)
def test_lengths_and_times_are_those_asked_for(load: Workload) -> None:
    for request in Source(load, Share()).warmup():
        asked = (request.prompt_tok, request.output_tok, request.at_ns)
        assert asked == (load.warmup.context_tok, load.warmup.output_tok, None)
    found = list(Source(load, Share()).measured())
    assert all(load.context.shortest <= request.prompt_tok <= load.context.longest for request in found)
    assert all(load.output.shortest <= request.output_tok <= load.output.longest for request in found)
    if load.arrivals is None:
        assert {request.at_ns for request in found} == {None}
        assert len(found) == load.requests
    else:
        times = [request.at_ns or 0 for request in found]
        assert times == sorted(times)
        assert load.seconds is None or all(at_ns < load.seconds * 1e9 for at_ns in times)


def test_a_longer_load_begins_like_a_shorter_one() -> None:
    shape = {"context": lengths.parse("8..64"), "output": lengths.parse("1..99")}
    long, short = sent(workload(**shape, requests=50)), sent(workload(**shape, requests=10))
    assert [(one.prompt_tok, one.output_tok) for one in long[:10]] == [
        (one.prompt_tok, one.output_tok) for one in short
    ]
    assert len({one.output_tok for one in long}) > 20


def test_another_seed_draws_other_lengths_and_another_nonce_other_prompts() -> None:
    shape = {"context": lengths.parse("8..64"), "requests": 20}
    first, again = sent(workload(**shape)), sent(workload(**shape, nonce="another"))
    assert [one.prompt_tok for one in first] == [one.prompt_tok for one in again]
    assert not {one.payload for one in first} & {one.payload for one in again}
    assert [one.prompt_tok for one in sent(workload(**shape, seed=1))] != [one.prompt_tok for one in first]


def test_without_a_number_of_requests_there_is_no_end() -> None:
    endless = Source(workload(requests=None, seconds=60.0, places=3), Share(position=1, processes=3)).measured()
    assert numbers(islice(endless, 4)) == [1, 4, 7, 10]


def test_prompts_may_begin_alike() -> None:
    requests = sent(workload(shared_tok=5, requests=10))
    assert len({tuple(body(one)["prompt"][:5]) for one in requests}) == 1
    assert len({body(one)["prompt"][5] for one in requests}) == 10


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """Mooncake's form: requests of 600 tokens, every 100 ms, each beginning like the one before it."""
    lines = [
        {"timestamp": 5_000 + 100 * n, "input_length": 600, "output_length": 3 + n, "hash_ids": [7, 100 + n]}
        for n in range(6)
    ]
    path = tmp_path / "trace.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_a_trace_says_when_and_how_long(trace: str) -> None:
    load = workload(arrivals=Replay(path=trace, speed=2.0), requests=None, warmup=Warmup(requests=2, context_tok=4))
    source = Source(load, Share())
    found = list(source.measured())
    assert source.first == 2
    assert [(one.number, one.at_ns, one.prompt_tok, one.output_tok) for one in found] == [
        (2 + n, 50_000_000 * n, 600, 3 + n) for n in range(6)
    ]
    prompts = [body(one)["prompt"] for one in found]
    assert {len(prompt) for prompt in prompts} == {600}
    assert len({tuple(prompt[:512]) for prompt in prompts}) == 1
    assert len({tuple(prompt[512:]) for prompt in prompts}) == 6
    assert len(list(source.warmup())) == 2


def test_a_trace_ends_early_where_it_is_asked_to(trace: str) -> None:
    assert len(sent(workload(arrivals=Replay(path=trace), requests=4))) == 4
    assert len(sent(workload(arrivals=Replay(path=trace), requests=None, seconds=0.2))) == 2
    shares = [sent(workload(arrivals=Replay(path=trace)), Share(position=p, processes=2)) for p in (0, 1)]
    assert [numbers(share) for share in shares] == [[0, 2], [1, 3]]


def test_prompts_of_a_file_take_turns_and_may_say_their_own_output_length(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "one two", "output_tokens": 9}\n{"prompt": "three"}\n')
    plain = sent(workload(prompts=File(path=str(path), unique=False), requests=3))
    assert [(body(one)["prompt"], one.prompt_tok, one.output_tok) for one in plain] == [
        ("one two", 0, 9),
        ("three", 0, 4),
        ("one two", 0, 9),
    ]
    unique = sent(workload(prompts=File(path=str(path), unique=True), requests=4, endpoint="chat"))
    texts = [body(one)["messages"][0]["content"] for one in unique]
    assert [text.partition("\n")[2] for text in texts] == ["one two", "three"] * 2
    assert len(set(texts)) == 4


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"context": lengths.parse("1"), "requests": 96}, "96 prompts of 1 tokens cannot all differ"),
        ({"context": lengths.parse("3"), "shared_tok": 3}, "cannot all differ"),
        ({"requests": None, "seconds": 1.0, "prompts": Ids(ids=range(9), overhead_tok=8)}, "cannot all differ"),
        ({"warmup": Warmup(requests=96)}, "96 prompts of 1 tokens cannot all differ"),
        ({"prompts": Words(plan=PLAN), "context": lengths.parse("2")}, "the shortest prompt of this server has 3"),
        ({"prompts": Ids(ids=())}, "no token ids"),
        ({"headers": {"Host": "other"}}, "Host"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused_before_it_starts(more: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Source(workload(**more), Share())


def test_a_long_answer_may_have_many_bytes_and_a_short_one_at_least_a_million() -> None:
    assert Source(workload(), Share()).response_max_bytes == 1 << 20
    assert Source(workload(output=lengths.parse("1..100000")), Share()).response_max_bytes == 409_600_000


def test_requests_are_written_for_the_target() -> None:
    target = Target.parse("https://host/base")
    (request,) = sent(workload(target=target, api_key="k", headers={"X-Tenant": "t"}, body={"seed": None}, requests=1))
    head = request.payload.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    assert head[0] == "POST /base/v1/completions HTTP/1.1"
    assert {"Host: host:443", "Authorization: Bearer k", "X-Tenant: t"} <= set(head)
    assert "seed" not in body(request)
