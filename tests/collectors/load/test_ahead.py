from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleetbench_collectors.load import ahead
from fleetbench_collectors.load.ahead import Ahead
from fleetbench_collectors.load.exchange import Request


def requests(n: int, size_bytes: int, made: list[int]) -> Iterator[Request]:
    for number in range(n):
        made.append(number)
        yield Request(number=number, payload=b"x" * size_bytes, prompt_tok=1, output_tok=1, at_ns=number)


def test_as_many_are_made_as_there_are_places_and_all_come_in_their_order() -> None:
    made: list[int] = []
    found = Ahead(requests(9, 1, made), 4)
    assert made == [0, 1, 2, 3]
    taken = []
    while found:
        taken.append((found.at_ns, found.take().number))
        found.refill()
    assert taken == [(number, number) for number in range(9)]


def test_large_ones_are_made_only_as_far_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "AHEAD_BYTES", 100)
    made: list[int] = []
    found = Ahead(requests(9, 60, made), 8)
    assert made == [0, 1]
    for _ in range(3):
        found.take()
        found.refill()
    assert len(made) <= 5
    assert found


def test_after_the_end_there_are_none() -> None:
    found = Ahead(requests(9, 1, []), 4)
    found.end()
    found.refill()
    assert not found
