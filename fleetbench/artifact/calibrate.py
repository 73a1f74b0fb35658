"""A calibration text to the importance matrix of a model: the mean square of what goes into each of its matrices."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import gguf
import numpy as np

from fleetbench.artifact import encode, imatrix, llama
from fleetbench.artifact.forward import Doubles, Floats, Ids, Model
from fleetbench.artifact.types import ArtifactError
from fleetbench.artifact.vocabulary import Vocabulary

VERSION = 1
"""Raised whenever the same text and model give another matrix: part of the toolchain."""
SEQUENCE_TOK, SAMPLES = 512, 128
"""Tokens of a sequence, and the most sequences of a text that are looked at, where a recipe does not say."""


def content(path: Path, sha256: str) -> bytes:
    """What a calibration file holds, which must still be what was planned.

    Raises:
        ArtifactError: unreadable, or changed since.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a FIFO would wait for a writer
            raise ArtifactError(f"calibration {path}: not a regular file")
        found = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"calibration {path}: {error.strerror or error}") from error
    if hashlib.sha256(found).hexdigest() != sha256:
        raise ArtifactError(f"calibration {path}: the calibration text changed since it was planned; plan again")
    return found


def calibrate(
    base: Path, text: Path, sha256: str, target: Path, *, samples: int | None = None, sequence_tok: int | None = None
) -> int:
    """Write the importance matrix of the model at `base` for the file `text`, in llama.cpp's GGUF form.

    As its `llama-imatrix` does: whole sequences of one length, each seen alone, each begun with the model's
    beginning-of-sequence token in place of its first one where the model wants that; the output matrix is left out.

    Returns:
        Tokens that were looked at.

    Raises:
        ArtifactError: the text changed, is no text, too short, or the model gives values that are not finite.
        OSError: no room, no rights.
    """
    try:
        words = content(text, sha256).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ArtifactError(f"calibration {text}: it is neither UTF-8 text nor an importance matrix") from error
    model = Model(base)
    length = sequence_tok or min(SEQUENCE_TOK, model.shape.context)
    if length > model.shape.context:
        raise ArtifactError(f"calibration: sequences of {length} tokens are beyond the model's {model.shape.context}")
    try:
        ids = sequences(llama.read_vocabulary(gguf.GGUFReader(base)), words, length)
    except ArtifactError as error:
        raise ArtifactError(f"calibration {text}: {error}") from error
    if samples is not None and samples > len(ids):
        raise ArtifactError(f"calibration {text}: it has {len(ids)} sequences of {length} tokens, not {samples}")
    ids = ids[: samples or SAMPLES]
    imatrix.write(target, squares(model, ids), tokens=ids.size, chunks=len(ids), dataset=f"sha256:{sha256}")
    return int(ids.size)


def sequences(vocabulary: Vocabulary, text: str, length: int) -> Ids:
    """[sequences, length] token ids; what is left over at the end is not used.

    Raises:
        ArtifactError: fewer tokens than one sequence takes; the text is a clause.
    """
    begin = vocabulary.bos if vocabulary.add_bos else None
    found = encode.encode(vocabulary, text)
    ids = np.array(found if begin is None else [begin, *found], np.int64)
    whole = len(ids) // length
    if not whole:
        raise ArtifactError(f"it is {len(ids)} tokens, fewer than one sequence of {length}: take a longer text")
    ids = ids[: whole * length].reshape(whole, length)
    if begin is not None:
        ids[:, 0] = begin
    return ids


def squares(model: Model, ids: Ids) -> dict[str, Floats]:
    """Of each matrix but embedding and output: [row length] sums of its inputs' squares over all tokens.

    Raises:
        ArtifactError: sums that are not finite.
    """
    sums: dict[str, Doubles] = {}

    def seen(name: str, squared: Doubles) -> None:
        sums[name] = sums[name] + squared if name in sums else squared

    model.hidden(ids, seen)
    for name, values in sums.items():
        if not np.isfinite(values).all():
            raise ArtifactError(f"the model gives values that are not finite before {name}")
    return {name: values.astype(np.float32) for name, values in sums.items()}
