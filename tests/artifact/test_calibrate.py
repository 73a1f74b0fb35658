from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fleetbench.artifact import calibrate, hf, imatrix, quantize, source
from fleetbench.artifact.forward import Ids, Model
from fleetbench.artifact.imatrix import Importance
from fleetbench.artifact.types import ArtifactError
from fleetbench_collectors.quality import tasks

LLAMA_IMATRIX = {
    # Mean and maximum over a matrix's inputs, and which input has it: what `llama-imatrix -c 512 -b 512` of build
    # b11549 measured on the tiny model's F16 form with the text of `words(3)`, three sequences; 2026-11-24.
    "blk.0.attn_k.weight": (0.68302, 1.74549, 215),
    "blk.0.attn_output.weight": (9.80553, 56.0714, 137),
    "blk.0.ffn_down.weight": (5.42022, 691.895, 100),
    "blk.0.ffn_gate.weight": (0.461871, 4.23815, 196),
    "blk.1.attn_q.weight": (1.2079, 9.30579, 196),
    "blk.1.attn_output.weight": (8.41218, 31.108, 48),
    "blk.1.ffn_down.weight": (4.08865, 212.418, 280),
    "blk.1.ffn_up.weight": (0.458077, 3.44478, 166),
    "blk.2.attn_v.weight": (1.23902, 5.15795, 245),
    "blk.2.attn_output.weight": (12.6849, 49.7181, 178),
    "blk.2.ffn_down.weight": (125.906, 5938.82, 400),
    "blk.2.ffn_gate.weight": (0.804856, 3.97327, 18),
}


def sequence(name: str, length: int = 512) -> list[int]:
    """Token ids of what the tiny model was trained on, by seed."""
    return tasks.train_seq(tasks.stream(name), length, 0.3)[0][:length]


def words(samples: int) -> str:
    """The same as text, 512 characters a sample."""
    drawn = [tasks.train_seq(tasks.stream(f"calibration {n}"), 512, 0.3)[0] for n in range(samples)]
    return "".join(tasks.decode([i for i in ids if i > tasks.BOS]) for ids in drawn)


def written(folder: Path, content: bytes) -> tuple[Path, str]:
    path = folder / "text.txt"
    path.write_bytes(content)
    return path, hashlib.sha256(content).hexdigest()


def divergence(reference: Model, other: Model, ids: Ids) -> float:
    """Mean Kullback-Leibler divergence of the next token's distribution, nats."""
    logs = []
    for model in (reference, other):
        logits = model.logits(ids).astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        logs.append(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
    return float((np.exp(logs[0]) * (logs[0] - logs[1])).sum(axis=-1).mean())


def test_the_matrix_is_the_one_that_llama_imatrix_measures(tiny_gguf: Path, tmp_path: Path) -> None:
    text, sha256 = written(tmp_path, words(3).encode())
    assert calibrate.calibrate(tiny_gguf, text, sha256, tmp_path / "i.gguf") == 1536
    found = imatrix.read(tmp_path / "i.gguf")
    assert (found.tokens, found.chunks, len(found.means)) == (1536, 3, 21)
    for name, (mean, most, where) in LLAMA_IMATRIX.items():
        means = found.means[name]
        assert float(means.mean()) == pytest.approx(mean, rel=1e-3), name
        assert float(means.max()) == pytest.approx(most, rel=1e-3), name
        assert int(means.argmax()) == where, name


def test_the_number_of_threads_does_not_change_the_matrix(tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([sequence(f"threads {n}", 32) for n in range(4)])
    made = []
    for cores in (1, 3):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)))
        made.append(calibrate.squares(Model(tiny_gguf), ids))
    assert made[0].keys() == made[1].keys()
    assert all(np.array_equal(made[0][name], made[1][name]) for name in made[0])


def test_a_matrix_brings_coarse_weights_nearer_on_texts_of_its_kind(tiny_gguf: Path, tmp_path: Path) -> None:
    reference = Model(tiny_gguf)
    seen = np.array([sequence(f"calibration {n}", 256) for n in range(8)])
    sums = calibrate.squares(reference, seen)
    means = {name: (values / seen.size).astype(np.float32) for name, values in sums.items()}
    unseen = np.array([sequence(f"held out {n}", 256) for n in range(6)])
    found = {}
    for name, importance in (("plain", None), ("weighed", Importance(means=means, tokens=None, chunks=None))):
        quantize.quantize(tiny_gguf, tmp_path / name, "q3_k_s", importance=importance)
        found[name] = divergence(reference, Model(tmp_path / name), unseen)
    assert found["weighed"] < 0.95 * found["plain"]


def test_a_sequence_begins_with_the_models_token_where_it_wants_one(make_folder: Any) -> None:
    begun = hf.read(make_folder()).vocabulary
    ids = calibrate.sequences(begun, "abcdefghij", 4)
    assert ids[:, 0].tolist() == [1, 1]
    assert ["".join(begun.tokens[i] for i in row) for row in ids[:, 1:]] == ["abc", "efg"]
    plain = dataclasses.replace(begun, add_bos=False)
    ids = calibrate.sequences(plain, "abcdefghij", 4)
    assert ["".join(plain.tokens[i] for i in row) for row in ids] == ["abcd", "efgh"]


def test_samples_and_their_length_can_be_chosen(make_folder: Any, tmp_path: Path) -> None:
    folder = make_folder()
    base = tmp_path / "b.gguf"
    source.write_base("small", folder, source.inspect("small", folder).digest, base)
    text, sha256 = written(tmp_path, b"The sum of it. " * 20)
    sizes = [{}, {"samples": 2}, {"sequence_tok": 50}, {"samples": 1, "sequence_tok": 16}]
    seen = [calibrate.calibrate(base, text, sha256, tmp_path / "i.gguf", **size) for size in sizes]
    assert seen == [256, 256, 300, 16]  # the model's context is 128
    for size, what in (
        ({"samples": 3}, "has 2 sequences of 128 tokens, not 3"),
        ({"sequence_tok": 129}, "sequences of 129 tokens are beyond the model's 128"),
    ):
        with pytest.raises(ArtifactError, match=what):
            calibrate.calibrate(base, text, sha256, tmp_path / "i.gguf", **size)


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "it is 1 tokens, fewer than one sequence of 512"), (b"\xff\xfea", "it is neither UTF-8 text nor an")],
)
def test_a_text_that_does_not_do_is_named(tiny_gguf: Path, tmp_path: Path, content: bytes, what: str) -> None:
    text, sha256 = written(tmp_path, content)
    with pytest.raises(ArtifactError, match=f"calibration {text}: {what}"):
        calibrate.calibrate(tiny_gguf, text, sha256, tmp_path / "i.gguf")
    assert not (tmp_path / "i.gguf").exists()


def test_a_text_that_changed_since_the_plan_is_not_used(tmp_path: Path) -> None:
    text, sha256 = written(tmp_path, b"as planned")
    assert calibrate.content(text, sha256) == b"as planned"
    text.write_bytes(b"otherwise")
    with pytest.raises(ArtifactError, match=f"{text}: the calibration text changed since it was planned"):
        calibrate.content(text, sha256)


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, what in ((tmp_path / "fifo", "not a regular file"), (tmp_path / "nowhere", "No such file")):
        with pytest.raises(ArtifactError, match=f"{path}: {what}"):
            calibrate.content(path, "")
