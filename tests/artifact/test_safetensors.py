from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetbench.artifact import safetensors
from fleetbench.artifact.safetensors import SafetensorsError

VALUES = np.array([[1.5, -2.0, 0.0], [65504.0, 2.0**-14, -1.0]], np.float32)


def write(path: Path, header: dict[str, Any] | bytes, data: bytes) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    ("dtype", "data"),
    [
        ("F32", VALUES.astype("<f4").tobytes()),
        ("F16", VALUES.astype("<f2").tobytes()),
    ],
)
def test_values_come_back_exactly(tmp_path: Path, dtype: str, data: bytes) -> None:
    path = write(tmp_path / "a.safetensors", {"w": entry(dtype, [2, 3], 0, len(data))}, data)
    found = safetensors.index(path)["w"].load()
    assert found.dtype == np.float32
    assert np.array_equal(found, VALUES)


def test_bf16_is_the_upper_half_of_f32(tmp_path: Path) -> None:
    data = np.array([0x3FC0, 0xC000, 0x7F80], "<u2").tobytes()
    path = write(tmp_path / "a.safetensors", {"w": entry("BF16", [3], 0, 6)}, data)
    assert safetensors.index(path)["w"].load().tolist() == [1.5, -2.0, float("inf")]


def test_the_second_tensor_is_read_from_its_own_place(tmp_path: Path) -> None:
    data = np.arange(6, dtype="<f4").tobytes()
    header = {"__metadata__": {"format": "pt"}, "a": entry("F32", [2], 0, 8), "b": entry("F32", [4], 8, 24)}
    found = safetensors.index(write(tmp_path / "a.safetensors", header, data))
    assert found["b"].load().tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ({"w": entry("F32", [2], 0, 4)}, "do not fit its shape"),
        ({"w": entry("F32", [2], 8, 0)}, "do not fit its shape"),
        ({"w": entry("F32", [-2], 0, 8)}, "shape of w is malformed"),
        ({"w": entry("F32", [2], 4, 12)}, "truncated: w ends"),
        ({"w": entry("F8_E4M3", [8], 0, 8)}, "stored as F8_E4M3"),
        ({"w": {"dtype": "F32"}}, "entry for w is malformed"),
        ({"w": entry("F32", [1], 0, 4)}, "where its header describes"),
        ([1], "not a JSON object"),
        (b"{", "not JSON"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, header: Any, what: str) -> None:
    path = write(tmp_path / "a.safetensors", header, b"\0" * 8)
    with pytest.raises(SafetensorsError, match=what):
        safetensors.index(path)


@given(cut=st.integers(min_value=0, max_value=10_000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_every_truncation_is_noticed(tmp_path: Path, cut: int) -> None:
    data = np.arange(100, dtype="<f4").tobytes()
    path = write(tmp_path / "a.safetensors", {"w": entry("F32", [100], 0, 400)}, data)
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % len(whole)])
    with pytest.raises(SafetensorsError):
        safetensors.index(path)


@given(content=st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_give_an_answer_or_a_refusal(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with suppress(SafetensorsError):
        assert all(stored.path == path for stored in safetensors.index(path).values())


def test_a_file_that_shrinks_after_its_header_was_read_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", {"w": entry("F32", [2], 0, 8)}, b"\0" * 8)
    stored = safetensors.index(path)["w"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(SafetensorsError, match="shorter"):
        stored.load()
