from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
import pytest

from fleetbench.artifact import convert, hf
from fleetbench.artifact.types import ArtifactError

Heads = npt.NDArray[np.floating]


def rotate_halves(head: Heads, angles: Heads) -> Heads:
    first, second = np.split(head, 2)
    turned = [first * np.cos(angles) - second * np.sin(angles), second * np.cos(angles) + first * np.sin(angles)]
    return np.concatenate(turned)


def rotate_pairs(head: Heads, angles: Heads) -> Heads:
    even, odd = head[0::2], head[1::2]
    out = np.empty_like(head)
    out[0::2] = even * np.cos(angles) - odd * np.sin(angles)
    out[1::2] = odd * np.cos(angles) + even * np.sin(angles)
    return out


def test_interleaved_projections_give_the_same_attention_scores() -> None:
    draws = np.random.default_rng(1)
    heads, size, width = 3, 8, 5
    query, key = (draws.standard_normal((heads * size, width)).astype(np.float32) for _ in range(2))
    here, there = (draws.standard_normal(width).astype(np.float32) for _ in range(2))
    frequency = 100.0 ** (-np.arange(size // 2) / (size // 2))
    turned_query, turned_key = convert.interleave(query, heads), convert.interleave(key, heads)
    for head in range(heads):
        rows = slice(head * size, (head + 1) * size)
        halves = np.dot(
            rotate_halves(np.dot(query[rows], here), 3 * frequency),
            rotate_halves(np.dot(key[rows], there), 7 * frequency),
        )
        pairs = np.dot(
            rotate_pairs(np.dot(turned_query[rows], here), 3 * frequency),
            rotate_pairs(np.dot(turned_key[rows], there), 7 * frequency),
        )
        assert halves == pytest.approx(pairs, rel=1e-4)


def test_all_tensors_arrive_with_their_values(make_folder: Any, tmp_path: Path) -> None:
    model = hf.read(make_folder())
    convert.convert(model, tmp_path / "m.gguf", name="m")
    found = {t.name: t for t in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert found.keys() == model.tensors.keys()
    down = found["blk.1.ffn_down.weight"]
    assert down.tensor_type == gguf.GGMLQuantizationType.F16
    assert np.array_equal(down.data, model.tensors["blk.1.ffn_down.weight"].load().astype(np.float16))
    key = model.tensors["blk.0.attn_k.weight"].load()
    assert np.array_equal(found["blk.0.attn_k.weight"].data, convert.interleave(key, 2).astype(np.float16))
    assert found["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32


def test_the_file_says_what_the_engine_needs(make_folder: Any, tmp_path: Path) -> None:
    convert.convert(hf.read(make_folder()), tmp_path / "m.gguf", name="m")
    fields = {k: f.contents() for k, f in gguf.GGUFReader(tmp_path / "m.gguf").fields.items()}
    assert fields["llama.context_length"] == 128
    assert fields["llama.attention.head_count_kv"] == 2
    assert fields["tokenizer.ggml.add_bos_token"] is True
    assert fields["tokenizer.ggml.tokens"][:5] == ["<pad>", "<bos>", "Ċ", "Ġ", "!"]


@pytest.mark.parametrize("scale", [1e9, float("nan")])
def test_values_that_f16_cannot_hold_are_refused(make_folder: Any, tmp_path: Path, scale: float) -> None:
    model = hf.read(make_folder(scale=scale))
    with pytest.raises(ArtifactError, match="that F16 cannot"):
        convert.convert(model, tmp_path / "m.gguf", name="m")
