"""F16 GGUF to every other weight format, by the library that the engine's wheel carries."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, LlamaFileType

from fleetbench.artifact import llama
from fleetbench.artifact.llama import Tensor
from fleetbench.artifact.types import ArtifactError

BASE = "f16"


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A weight format: ggml's type of the matrices, and what the file as a whole is called."""

    type: GGMLQuantizationType
    file_type: LlamaFileType


FORMATS = {
    "q8_0": Format(type=GGMLQuantizationType.Q8_0, file_type=LlamaFileType.MOSTLY_Q8_0),
    "q6_k": Format(type=GGMLQuantizationType.Q6_K, file_type=LlamaFileType.MOSTLY_Q6_K),
    "q5_k": Format(type=GGMLQuantizationType.Q5_K, file_type=LlamaFileType.MOSTLY_Q5_K_S),
    "q4_k": Format(type=GGMLQuantizationType.Q4_K, file_type=LlamaFileType.MOSTLY_Q4_K_S),
    "q3_k": Format(type=GGMLQuantizationType.Q3_K, file_type=LlamaFileType.MOSTLY_Q3_K_S),
    "q2_k": Format(type=GGMLQuantizationType.Q2_K, file_type=LlamaFileType.MOSTLY_Q2_K),
    "iq4_xs": Format(type=GGMLQuantizationType.IQ4_XS, file_type=LlamaFileType.MOSTLY_IQ4_XS),
    "mxfp4": Format(type=GGMLQuantizationType.MXFP4, file_type=LlamaFileType.MOSTLY_MXFP4_MOE),
    "nvfp4": Format(type=GGMLQuantizationType.NVFP4, file_type=LlamaFileType.MOSTLY_NVFP4),
}
"""All matrices of a file have the one type (no mixes such as Q4_K_M), embedding and output included."""


def quantize(base: Path, path: Path, weights: str) -> None:
    """Write the GGUF at `base` again with its matrices in the format `weights`; norms stay F32.

    Raises:
        ArtifactError: unknown format, a row length that the format's block does not divide, or a library
            that does not do it.
        OSError: no room, no rights.
    """
    form = FORMATS.get(weights)
    if form is None:
        raise ArtifactError(f"weights {weights!r} cannot be made (there are {BASE}, {', '.join(FORMATS)})")
    reader = gguf.GGUFReader(base)
    unfit = [t.name for t in reader.tensors if len(t.shape) > 1 and int(t.shape[0]) % _block(form.type)[0]]
    if unfit:
        raise ArtifactError(
            f"weights {weights}: the rows of {unfit[0]}{f' and {len(unfit) - 1} more' if unfit[1:] else ''} "
            f"are no multiple of the block of {_block(form.type)[0]}: choose another format for this model"
        )
    tensors = [_tensor(tensor, form.type) for tensor in reader.tensors]
    llama.write(path, fill=partial(_copy_fields, reader, form.file_type), tensors=tensors)


def quantize_rows(values: npt.NDArray[np.float32], kind: GGMLQuantizationType) -> npt.NDArray[np.uint8]:
    """Quantize a matrix, rows shared among the cores that this process may use.

    Args:
        values: [rows, n] finite; n is a multiple of the type's block.
        kind: a type that needs no importance matrix.

    Returns:
        [rows, n / block * bytes per block]; the same for any number of threads.
    """
    block, block_bytes = _block(kind)
    rows, length = values.shape
    out = np.empty((rows, length // block * block_bytes), np.uint8)
    chunk = _library()
    share = -(-rows // max(1, len(os.sched_getaffinity(0))))

    def one(first: int) -> None:
        part, target = values[first : first + share], out[first : first + share]
        made = chunk(int(kind), part.ctypes.data, target.ctypes.data, 0, part.shape[0], length, None)
        if made != target.nbytes:
            raise ArtifactError(f"the wheel's library made {made} bytes of {kind.name}, {target.nbytes} expected")

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(0, rows, share)))
    return out


def _tensor(tensor: gguf.ReaderTensor, kind: GGMLQuantizationType) -> Tensor:
    dims = tuple(int(n) for n in reversed(tensor.shape))
    if len(dims) == 1:
        return llama.base_tensor(tensor.name, dims, lambda: np.asarray(tensor.data, np.float32))
    block, block_bytes = _block(kind)

    def load() -> npt.NDArray[np.uint8]:
        values = np.ascontiguousarray(tensor.data, dtype=np.float32)
        return quantize_rows(values, kind)

    return Tensor(name=tensor.name, shape=dims, type=kind, nbytes=dims[0] * (dims[1] // block * block_bytes), load=load)


def _copy_fields(reader: gguf.GGUFReader, file_type: LlamaFileType, writer: gguf.GGUFWriter) -> None:
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = int(file_type) if key == "general.file_type" else field.contents()
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, kind, sub_type=inner)


def _block(kind: GGMLQuantizationType) -> tuple[int, int]:
    """(elements, bytes) of a block."""
    return gguf.GGML_QUANT_SIZES[kind]


@cache
def _library() -> Callable[..., int]:
    """`ggml_quantize_chunk` of the wheel; it builds a type's tables under a lock of its own."""
    spec = importlib.util.find_spec("xllamacpp")
    places = (spec.submodule_search_locations or []) if spec else []
    for place in places:
        for file in sorted(Path(place).glob("xllamacpp*.so")):
            try:
                chunk = ctypes.CDLL(str(file)).ggml_quantize_chunk
            except (OSError, AttributeError) as error:
                raise ArtifactError(f"{file} cannot be used to quantize: {error}; reinstall xllamacpp") from error
            chunk.restype = ctypes.c_size_t
            chunk.argtypes = [
                ctypes.c_int,
                ctypes.c_void_p,
                ctypes.c_void_p,
                ctypes.c_int64,
                ctypes.c_int64,
                ctypes.c_int64,
                ctypes.c_void_p,
            ]
            return chunk
    raise ArtifactError("xllamacpp is not installed: it quantizes the weights (pip install xllamacpp)")
