"""Whatever a file holds, a reader says what is wrong with it: no other exception leaves one."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.store.foreign import registry
from fleetbench.store.foreign.record import ForeignError, Record
from tests.store.foreign.files import DATA, records

FORMATS = ("aiperf", "guidellm", "inference-perf", "llm-d", "mlperf")
SEEDS = {
    "guidellm": "guidellm/benchmarks-0.8.json",
    "inference-perf": "inference-perf/plain/stage_3_lifecycle_metrics.json",
    "mlperf": "mlperf/summary_results-v4.1.json",
}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


def read(name: str, content: bytes) -> ForeignError | list[Record]:
    """What a reader says of a file, or makes of it; anything else that it raises is left to fail the test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            return records(registry.reader(name), path)
        except ForeignError as error:
            return error


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=25, deadline=None)
@given(content=st.binary(max_size=60) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_junk_becomes_no_record(name: str, content: bytes) -> None:
    said = read(name, content)
    assert said.why if isinstance(said, ForeignError) else said == []


def _places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    match value:
        case dict():
            inner = [place for key, one in value.items() for place in _places(one, (*path, key))]
        case list():
            inner = [place for key, one in enumerate(value) for place in _places(one, (*path, key))]
        case _:
            inner = []
    return [path, *inner]


@pytest.mark.parametrize("name", sorted(SEEDS))
@settings(max_examples=25, deadline=None)
@given(data=st.data(), junk=VALUES)
def test_a_value_of_another_kind_anywhere_is_no_traceback(name: str, data: st.DataObject, junk: object) -> None:
    found = json.loads((DATA / SEEDS[name]).read_text())
    path = data.draw(st.sampled_from([place for place in _places(found) if place]))
    place = found
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = junk
    said = read(name, json.dumps(found).encode())
    assert said.why if isinstance(said, ForeignError) else said
