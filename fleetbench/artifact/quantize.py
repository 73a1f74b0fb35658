"""F16 GGUF to every other weight format, by the library that the engine's wheel carries."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType, GGUFValueType, LlamaFileType

from fleetbench.artifact import forward, llama, mixtures
from fleetbench.artifact.imatrix import Floats, Importance
from fleetbench.artifact.llama import Tensor
from fleetbench.artifact.mixtures import MIXTURES, Mixture, Network
from fleetbench.artifact.protect import protected
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
"""All matrices of a file have the one type, embedding and output included; the mixes are `mixtures.MIXTURES`."""

WEIGHTS = (BASE, *FORMATS, *MIXTURES)
"""Every weight format that can be made here."""
UNWEIGHTED = frozenset({BASE, "q8_0", "mxfp4", "nvfp4"})
"""Formats whose library functions ignore an importance matrix."""


def quantize(
    base: Path,
    path: Path,
    weights: str,
    *,
    importance: Importance | None = None,
    protect: Sequence[str] = (),
    notes: Mapping[str, str | int] | None = None,
) -> None:
    """Write the GGUF at `base` again with its matrices in the format `weights`; norms stay F32.

    Args:
        base: the F16 form.
        path: the new file.
        weights: one of `WEIGHTS`, but the base form only with nothing to do.
        importance: weighs the errors of each input; None to round to nearest.
        protect: words for layers that stay F16.
        notes: fields to add to the file.

    Raises:
        ArtifactError: unknown format, one that needs an importance matrix and has none, a row length that the
            format's block does not divide, or a library that does not do it.
        OSError: no room, no rights.
    """
    reader = gguf.GGUFReader(base)
    form: Format | Mixture | None = FORMATS.get(weights) or MIXTURES.get(weights)
    if form is None:
        raise ArtifactError(f"weights {weights!r} cannot be made (there are {', '.join(WEIGHTS)})")
    types = plan(reader, weights, protect, weighed=importance is not None)
    vectors = {t.name: importance.of(t.name, int(t.shape[0])) for t in reader.tensors} if importance else {}
    _check_matrix(weights, types, vectors)
    tensors = [_tensor(tensor, types.get(tensor.name), vectors.get(tensor.name)) for tensor in reader.tensors]
    llama.write(path, fill=partial(_copy_fields, reader, form.file_type, notes or {}), tensors=tensors)


def plan(
    reader: gguf.GGUFReader, weights: str, protect: Sequence[str] = (), *, weighed: bool = False
) -> dict[str, GGMLQuantizationType]:
    """The type that each matrix of the file gets in the format `weights`; what stays as it is, is not in it.

    Raises:
        ArtifactError: an unknown word in `protect`, or rows that the one type of a uniform format does not fit.
    """
    shape = forward.read_shape(reader)
    keeps = protected(protect, layers=shape.layers, tied=shape.tied)
    rows = {t.name: int(t.shape[0]) for t in reader.tensors if len(t.shape) > 1 and not keeps(t.name)}
    if weights in MIXTURES:
        network = Network(
            layers=shape.layers, heads=shape.heads, kv_heads=shape.kv_heads, tied=shape.tied, weighed=weighed
        )
        return {name: mixtures.type_of(MIXTURES[weights], network, name, row) for name, row in rows.items()}
    kind = FORMATS[weights].type
    block = _block(kind)[0]
    unfit = [name for name, row in rows.items() if row % block]
    if unfit:
        raise ArtifactError(
            f"weights {weights}: the rows of {unfit[0]}{f' and {len(unfit) - 1} more' if unfit[1:] else ''} "
            f"are no multiple of the block of {block}: choose another format for this model"
        )
    return dict.fromkeys(rows, kind)


def _check_matrix(
    weights: str, types: Mapping[str, GGMLQuantizationType], vectors: Mapping[str, Floats | None]
) -> None:
    mixture = MIXTURES.get(weights)
    for name, kind in types.items():
        needed = requires_matrix(kind) or (mixture is not None and mixtures.needs_matrix(mixture, name, kind))
        if not needed or vectors.get(name) is not None:
            continue
        what = f"weights {weights} need an importance matrix ({name} becomes {kind.name})"
        if vectors:
            raise ArtifactError(f"{what}, and the one that was given has nothing for it")
        raise ArtifactError(f"{what}: write `method: imatrix` and `calibration:` with the path of a text")


def quantize_rows(
    values: npt.NDArray[np.float32], kind: GGMLQuantizationType, importance: Floats | None = None
) -> npt.NDArray[np.uint8]:
    """Quantize a matrix, rows shared among the cores that this process may use.

    Args:
        values: [rows, n] finite; n is a multiple of the type's block.
        kind: the type; one that needs an importance matrix ends the process without.
        importance: [n] what errors of each column weigh; None for the type's own rule.

    Returns:
        [rows, n / block * bytes per block]; the same for any number of threads.
    """
    block, block_bytes = _block(kind)
    rows, length = values.shape
    out = np.empty((rows, length // block * block_bytes), np.uint8)
    chunk = _library().ggml_quantize_chunk
    share = -(-rows // max(1, len(os.sched_getaffinity(0))))
    weighed = None if importance is None else np.ascontiguousarray(importance, np.float32)

    def one(first: int) -> None:
        part, target = values[first : first + share], out[first : first + share]
        weight = None if weighed is None else weighed.ctypes.data
        made = chunk(int(kind), part.ctypes.data, target.ctypes.data, 0, part.shape[0], length, weight)
        if made != target.nbytes:
            raise ArtifactError(f"the wheel's library made {made} bytes of {kind.name}, {target.nbytes} expected")

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(0, rows, share)))
    return out


def requires_matrix(kind: GGMLQuantizationType) -> bool:
    """Whether the library refuses to make the type without an importance matrix, by ending the process."""
    return bool(_library().ggml_quantize_requires_imatrix(int(kind)))


def _tensor(tensor: gguf.ReaderTensor, kind: GGMLQuantizationType | None, importance: Floats | None) -> Tensor:
    dims = tuple(int(n) for n in reversed(tensor.shape))
    if kind is None or kind == GGMLQuantizationType.F16:
        return llama.base_tensor(tensor.name, dims, lambda: np.asarray(tensor.data, np.float32))
    block, block_bytes = _block(kind)

    def load() -> npt.NDArray[np.uint8]:
        values = np.ascontiguousarray(tensor.data, dtype=np.float32)
        return quantize_rows(values, kind, importance)

    return Tensor(name=tensor.name, shape=dims, type=kind, nbytes=dims[0] * (dims[1] // block * block_bytes), load=load)


def _copy_fields(
    reader: gguf.GGUFReader, file_type: LlamaFileType, notes: Mapping[str, str | int], writer: gguf.GGUFWriter
) -> None:
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key == "general.architecture":
            continue
        value = int(file_type) if key == "general.file_type" else field.contents()
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        writer.add_key_value(key, value, kind, sub_type=inner)
    for key, note in notes.items():
        writer.add_key_value(key, note, GGUFValueType.STRING if isinstance(note, str) else GGUFValueType.UINT32)


def _block(kind: GGMLQuantizationType) -> tuple[int, int]:
    """(elements, bytes) of a block."""
    return gguf.GGML_QUANT_SIZES[kind]


@cache
def _library() -> ctypes.CDLL:
    """The wheel's library; it builds a type's tables under a lock of its own."""
    spec = importlib.util.find_spec("xllamacpp")
    places = (spec.submodule_search_locations or []) if spec else []
    for place in places:
        for file in sorted(Path(place).glob("xllamacpp*.so")):
            try:
                library = ctypes.CDLL(str(file))
                library.ggml_quantize_chunk.restype = ctypes.c_size_t
                library.ggml_quantize_chunk.argtypes = [
                    ctypes.c_int,
                    *[ctypes.c_void_p] * 2,
                    *[ctypes.c_int64] * 3,
                    ctypes.c_void_p,
                ]
                library.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
                library.ggml_quantize_requires_imatrix.argtypes = [ctypes.c_int]
            except (OSError, AttributeError) as error:
                raise ArtifactError(f"{file} cannot be used to quantize: {error}; reinstall xllamacpp") from error
            return library
    raise ArtifactError("xllamacpp is not installed: it quantizes the weights (pip install xllamacpp)")
