from __future__ import annotations

import hashlib
import math
import os
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from fleetbench.artifact import quantize, source
from fleetbench.artifact.types import ArtifactError

BITS_PER_WEIGHT = {
    "q8_0": 8.5,
    "q6_k": 6.5625,
    "q5_k": 5.5,
    "q4_k": 4.5,
    "q3_k": 3.4375,
    "q2_k": 2.625,
    "iq4_xs": 4.25,
    "mxfp4": 4.25,
    "nvfp4": 4.5,
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.gguf"
    source.write_base("tiny", None, source.inspect("tiny", None).digest, path)
    return path


def matrices(path: Path) -> dict[str, gguf.ReaderTensor]:
    return {t.name: t for t in gguf.GGUFReader(path).tensors if len(t.shape) > 1}


def relative_error(base: Path, path: Path) -> float:
    """Root mean square of the difference over that of the weights, all matrices together."""
    originals = matrices(base)
    wrong = right = 0.0
    for name, tensor in matrices(path).items():
        original = originals[name].data.astype(np.float32)
        wrong += float(((gguf.dequantize(tensor.data, tensor.tensor_type) - original) ** 2).sum())
        right += float((original**2).sum())
    return math.sqrt(wrong / right)


@pytest.mark.parametrize("weights", quantize.FORMATS)
def test_a_format_has_its_bits_and_nears_the_original(base: Path, tmp_path: Path, weights: str) -> None:
    quantize.quantize(base, tmp_path / "q.gguf", weights)
    made = matrices(tmp_path / "q.gguf")
    bits = 8 * sum(int(t.n_bytes) for t in made.values()) / sum(int(t.n_elements) for t in made.values())
    assert bits == BITS_PER_WEIGHT[weights]
    assert {t.tensor_type for t in made.values()} == {quantize.FORMATS[weights].type}
    assert relative_error(base, tmp_path / "q.gguf") < 2.0 ** (1.5 - bits)


def test_fewer_bits_are_further_off_within_the_k_quants(base: Path, tmp_path: Path) -> None:
    errors = []
    for weights in ("q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k"):
        quantize.quantize(base, tmp_path / weights, weights)
        errors.append(relative_error(base, tmp_path / weights))
    assert errors == sorted(errors)


def test_fields_and_norms_are_those_of_the_base(base: Path, tmp_path: Path) -> None:
    quantize.quantize(base, tmp_path / "q.gguf", "q4_k")
    before, after = gguf.GGUFReader(base), gguf.GGUFReader(tmp_path / "q.gguf")
    changed = {k for k, f in after.fields.items() if f.contents() != before.fields[k].contents()}
    assert changed == {"general.file_type"}
    assert before.fields.keys() == after.fields.keys()
    norms = {t.name: t for t in before.tensors if len(t.shape) == 1}
    assert all(np.array_equal(norms[t.name].data, t.data) for t in after.tensors if t.name in norms)


def test_the_number_of_threads_does_not_change_the_bytes(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = set()
    for cores in (1, 3, 64):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        quantize.quantize(base, tmp_path / str(cores), "q2_k")
        made.add(hashlib.sha256((tmp_path / str(cores)).read_bytes()).hexdigest())
    assert len(made) == 1


def test_rows_that_a_block_does_not_divide_are_refused(tmp_path: Path, make_folder: Any) -> None:
    folder = make_folder()
    source.write_base("small", folder, source.inspect("small", folder).digest, tmp_path / "b.gguf")
    with pytest.raises(ArtifactError, match=r"q4_k: the rows of token_embd.weight and 15 more .* block of 256"):
        quantize.quantize(tmp_path / "b.gguf", tmp_path / "q.gguf", "q4_k")
    quantize.quantize(tmp_path / "b.gguf", tmp_path / "q.gguf", "q8_0")


def test_an_unknown_format_is_told_the_known_ones(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"'q9_z' cannot be made .*q8_0"):
        quantize.quantize(base, tmp_path / "q.gguf", "q9_z")
