from __future__ import annotations

import hashlib
from pathlib import Path

import gguf
import numpy as np
import pytest

from fleetbench.artifact import hf, ladder, source
from fleetbench.artifact.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return hf.read(Path(source.__file__).parent / "tiny").vocabulary


def test_weights_are_the_same_on_every_machine() -> None:
    made = ladder._weights(0, (128, 768), ()).astype(np.float16)
    assert hashlib.sha256(made.astype("<f2").tobytes()).hexdigest()[:16] == "58412445da3ef5b9"
    assert float(made.std()) == pytest.approx(ladder.DEVIATION, rel=0.02)
    assert abs(float(made.mean())) < 0.001


def test_tensors_differ_from_each_other() -> None:
    assert not np.array_equal(ladder._weights(0, (4, 64), ()), ladder._weights(1, (4, 64), ()))


def test_tokens_without_text_are_never_the_best(vocabulary: Vocabulary, tmp_path: Path) -> None:
    ladder.write(vocabulary, tmp_path / "l.gguf", name="ladder-75m")
    tensors = {t.name: t for t in gguf.GGUFReader(tmp_path / "l.gguf").tensors}
    assert vocabulary.control == (0, 1)
    assert not tensors["output.weight"].data[:2].any()
    assert tensors["output.weight"].data[2:].any(axis=1).all()
    assert sum(int(t.n_elements) for t in tensors.values()) == ladder.shape(128).params


def test_another_vocabulary_is_another_model(vocabulary: Vocabulary) -> None:
    other = Vocabulary(
        pre=vocabulary.pre,
        tokens=vocabulary.tokens[:-1],
        types=vocabulary.types[:-1],
        merges=vocabulary.merges,
        bos=1,
        eos=2,
        add_bos=True,
    )
    assert ladder.digest(other) != ladder.digest(vocabulary)
