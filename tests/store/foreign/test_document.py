"""Foreign text: what is wrong with it is said with its place, whatever it is."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetbench.store.foreign import document
from fleetbench.store.foreign.aiconfigurator import AiConfigurator
from fleetbench.store.foreign.document import Node
from fleetbench.store.foreign.figures import recomputed, requests_table
from fleetbench.store.foreign.inferencex import InferenceX
from fleetbench.store.foreign.llama_bench import LlamaBench
from fleetbench.store.foreign.record import ForeignError, Reader
from fleetbench.store.foreign.vllm import Vllm
from tests.store.foreign.files import DATA, written

READERS: tuple[Reader, ...] = (Vllm(), InferenceX(), LlamaBench(), AiConfigurator())
REAL = {
    "vllm": DATA / "vllm/405b-detailed.json",
    "inferencex": DATA / "inferencex/agg-power.json",
    "llama-bench": DATA / "llama-bench/sample.jsonl",
    "aiconfigurator": DATA / "aiconfigurator/silicon.csv",
}
KEY = {"run_id": "r", "trial_id": "t", "attempt": 0}


def refusal(reader: Reader, path: Path) -> str | None:
    """All that landing does with a file's records before it writes: None, or why not."""
    try:
        for record in reader.read(path):
            recomputed(record)
            requests_table(record, KEY)
    except ForeignError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b" \n\t ", "it is empty"),
        (b"\xff\xfe\x00", "byte 0: this is no UTF-8 text"),
        (b"\x1f\x8b\x08\x00", "its gzip data"),
        (gzip.compress(b'{"a": 1}', mtime=0)[:-6], "its gzip data is cut short"),
        (gzip.compress(b'{"a": 1}', mtime=0)[:12] + b"\xff" * 12, "its gzip data"),
    ],
)
def test_bytes_that_are_no_text(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(ForeignError, match=message):
        document.text(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match="it cannot be read: No such file"):
        document.text(tmp_path / "none.json")


def test_packed_and_marked_text_is_the_same_text(tmp_path: Path) -> None:
    path = tmp_path / "packed.json"
    path.write_bytes(gzip.compress("\ufeff[1]".encode()))
    assert document.text(path) == "[1]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": [1, 2', "line 1: the JSON is cut short"),
        ('{"a": 1}\n{"a":', "record 2: the JSON is cut short"),
        ("{a: 1}", "line 1: this is no JSON"),
        ('{"a": 1} x', "record 2: this is no JSON"),
        ("[" * 100_000, "this JSON cannot be read: RecursionError"),
        ('{"a": ' + "9" * 5000 + "}", "this JSON cannot be read: ValueError"),
    ],
)
def test_json_that_is_none(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ForeignError, match=message):
        list(document.json_records(written(tmp_path, text)))


def test_places_are_spelled_as_in_the_document() -> None:
    node = Node(value={"a": [{"b": "x"}]}, where="line 3")
    (element,) = node.get("a").items()
    with pytest.raises(ForeignError, match=r"line 3: a\[0\]\.b: this is text, where a number should be"):
        element.get("b").number()


def test_a_local_time_is_no_instant() -> None:
    assert Node(value="2026-01-01T10:00:00", where="").instant() is None
    assert str(Node(value="2026-01-01T10:00:00+02:00", where="").instant()) == "2026-01-01 08:00:00+00:00"


def test_half_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(ForeignError, match="this text is no Unicode"):
        Node(value="\ud800", where="").text()


JUNK: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["inf", "nan", "-1", "\ud800", 1e308, -1, 2**70, 10**400, "2026-01-01"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=50)
@given(data=st.data())
def test_junk_in_place_of_a_value_is_refused_or_taken_but_never_breaks(data: st.DataObject) -> None:
    reader = data.draw(st.sampled_from([one for one in READERS if one.name != "aiconfigurator"]))
    first = REAL[reader.name].read_text(encoding="utf-8").splitlines()[0]
    found = json.loads(first if reader.name == "llama-bench" else REAL[reader.name].read_text(encoding="utf-8"))
    keys = data.draw(st.lists(st.sampled_from(sorted(found)), min_size=1, max_size=3))
    found |= {key: data.draw(JUNK) for key in keys}
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), json.dumps(found))
        assert refusal(reader, path) != ""


@settings(max_examples=50)
@given(found=JUNK)
def test_junk_in_place_of_a_document_is_refused(found: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = written(Path(folder), json.dumps(found))
        for reader in READERS:
            assert refusal(reader, path) or not list(reader.read(path))


@settings(max_examples=50)
@given(data=st.data())
def test_bytes_that_were_changed_never_break(data: st.DataObject) -> None:
    reader = data.draw(st.sampled_from(READERS))
    content = bytearray(REAL[reader.name].read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    end = data.draw(st.integers(at, min(len(content), at + 40)))
    content[at:end] = data.draw(st.binary(max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(bytes(content))
        assert refusal(reader, path) != ""


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_yaml_that_is_nested_too_deeply_is_refused_with_its_line(opening: str) -> None:
    with pytest.raises(ForeignError, match=r"line 2: it is nested more than 100 deep"):
        list(document.yaml_documents("---\n" + opening * 100_000))


def test_yaml_as_deep_as_reports_are_is_read() -> None:
    (node,) = document.yaml_documents("[" * 90 + "]" * 90)
    assert isinstance(node.value, list)


def test_more_than_can_be_held_is_refused_packed_or_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "MOST_BYTES", 2**20)
    bomb, large = tmp_path / "bomb.gz", tmp_path / "large"
    bomb.write_bytes(gzip.compress(b" " * 2**21, mtime=0))
    large.write_bytes(b" " * 2**21)
    with pytest.raises(ForeignError, match=r"more than 0\.000976562 GiB unpacked: split it"):
        document.data(bomb)
    with pytest.raises(ForeignError, match=r"more than 0\.000976562 GiB: split it"):
        document.data(large)


def test_a_device_or_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(ForeignError, match="it is no regular file"):
            document.data(path)
