"""A Llama's forward pass in numpy over the weights of a GGUF file: what goes into each matrix, what comes out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from fleetbench.artifact.llama import Shape, layer_shapes

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Seen = Callable[[str, Doubles], None]
"""Told the name of a matrix and [row length] sums of the squares of what it was multiplied with, over a chunk."""


class Model:
    """The weights of a GGUF file, each dequantized when it is asked for."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self._tensors: Mapping[str, gguf.ReaderTensor] = {tensor.name: tensor for tensor in reader.tensors}
        self.shape = read_shape(reader)

    def weights(self, name: str) -> Floats:
        tensor = self._tensors[f"{name}.weight"]
        return np.asarray(gguf.dequantize(tensor.data, tensor.tensor_type), np.float32)

    def hidden(self, ids: Ids, seen: Seen = lambda _name, _sums: None) -> Floats:
        """The last hidden states, normed; chunks are shared among the cores that this process may use.

        Args:
            ids: [chunks, length] token ids; no chunk sees another.
            seen: told of every multiplication in a layer, chunk after chunk, whatever the number of threads.

        Returns:
            [chunks, length, width].
        """
        states = self.weights("token_embd")[ids]
        turn = _turns(self.shape, ids.shape[1])
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            for layer in range(self.shape.layers):
                parts = {name: self.weights(f"blk.{layer}.{name}") for name in layer_shapes(self.shape)}
                for sums in pool.map(partial(_layer, parts=parts, shape=self.shape, turn=turn), states):
                    for part, values in sums.items():
                        seen(f"blk.{layer}.{part}.weight", values)
        return _norm(states, self.weights("output_norm"), self.shape.norm_eps)

    def logits(self, ids: Ids) -> Floats:
        """[chunks, length, vocabulary] of the token that follows each."""
        output = self.weights("token_embd" if self.shape.tied else "output")
        return self.hidden(ids) @ output.T


def read_shape(reader: gguf.GGUFReader) -> Shape:
    """The sizes of the Llama in a GGUF file.

    Raises:
        KeyError: it lacks a field.
    """

    def field(name: str) -> float:
        return float(reader.fields[f"llama.{name}"].contents())

    names = {tensor.name for tensor in reader.tensors}
    return Shape(
        width=int(field("embedding_length")),
        layers=int(field("block_count")),
        heads=int(field("attention.head_count")),
        kv_heads=int(field("attention.head_count_kv")),
        head_dim=int(field("attention.key_length")),
        ffn=int(field("feed_forward_length")),
        vocab=int(field("vocab_size")),
        context=int(field("context_length")),
        rope_theta=field("rope.freq_base"),
        norm_eps=field("attention.layer_norm_rms_epsilon"),
        tied="output.weight" not in names,
    )


def _layer(
    states: Floats, parts: Mapping[str, Floats], shape: Shape, turn: tuple[Floats, Floats]
) -> dict[str, Doubles]:
    """Add a layer's work to [length, width] `states`; the sums of squares that `Seen` speaks of, by part."""
    normed = _norm(states, parts["attn_norm"], shape.norm_eps)
    sums = dict.fromkeys(("attn_q", "attn_k", "attn_v"), _squares(normed))
    query, key, value = (normed @ parts[name].T for name in sums)
    mixed = _attend(query, key, value, shape, turn)
    sums["attn_output"] = _squares(mixed)
    states += mixed @ parts["attn_output"].T
    normed = _norm(states, parts["ffn_norm"], shape.norm_eps)
    sums |= dict.fromkeys(("ffn_gate", "ffn_up"), _squares(normed))
    gate = normed @ parts["ffn_gate"].T
    with np.errstate(over="ignore"):  # a gate that is shut: exp(-gate) may be beyond F32, its inverse is 0
        gate *= normed @ parts["ffn_up"].T / (1.0 + np.exp(-gate))
    sums["ffn_down"] = _squares(gate)
    states += gate @ parts["ffn_down"].T
    return sums


def _squares(rows: Floats) -> Doubles:
    return np.asarray((rows * rows).sum(axis=0, dtype=np.float64))


def _attend(query: Floats, key: Floats, value: Floats, shape: Shape, turn: tuple[Floats, Floats]) -> Floats:
    """Causal attention over [length, heads x head size], query heads sharing key heads in groups."""
    length, size = len(query), shape.head_dim
    group = shape.heads // shape.kv_heads
    queries = _rotate(query.reshape(length, shape.heads, size), turn).reshape(length, shape.kv_heads, group, size)
    keys = _rotate(key.reshape(length, shape.kv_heads, size), turn)
    scores = np.einsum("qkgd,tkd->kgqt", queries, keys, optimize=True) / np.float32(np.sqrt(size))
    scores += np.triu(np.full((length, length), -np.inf, np.float32), 1)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    scores /= scores.sum(axis=-1, keepdims=True)
    values = value.reshape(length, shape.kv_heads, size)
    mixed: Floats = np.einsum("kgqt,tkd->qkgd", scores, values, optimize=True)
    return mixed.reshape(length, shape.heads * size)


def _norm(states: Floats, weight: Floats, eps: float) -> Floats:
    scale: Floats = np.sqrt((states * states).mean(axis=-1, keepdims=True) + np.float32(eps))
    return states / scale * weight


def _turns(shape: Shape, length: int) -> tuple[Floats, Floats]:
    """[length, 1, head size / 2] cosines and sines of each position's angles."""
    frequencies = shape.rope_theta ** (-np.arange(0, shape.head_dim, 2) / shape.head_dim)
    angles = np.outer(np.arange(length), frequencies)[:, None, :]
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def _rotate(heads: Floats, turn: tuple[Floats, Floats]) -> Floats:
    """Turn channels 2i and 2i + 1 of [length, heads, size] by the position's angle, as GGUF lays them out."""
    cos, sin = turn
    even, odd = heads[..., 0::2], heads[..., 1::2]
    out = np.empty_like(heads)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out
