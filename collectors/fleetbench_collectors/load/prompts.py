"""Prompts of exact token length that share no prefix, so that no cache can answer for the engine."""

from __future__ import annotations

import hashlib

import numpy as np


def prompts(n: int, context_tok: int, ids: range, seed: int, nonce: str) -> list[list[int]]:
    """Token ids of `n` prompts, the same for the same arguments on every machine and version.

    Args:
        n: how many.
        context_tok: exact length of each, in tokens.
        ids: the token ids to draw from, evenly.
        seed: of the cell.
        nonce: of the trial, so that no trial repeats the prompts of another.

    Returns:
        [n][context_tok] ids. All differ; the first tokens of up to len(ids) successive prompts differ, and
        beyond that the prompts of one first token differ in the next ones.

    Raises:
        ValueError: so many prompts of this length do not exist.
    """
    count = len(ids)
    digits = _prefix_digits(n, context_tok, count)
    key = f"{seed}:{nonce}".encode()
    drawn = _draw(key + b":body", n * context_tok) % np.uint64(count)
    body = drawn.astype(np.int64).reshape(n, context_tok)
    order = np.argsort(_draw(key + b":order", count), kind="stable")
    for digit in range(digits):
        body[:, digit] = order[(np.arange(n) // count**digit) % count]
    return [[ids[index] for index in row] for row in body.tolist()]


def _prefix_digits(n: int, context_tok: int, count: int) -> int:
    """Tokens that it takes to number `n` prompts in base `count`."""
    if context_tok < 1 or count < 1:
        raise ValueError("a prompt has at least one token, out of at least one id")
    digits, reach = 1, count
    while reach < n:
        if count == 1 or digits == context_tok:
            raise ValueError(f"{n} prompts of {context_tok} tokens out of {count} cannot all differ")
        digits, reach = digits + 1, reach * count
    return digits


def _draw(key: bytes, n: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    stream = hashlib.shake_256(key).digest(8 * n)
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64)
