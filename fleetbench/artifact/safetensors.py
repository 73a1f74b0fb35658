"""Reads safetensors files with numpy alone; what a file claims is checked against what it holds."""

from __future__ import annotations

import json
import math
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_WIDTH_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_BITS = {
    **dict.fromkeys(("F4",), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 64),
}
"""Of one element, by the format's own names of types (from general knowledge of the format; other types pass)."""
_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000


class SafetensorsError(ValueError):
    """A file that is broken or beyond what is read here; the text is a clause that names what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Where one tensor lies: `start` is a byte offset in the file at `path`; `shape` in elements."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    def load(self) -> npt.NDArray[np.float32]:
        """The tensor's values; exact, as F16 and BF16 are subsets of F32."""
        count = math.prod(self.shape)
        if self.dtype == "BF16":
            halves = np.fromfile(self.path, dtype="<u2", count=count, offset=self.start)
            values: npt.NDArray[np.float32] = (halves.astype(np.uint32) << 16).view(np.float32)
        else:
            kind = "<f4" if self.dtype == "F32" else "<f2"
            values = np.fromfile(self.path, dtype=kind, count=count, offset=self.start).astype(np.float32)
        if values.size != count:
            raise SafetensorsError("it became shorter while it was read")
        return values.reshape(self.shape)


def index(path: Path) -> dict[str, Stored]:
    """The tensors of one file by name.

    Raises:
        SafetensorsError: no regular file, truncated, not safetensors, or of a dtype other than F32, F16 and BF16.
        OSError: unreadable.
    """
    size = _size(path)
    header, data_start = _header(path, size)
    tensors = {
        name: _stored(path, name, entry, data_start, size) for name, entry in header.items() if name != "__metadata__"
    }
    end = max((s.start + math.prod(s.shape) * _WIDTH_BYTES[s.dtype] for s in tensors.values()), default=0)
    if tensors and end != size:
        raise SafetensorsError(f"it has {size} bytes where its header describes {end}")
    return tensors


def check(path: Path) -> None:
    """Prove that one file holds the tensors of its header whole, whatever their types.

    Raises:
        SafetensorsError: no regular file, truncated, or not safetensors.
        OSError: unreadable.
    """
    size = _size(path)
    header, data_start = _header(path, size)
    last = 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        match entry:
            case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
                pass
            case _:
                raise SafetensorsError(f"its entry for {name} is malformed")
        _check_shape(name, shape)
        bits = _BITS.get(dtype)
        if not 0 <= begin <= end or (bits is not None and (end - begin) * 8 != math.prod(shape) * bits):
            raise SafetensorsError(f"the offsets of {name} do not fit its shape")
        if data_start + end > size:
            raise SafetensorsError(f"it is truncated: {name} ends at byte {data_start + end} of {size}")
        last = max(last, data_start + end)
    if last and last != size:
        raise SafetensorsError(f"it has {size} bytes where its header describes {last}")


def _size(path: Path) -> int:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):  # opening a FIFO would wait for a writer
        raise SafetensorsError("not a regular file")
    return found.st_size


def _check_shape(name: str, shape: list[Any]) -> None:
    if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape):
        raise SafetensorsError(f"the shape of {name} is malformed")


def _header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        if size < _LENGTH_BYTES or length > min(size - _LENGTH_BYTES, _MAX_HEADER_BYTES):
            raise SafetensorsError(f"it is truncated or no safetensors file ({size} bytes)")
        raw = file.read(length)
    try:
        header = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise SafetensorsError("its header is not JSON") from error
    if not isinstance(header, dict):
        raise SafetensorsError("its header is not a JSON object")
    return header, _LENGTH_BYTES + length


def _stored(path: Path, name: str, entry: object, data_start: int, size: int) -> Stored:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise SafetensorsError(f"its entry for {name} is malformed")
    if dtype not in _WIDTH_BYTES:
        raise SafetensorsError(f"{name} is stored as {dtype}; F32, F16 and BF16 are supported")
    _check_shape(name, shape)
    if not 0 <= begin <= end or end - begin != math.prod(shape) * _WIDTH_BYTES[dtype]:
        raise SafetensorsError(f"the offsets of {name} do not fit its shape")
    if data_start + end > size:
        raise SafetensorsError(f"it is truncated: {name} ends at byte {data_start + end} of {size}")
    return Stored(path=path, dtype=dtype, shape=tuple(shape), start=data_start + begin)
