"""Answers of the tiny model with one axis made coarse at a time: what the diagnosis is tested on.

`python -m tests.judge.parity.fake_quantized` writes fake_quantized.parquet beside this file: the embedded suite, 300
items a category, seed 0, answered greedily by the shipped weights in float32, with the values of one axis rounded as a
narrow format would and computed with as they are. llama.cpp has no cache below four bits, so no engine gives these.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fleetbench.artifact import hf
from fleetbench.artifact.llama import layer_shapes
from fleetbench.artifact.models import TINY_FOLDER
from fleetbench_collectors.quality import suite, tasks

Array = npt.NDArray[np.float32]
Round = Callable[[Array], Array]
ANSWERS = Path(__file__).with_suffix(".parquet")
ITEMS, SEED = 300, 0


def same(values: Array) -> Array:
    return values


def grouped(bits: int, size: int) -> Round:
    """Whole numbers of `bits` with a scale and a zero point for each `size` values in a row."""

    def round_(values: Array) -> Array:
        groups = values.reshape(-1, size)
        low = np.minimum(groups.min(axis=1, keepdims=True), 0)
        high = np.maximum(groups.max(axis=1, keepdims=True), 0)
        most = 2**bits - 1
        scale = np.maximum((high - low) / most, 1e-12)
        zero = np.round(-low / scale)
        codes = np.clip(np.round(groups / scale) + zero, 0, most)
        rounded: Array = ((codes - zero) * scale).astype(np.float32).reshape(values.shape)
        return rounded

    return round_


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What each axis is rounded by; embeddings and the output stay as they are."""

    weights: Round = same
    activations: Round = same
    kv: Round = same


DEPLOYMENTS: Mapping[str, Deployment] = {
    "reference": Deployment(),
    "int8": Deployment(weights=grouped(8, 64), kv=grouped(8, 64)),
    "weights_int2": Deployment(weights=grouped(2, 64)),
    "kv_int2": Deployment(kv=grouped(2, 64)),
}


class Model:
    """The shipped Llama in numpy, one batch of equally long sequences at a time."""

    def __init__(self, how: Deployment) -> None:
        source = hf.read(TINY_FOLDER)
        self.shape = source.shape
        self.how = how
        self.params = {name: stored.load() for name, stored in source.tensors.items()}
        for layer in range(self.shape.layers):
            for name, dims in layer_shapes(self.shape).items():
                if len(dims) > 1:
                    key = f"blk.{layer}.{name}.weight"
                    self.params[key] = how.weights(self.params[key])
        half = np.arange(0, self.shape.head_dim, 2, dtype=np.float32) / self.shape.head_dim
        angle = np.outer(np.arange(self.shape.context), 1.0 / self.shape.rope_theta**half)
        self.turns = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)

    def answer(self, prompts: npt.NDArray[np.intp], most: Sequence[int]) -> Iterator[str]:
        """Greedy answers to [batch, tokens] ids, to the newline or `most` tokens of each."""
        cache: list[tuple[Array, Array]] = []
        differ = (prompts != prompts[0]).any(axis=0)
        shared = int(differ.argmax()) if differ.any() else prompts.shape[1] - 1
        self._step(prompts[:1, :shared], cache)  # what all begin with, a haystack for one, is read once
        cache = [(_repeat(key, len(prompts)), _repeat(value, len(prompts))) for key, value in cache]
        nxt = self._step(prompts[:, shared:], cache).argmax(axis=-1)
        said = [nxt]
        for _ in range(max(most) - 1):
            nxt = self._step(nxt[:, None], cache).argmax(axis=-1)
            said.append(nxt)
        for ids, limit in zip(np.stack(said, axis=1).tolist(), most, strict=True):
            end = ids.index(tasks.NEWLINE) + 1 if tasks.NEWLINE in ids else len(ids)
            yield tasks.decode(ids[: min(end, limit)])

    def _step(self, ids: npt.NDArray[np.intp], cache: list[tuple[Array, Array]]) -> Array:
        """Logits after the last of new tokens; their keys and values join the cache."""
        act, states = self.how.activations, self.params["token_embd.weight"][ids]
        done = cache[0][0].shape[2] if cache else 0
        for layer in range(self.shape.layers):
            weights = {name: self.params[f"blk.{layer}.{name}.weight"] for name in layer_shapes(self.shape)}
            normed = act(self._norm(states, weights["attn_norm"]))
            key = self.how.kv(self._rotate(self._heads(normed @ weights["attn_k"].T), done))
            value = self.how.kv(self._heads(normed @ weights["attn_v"].T))
            if done:
                before = cache[layer]
                cache[layer] = np.concatenate([before[0], key], axis=2), np.concatenate([before[1], value], axis=2)
            else:
                cache.append((key, value))
            query = self._rotate(self._heads(normed @ weights["attn_q"].T), done)
            states = states + act(_attend(query, *cache[layer])) @ weights["attn_output"].T
            normed = act(self._norm(states, weights["ffn_norm"]))
            gate = normed @ weights["ffn_gate"].T
            inner = gate / (1 + np.exp(-gate)) * (normed @ weights["ffn_up"].T)
            states = states + act(inner) @ weights["ffn_down"].T
        last: Array = self._norm(states[:, -1], self.params["output_norm.weight"]) @ self.params["output.weight"].T
        return last

    def _heads(self, flat: Array) -> Array:
        """[batch, tokens, heads * dim] as [batch, heads, tokens, dim]; this Llama has as many of each kind."""
        return flat.reshape(*flat.shape[:2], self.shape.heads, self.shape.head_dim).transpose(0, 2, 1, 3)

    def _norm(self, states: Array, scale: Array) -> Array:
        normed: Array = states / np.sqrt((states**2).mean(axis=-1, keepdims=True) + self.shape.norm_eps) * scale
        return normed

    def _rotate(self, heads: Array, start: int) -> Array:
        cosine, sine = (turn[start : start + heads.shape[2]] for turn in self.turns)
        first, second = np.split(heads, 2, axis=-1)
        return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def _repeat(cached: Array, times: int) -> Array:
    return np.repeat(cached, times, axis=0)


def _attend(query: Array, key: Array, value: Array) -> Array:
    """[batch, tokens, channels] of heads that see no later token."""
    scores = query @ key.transpose(0, 1, 3, 2) / math.sqrt(query.shape[-1])
    tokens, seen = scores.shape[-2:]
    scores = np.where(np.tri(tokens, seen, seen - tokens, dtype=np.bool_), scores, np.float32(-1e9))
    odds = np.exp(scores - scores.max(axis=-1, keepdims=True))
    mixed = (odds / odds.sum(axis=-1, keepdims=True)) @ value
    flat: Array = mixed.transpose(0, 2, 1, 3).reshape(mixed.shape[0], tokens, -1)
    return flat


def answers(how: Deployment, items: Sequence[suite.Item]) -> dict[str, str]:
    """By item id."""
    model = Model(how)
    found: dict[str, str] = {}
    for _, alike in groupby(sorted(items, key=_alike), key=_alike):
        batch = list(alike)
        prompts = np.array([item.prompt_ids for item in batch])
        most = [len(item.answer_ids) for item in batch]  # as a trial of the embedded suite asks
        found |= dict(zip((item.item_id for item in batch), model.answer(prompts, most), strict=True))
    return found


def _alike(item: suite.Item) -> tuple[int, str]:
    """Items that go together: equally long, and of a haystack where there is one."""
    return len(item.prompt_ids), item.cluster if item.category == "needle" else ""


def table(deployments: Mapping[str, Deployment]) -> pa.Table:
    """A row for each item: what it is, and what each deployment said."""
    items = suite.embedded(ITEMS, SEED)
    said = {name: answers(how, items) for name, how in deployments.items()}
    rows = [
        {
            "item_id": item.item_id,
            "category": item.category,
            "stratum": item.stratum,
            "cluster": item.cluster,
            "context_tok": len(item.prompt_ids),
            "expected": item.answer,
        }
        | {name: texts[item.item_id] for name, texts in said.items()}
        for item in items
    ]
    return pa.Table.from_pylist(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ANSWERS)
    pq.write_table(table(DEPLOYMENTS), parser.parse_args().output, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
