"""Importance matrices: how strongly each input of a matrix is used; read and written as llama.cpp's tools do.

Two forms of file exist: GGUF, with sums and counts of tokens, and the older one (`.dat`), with scaled means.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from fleetbench.artifact.types import ArtifactError

Floats = npt.NDArray[np.float32]

_SUMS, _COUNTS = ".in_sum2", ".counts"
_MAGIC = b"GGUF"
_CHUNKS, _CHUNK_SIZE, _DATASETS = "imatrix.chunk_count", "imatrix.chunk_size", "imatrix.datasets"
_MAX_ENTRIES, _MAX_NAME_BYTES = 1 << 20, 1 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Importance:
    """Of each matrix by its GGUF name: [row length] the mean of its inputs' squares over the tokens seen.

    tokens, chunks: that it was made from, chunks of one length; None where its file does not say.
    """

    means: Mapping[str, Floats]
    tokens: int | None
    chunks: int | None

    def of(self, name: str, row: int) -> Floats | None:
        """The means of a matrix of `row` inputs, None where the file has none.

        Raises:
            ArtifactError: it is a matrix of another model.
        """
        found = self.means.get(name)
        if found is not None and found.size != row:
            raise ArtifactError(
                f"the importance matrix has {found.size} values for {name}, whose rows have {row}: "
                "it was made of another model"
            )
        return found


def is_matrix(content: bytes) -> bool:
    """Whether a calibration file is an importance matrix and not a text: no text holds a zero byte so early."""
    return content[:4] == _MAGIC or b"\0" in content[:4]


def read(path: Path) -> Importance:
    """Read either form.

    Raises:
        ArtifactError: it is broken, empty or holds values that are no means of squares.
        OSError: unreadable.
    """
    with path.open("rb") as file:
        is_gguf = file.read(4) == _MAGIC
    try:
        with np.errstate(all="ignore"):  # what is not finite is named below
            found = _read_gguf(path) if is_gguf else _read_older(path.read_bytes())
    except (ValueError, KeyError, IndexError, struct.error, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path}: it is no importance matrix, or truncated ({error})") from error
    if not found.means:
        raise ArtifactError(f"{path}: the importance matrix holds no data")
    for name, means in found.means.items():
        if not (np.isfinite(means).all() and (means >= 0).all() and means.any()):
            raise ArtifactError(f"{path}: the importance of {name} has values that are negative, not finite or all 0")
    return found


def write(path: Path, sums: Mapping[str, Floats], *, tokens: int, chunks: int, dataset: str) -> None:
    """Write the GGUF form, which `llama-quantize --imatrix` reads too.

    Args:
        path: the new file.
        sums: of each matrix, [row length] sums of its inputs' squares.
        tokens: that each sum goes over.
        chunks: that the tokens came in.
        dataset: what the text is called.

    Raises:
        OSError: no room, no rights.
    """
    writer = gguf.GGUFWriter(path, "imatrix")
    try:
        writer.add_type("imatrix")
        writer.add_array(_DATASETS, [dataset])
        writer.add_uint32(_CHUNKS, chunks)
        writer.add_uint32(_CHUNK_SIZE, tokens // chunks)
        for name, values in sorted(sums.items()):
            writer.add_tensor(name + _SUMS, values.reshape(1, -1))
            writer.add_tensor(name + _COUNTS, np.array([[tokens]], np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()


def _read_gguf(path: Path) -> Importance:
    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    means, most = {}, 0
    for name, tensor in tensors.items():
        if not name.endswith(_SUMS):
            continue
        counts = np.asarray(tensors[name.removesuffix(_SUMS) + _COUNTS].data, np.float32).reshape(-1, 1)
        sums = np.asarray(tensor.data, np.float32).reshape(counts.size, -1)
        unseen = counts == 0  # an expert that no token went to: all its inputs count alike
        means[name.removesuffix(_SUMS)] = (
            np.where(unseen, 1.0, sums / np.where(unseen, 1.0, counts)).astype("f4").ravel()
        )
        most = max(most, round(float(counts.max())))
    chunks = reader.fields.get(_CHUNKS)
    return Importance(means=means, tokens=most or None, chunks=None if chunks is None else int(chunks.contents()))


def _read_older(content: bytes) -> Importance:
    """Entries of name, calls and values, which are means times calls; then the chunks and the text's name."""
    at = 0

    def number() -> int:
        nonlocal at
        (value,) = struct.unpack_from("<i", content, at)
        at += 4
        return int(value)

    entries = number()
    if not 0 < entries <= _MAX_ENTRIES:
        raise ValueError(f"{entries} entries")
    means: dict[str, Floats] = {}
    for _ in range(entries):
        length = number()
        if not 0 < length <= _MAX_NAME_BYTES or at + length > len(content):
            raise ValueError(f"a name of {length} bytes")
        name = content[at : at + length].decode()
        at += length
        calls, count = number(), number()
        if count < 1 or at + 4 * count > len(content):
            raise ValueError(f"{count} values for {name}")
        values = np.frombuffer(content, "<f4", count, at)
        at += 4 * count
        means[name] = (values / max(1, calls)).astype(np.float32)
    chunks = number() if at + 4 <= len(content) else None
    return Importance(means=means, tokens=None, chunks=chunks)
