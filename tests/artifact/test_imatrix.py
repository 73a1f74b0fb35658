from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetbench.artifact import imatrix
from fleetbench.artifact.types import ArtifactError

VALUES = {
    "blk.0.attn_q.weight": np.array([2.0, 0.0, 6.0], np.float32),
    "blk.0.ffn_down.weight": np.array([1.0, 3.0], np.float32),
}


def older(*, calls: int = 3, entries: int | None = None, tail: bytes = struct.pack("<ii", 5, 4) + b"text") -> bytes:
    """The `.dat` form as llama-imatrix writes it: means times calls, then chunks and the text's name."""
    content = struct.pack("<i", len(VALUES) if entries is None else entries)
    for name, values in VALUES.items():
        scaled = (values * calls).astype("<f4")
        content += (
            struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", calls, len(values)) + scaled.tobytes()
        )
    return content + tail


def test_what_was_written_is_read_as_means(tmp_path: Path) -> None:
    sums = {name: values * 8 for name, values in VALUES.items()}
    imatrix.write(tmp_path / "i.gguf", sums, tokens=8, chunks=2, dataset="words")
    found = imatrix.read(tmp_path / "i.gguf")
    assert (found.tokens, found.chunks) == (8, 2)
    assert found.means.keys() == VALUES.keys()
    assert all(np.array_equal(found.means[name], VALUES[name]) for name in VALUES)


def test_the_older_form_is_read_as_means(tmp_path: Path) -> None:
    (tmp_path / "i.dat").write_bytes(older())
    found = imatrix.read(tmp_path / "i.dat")
    assert (found.tokens, found.chunks) == (None, 5)
    assert all(np.array_equal(found.means[name], VALUES[name]) for name in VALUES)


def test_the_older_form_may_end_after_its_entries(tmp_path: Path) -> None:
    (tmp_path / "i.dat").write_bytes(older(tail=b""))
    assert imatrix.read(tmp_path / "i.dat").chunks is None


def test_experts_have_counts_of_their_own_and_an_unseen_one_counts_alike(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "i.gguf", "imatrix")
    writer.add_tensor("blk.0.ffn_up_exps.weight.in_sum2", np.array([[2, 4], [9, 9], [0, 0]], np.float32))
    writer.add_tensor("blk.0.ffn_up_exps.weight.counts", np.array([[2], [3], [0]], np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = imatrix.read(tmp_path / "i.gguf")
    assert found.means["blk.0.ffn_up_exps.weight"].tolist() == [1, 2, 3, 3, 1, 1]


def test_a_matrix_of_another_model_is_named_and_a_missing_one_is_none(tmp_path: Path) -> None:
    (tmp_path / "i.dat").write_bytes(older())
    found = imatrix.read(tmp_path / "i.dat")
    assert found.of("output.weight", 3) is None
    with pytest.raises(ArtifactError, match=r"3 values for blk.0.attn_q.weight, whose rows have 4: .* another model"):
        found.of("blk.0.attn_q.weight", 4)


def test_a_matrix_and_a_text_are_told_apart() -> None:
    assert imatrix.is_matrix(b"GGUF\3\0\0\0")
    assert imatrix.is_matrix(older())
    assert not imatrix.is_matrix(b"Once upon a time")
    assert not imatrix.is_matrix("日本".encode())
    assert not imatrix.is_matrix(b"")


@pytest.mark.parametrize(
    "content",
    [
        older()[:40],
        older(entries=0),
        older(entries=-1),
        older(entries=3, tail=b""),
        struct.pack("<ii", 1, 1 << 30),
        struct.pack("<ii", 1, 1) + b"a" + struct.pack("<ii", 1, 1 << 30),
        b"GGUF",
        b"GGUF\3\0\0\0" + b"\xff" * 60,
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "i.dat"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{path}: it is no importance matrix, or truncated"):
        imatrix.read(path)


@pytest.mark.parametrize("bad", [[1, np.nan], [1, np.inf], [1, -1], [0, 0]])
def test_values_that_are_no_means_of_squares_are_named(tmp_path: Path, bad: list[float]) -> None:
    sums = {"blk.3.attn_k.weight": np.array(bad, np.float32)}
    imatrix.write(tmp_path / "i.gguf", sums, tokens=2, chunks=1, dataset="words")
    with pytest.raises(ArtifactError, match=r"importance of blk.3.attn_k.weight has values"):
        imatrix.read(tmp_path / "i.gguf")


def test_a_file_without_data_is_named(tmp_path: Path) -> None:
    imatrix.write(tmp_path / "i.gguf", {}, tokens=2, chunks=1, dataset="words")
    with pytest.raises(ArtifactError, match="holds no data"):
        imatrix.read(tmp_path / "i.gguf")


@given(cut=st.integers(0, 400), at=st.integers(0, 400), byte=st.integers(0, 255), is_gguf=st.booleans())
def test_damage_is_named_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, *, cut: int, at: int, byte: int, is_gguf: bool
) -> None:
    path = tmp_path_factory.mktemp("damage") / "i"
    if is_gguf:
        imatrix.write(path, VALUES, tokens=2, chunks=1, dataset="words")
    else:
        path.write_bytes(older())
    content = bytearray(path.read_bytes())
    content[at % len(content)] = byte
    path.write_bytes(content[: len(content) - cut % len(content)])
    with suppress(ArtifactError):
        assert imatrix.read(path).means
