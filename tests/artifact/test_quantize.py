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
from fleetbench.artifact.imatrix import Importance
from fleetbench.artifact.mixtures import MIXTURES
from fleetbench.artifact.types import ArtifactError

K = gguf.GGMLQuantizationType

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


MIXED_BITS = {
    # Bits per weight of the tiny model, norms included, without an importance matrix: what `llama-quantize --dry-run`
    # of build b11549 says.
    "q5_k_m": 5.64,
    "q5_k_s": 5.54,
    "q4_k_m": 4.76,
    "q4_k_s": 4.65,
    "q3_k_l": 4.31,
    "q3_k_m": 3.99,
    "q3_k_s": 3.51,
    "q2_k_m": 3.03,
    "q2_k_s": 2.71,
    "iq3_m": 3.72,
    "iq3_s": 3.51,
    "iq3_xs": 3.34,
    "iq3_xxs": 3.18,
    "iq2_m": 2.82,
    "iq2_s": 2.63,
    "iq2_xs": 2.43,
    "iq2_xxs": 2.21,
    "iq1_m": 1.97,
    "iq1_s": 1.82,
}


@pytest.mark.parametrize("weights", MIXTURES)
def test_a_mixture_has_its_bits(base: Path, weights: str) -> None:
    reader = gguf.GGUFReader(base)
    types = quantize.plan(reader, weights)
    bits = 0.0
    for tensor in reader.tensors:
        elements, in_bytes = quantize._block(types.get(tensor.name, K.F32))
        bits += 8 * in_bytes / elements * int(tensor.n_elements)
    assert bits / sum(int(t.n_elements) for t in reader.tensors) == pytest.approx(MIXED_BITS[weights], abs=0.006)


def test_a_mixture_is_written_as_planned_and_says_what_it_is(base: Path, tmp_path: Path) -> None:
    quantize.quantize(base, tmp_path / "q.gguf", "q4_k_m")
    made = matrices(tmp_path / "q.gguf")
    assert {name: t.tensor_type for name, t in made.items()} == quantize.plan(gguf.GGUFReader(base), "q4_k_m")
    assert {t.tensor_type for t in made.values()} == {K.Q4_K, K.Q6_K}
    assert (
        gguf.GGUFReader(tmp_path / "q.gguf").fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q4_K_M
    )
    assert relative_error(base, tmp_path / "q.gguf") < 0.1


def test_rows_that_a_mixture_does_not_fit_get_the_types_that_llama_cpp_falls_back_to(
    tmp_path: Path, make_folder: Any
) -> None:
    folder = make_folder()
    source.write_base("small", folder, source.inspect("small", folder).digest, tmp_path / "b.gguf")
    quantize.quantize(tmp_path / "b.gguf", tmp_path / "q.gguf", "q4_k_s")
    made = {name: t.tensor_type for name, t in matrices(tmp_path / "q.gguf").items()}
    assert (made["blk.0.ffn_up.weight"], made["blk.0.attn_v.weight"]) == (K.Q5_0, K.Q5_1)
    assert made["output.weight"] == K.Q8_0
    assert relative_error(tmp_path / "b.gguf", tmp_path / "q.gguf") < 0.05


def flat(base: Path, **changes: list[float]) -> Importance:
    """The same weight for every input, save where `changes` names a part of the first layer."""
    means = {name: np.ones(int(t.shape[0]), np.float32) for name, t in matrices(base).items() if name.startswith("blk")}
    means |= {f"blk.0.{part}.weight": np.array(values, np.float32) for part, values in changes.items()}
    return Importance(means=means, tokens=None, chunks=None)


def test_errors_of_important_inputs_become_smaller(base: Path, tmp_path: Path) -> None:
    loud = [100.0 if column % 4 == 0 else 0.01 for column in range(256)]
    wrong = {}
    for name, importance in (("plain", flat(base)), ("weighed", flat(base, attn_q=loud))):
        quantize.quantize(base, tmp_path / name, "q2_k", importance=importance)
        tensor = matrices(tmp_path / name)["blk.0.attn_q.weight"]
        difference = gguf.dequantize(tensor.data, tensor.tensor_type) - matrices(base)["blk.0.attn_q.weight"].data
        wrong[name] = float((difference[:, ::4] ** 2).sum())
    assert wrong["weighed"] < 0.8 * wrong["plain"]


@pytest.mark.parametrize(
    "weights", ["iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m", "iq3_xxs", "iq3_xs", "q2_k_s"]
)
def test_what_needs_a_matrix_is_not_made_without(base: Path, tmp_path: Path, weights: str) -> None:
    with pytest.raises(
        ArtifactError, match=rf"weights {weights} need an importance matrix .*`method: imatrix` and `cal"
    ):
        quantize.quantize(base, tmp_path / "q.gguf", weights)
    assert not (tmp_path / "q.gguf").exists()


def test_a_matrix_that_lacks_what_is_needed_is_said(base: Path, tmp_path: Path) -> None:
    part = Importance(means={"blk.0.attn_q.weight": np.ones(256, np.float32)}, tokens=None, chunks=None)
    with pytest.raises(
        ArtifactError, match=r"blk.0.attn_k.weight becomes IQ2_XXS\), and the one that was given has noth"
    ):
        quantize.quantize(base, tmp_path / "q.gguf", "iq2_xxs", importance=part)
    quantize.quantize(base, tmp_path / "q.gguf", "q4_k_m", importance=part)


@pytest.mark.parametrize("weights", ["q4_k", "q4_k_m", "mxfp4"])
def test_protected_layers_stay_as_they_are(base: Path, tmp_path: Path, weights: str) -> None:
    quantize.quantize(base, tmp_path / "q.gguf", weights, protect=("embeddings", "last 1"))
    before = matrices(base)
    kept = {name for name, t in matrices(tmp_path / "q.gguf").items() if t.tensor_type == K.F16}
    assert kept == {name for name in before if name == "token_embd.weight" or name.startswith("blk.2.")}
    assert all(np.array_equal(matrices(tmp_path / "q.gguf")[name].data, before[name].data) for name in kept)


def test_a_protected_layer_may_have_rows_that_the_format_does_not_fit(tmp_path: Path, make_folder: Any) -> None:
    folder = make_folder()
    source.write_base("small", folder, source.inspect("small", folder).digest, tmp_path / "b.gguf")
    quantize.quantize(tmp_path / "b.gguf", tmp_path / "q.gguf", "q4_k", protect=("first 2", "lm_head", "embeddings"))
    assert {t.tensor_type for t in matrices(tmp_path / "q.gguf").values()} == {K.F16}
