"""Prompts as serialised JSON, made at the moment they are needed: a prompt is cut from a run that is drawn once.

Prompts of one length all differ, beginning with their first tokens, so that no prefix cache can answer for the
engine; those of another nonce are drawn anew. Further on prompts may overlap, at other places.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import Protocol

from fleetbench_collectors.load.datasets import Sample
from fleetbench_collectors.load.traces import BLOCK_TOK
from fleetbench_collectors.load.wire import Endpoint
from fleetbench_collectors.load.words import FIRST_WORD, Calibration

PLACES = 1 << 14
"""Where in the run a prompt's body may begin: successive ones take turns over all of them."""
_STRIDE = 10_127
"""Between the places of successive prompts: odd, so that all places come up, and near PLACES over the golden ratio."""
_NUMBERS = 1 << 63
_AT_ONCE = 4_096


class Prompts(Protocol):
    """Where requests get their prompts from."""

    def prompt(self, number: int, context_tok: int) -> bytes:
        """What `Wire.payload` takes; the same for the same number and length, in every process.

        Raises:
            ValueError: there is no such prompt.
        """


class TokenPrompts:
    """Lists of token ids; all of one length differ, and so do the first ids of any len(ids) successive ones."""

    __slots__ = ("_lead", "_numbering", "_overhead_tok", "_shared_tok", "_stock")

    def __init__(
        self,
        ids: Sequence[int],
        *,
        seed: int,
        nonce: str,
        longest_tok: int,
        shared_tok: int = 0,
        overhead_tok: int = 0,
    ) -> None:
        """Draws the run.

        Args:
            ids: to draw from, evenly; all different.
            seed: of the cell.
            nonce: of the trial.
            longest_tok: of all prompts that will be asked for.
            shared_tok: ids that all prompts begin with.
            overhead_tok: what the server counts beyond the ids: prompts have so many fewer.

        Raises:
            ValueError: no ids, or some twice.
        """
        self._stock = _token_stock(ids, seed, nonce, longest_tok)
        self._numbering = _Numbering(len(ids), _key(seed, nonce, "prompt"))
        self._shared_tok = shared_tok
        self._overhead_tok = overhead_tok
        shared = self._stock.cut(_Numbering(len(ids), _key(seed, nonce, "shared")), 0, shared_tok)
        self._lead = b"[" + b"".join(shared)[1:]

    def reach(self, context_tok: int) -> int:
        """How many prompts of this length there are, at the most 2 ** 63 or a little more."""
        return self._numbering.reach(context_tok - self._overhead_tok - self._shared_tok)

    def prompt(self, number: int, context_tok: int) -> bytes:
        if context_tok <= self._overhead_tok:
            raise ValueError(f"the shortest prompt of this server has {self._overhead_tok + 1} tokens")
        n = context_tok - self._overhead_tok - self._shared_tok
        _check_own(n, self._shared_tok, context_tok)
        self._numbering.check(number, n)
        head, body = self._stock.cut(self._numbering, number, n)
        return b"".join((self._lead, head if self._shared_tok else head[1:], body, b"]"))


class BlockPrompts:
    """Lists of token ids for a trace that says which blocks of `BLOCK_TOK` tokens are equal.

    A block's tokens follow from its id, and differ from those of any other id. Behind the blocks, up to the
    prompt's length, come tokens of the prompt's own.
    """

    __slots__ = ("_block_numbering", "_blocks", "_numbering", "_overhead_tok", "_stock")

    def __init__(
        self,
        ids: Sequence[int],
        blocks: Sequence[tuple[int, ...] | None],
        *,
        seed: int,
        nonce: str,
        longest_tok: int,
        overhead_tok: int = 0,
    ) -> None:
        """As in `TokenPrompts`; blocks: of the request with this number, None where the trace says nothing.

        Raises:
            ValueError: no ids, or some twice.
        """
        self._stock = _token_stock(ids, seed, nonce, max(longest_tok, BLOCK_TOK))
        self._numbering = _Numbering(len(ids), _key(seed, nonce, "prompt"))
        self._block_numbering = _Numbering(len(ids), _key(seed, nonce, "block"))
        self._blocks = blocks
        self._overhead_tok = overhead_tok

    def prompt(self, number: int, context_tok: int) -> bytes:
        if not 0 <= number < len(self._blocks):
            raise ValueError(f"the trace has {len(self._blocks)} requests, none with the number {number}")
        # A trace has prompts shorter than the overhead: one id is what comes nearest.
        left = max(context_tok - self._overhead_tok, 1)
        parts: list[bytes | memoryview] = []
        for block in self._blocks[number] or ():
            parts += self._stock.cut(self._block_numbering, block, min(left, BLOCK_TOK))
            left -= min(left, BLOCK_TOK)
            if not left:
                break
        parts += self._stock.cut(self._numbering, number, left)
        parts[0] = parts[0][1:]
        return b"".join((b"[", *parts, b"]"))


class WordPrompts:
    """Texts of words with a known cost; all of one length differ, mostly in their first words."""

    __slots__ = ("_close", "_filler", "_numbering", "_open", "_plan", "_shared_n", "_stock")

    def __init__(
        self, plan: Calibration, *, endpoint: Endpoint, seed: int, nonce: str, longest_tok: int, shared_tok: int = 0
    ) -> None:
        """Draws the run.

        Args:
            plan: of the server, for this endpoint.
            endpoint: the text is a string for completions, one user message for chat.
            seed: of the cell.
            nonce: of the trial.
            longest_tok: of all prompts that will be asked for.
            shared_tok: tokens in words that all prompts begin with, beyond what a template adds.

        Raises:
            ValueError: the plan has no words, or some twice.
        """
        count = len(plan.words)
        _check_symbols("words", plan.words)
        pieces = [_escaped(f" {word}") for word in plan.words]
        self._stock = _Stock(
            piece=pieces.__getitem__,
            count=count,
            key=_key(seed, nonce, "body"),
            longest=longest_tok // plan.cost_tok + 1,
        )
        self._numbering = _Numbering(count, _key(seed, nonce, "prompt"))
        self._plan = plan
        self._filler = _escaped(plan.filler or "")
        self._shared_n = shared_tok // plan.cost_tok
        before, self._close = serialise(FIRST_WORD, endpoint).rsplit(FIRST_WORD.encode(), 1)
        shared = self._stock.cut(_Numbering(count, _key(seed, nonce, "shared")), 0, self._shared_n)
        self._open = b"".join((before, FIRST_WORD.encode(), *shared))

    def reach(self, context_tok: int) -> int:
        """How many prompts of this length there are, at the most 2 ** 63 or a little more."""
        return self._numbering.reach(self._plan.split(context_tok)[0] - self._shared_n)

    def prompt(self, number: int, context_tok: int) -> bytes:
        words, fillers = self._plan.split(context_tok)
        n = words - self._shared_n
        _check_own(n, self._shared_n * self._plan.cost_tok, context_tok)
        self._numbering.check(number, n)
        head, body = self._stock.cut(self._numbering, number, n)
        return b"".join((self._open, head, body, self._filler * fillers, self._close))


class SamplePrompts:
    """The prompts of a file, one after the other and again from the first; they have the length that they have."""

    __slots__ = ("_endpoint", "_samples", "_unique")

    def __init__(self, samples: Sequence[Sample], *, endpoint: Endpoint, unique: str | None = None) -> None:
        """unique: a nonce that is put before each prompt, with the request's number, in a line of its own."""
        if not samples:
            raise ValueError("no prompts to send")
        self._samples = samples
        self._endpoint = endpoint
        self._unique = unique

    def prompt(self, number: int, context_tok: int) -> bytes:  # noqa: ARG002 - the length is the file's
        sample = self._samples[number % len(self._samples)]
        line = "" if self._unique is None else f"{self._unique} {number}\n"
        if self._endpoint == "completions" or sample.messages is None:
            return serialise(line + sample.text, self._endpoint)
        turns = [{"role": role, "content": content} for role, content in sample.messages]
        turns[0]["content"] = line + turns[0]["content"]
        return json.dumps(turns, separators=(",", ":")).encode()


def serialise(text: str, endpoint: Endpoint) -> bytes:
    """A text as the JSON value of `prompt`, or of `messages`."""
    value = text if endpoint == "completions" else [{"role": "user", "content": text}]
    return json.dumps(value, separators=(",", ":")).encode()


class _Numbering:
    """Whole numbers written in symbols, lowest digit first, as wide as it takes for any: none begins like another."""

    __slots__ = ("_count", "_factor", "_reach", "_shifts", "_start")

    def __init__(self, count: int, key: bytes) -> None:
        self._count = count
        self._reach = [1, count]
        while count > 1 and self._reach[-1] < _NUMBERS:
            self._reach.append(self._reach[-1] * count)
        self._start, factor, *self._shifts = _drawn(key, 1 + len(self._reach))
        # What has no common divisor with the count maps different digits to different symbols.
        while math.gcd(factor, count) != 1:
            factor += 1
        self._factor = factor

    def reach(self, n: int) -> int:
        """How many numbers can be written in `n` symbols."""
        return self._reach[min(n, len(self._shifts))] if n > 0 else 0

    def check(self, number: int, n: int) -> None:
        if not 0 <= number < self.reach(n):
            raise ValueError(f"{number + 1} prompts of {n} tokens out of {self._count} cannot all differ")

    def digits(self, number: int, n: int) -> list[int]:
        """The first `n` symbols of a number, fewer where it has fewer."""
        symbols = []
        for shift in self._shifts[:n]:
            number, digit = divmod(number, self._count)
            symbols.append((digit * self._factor + shift) % self._count)
        return symbols

    def place(self, number: int) -> int:
        return (self._start + number * _STRIDE) % PLACES


class _Stock:
    """A long run of random symbols, serialised."""

    __slots__ = ("_longest", "_piece", "_run", "_starts")

    def __init__(self, *, piece: Callable[[int], bytes], count: int, key: bytes, longest: int) -> None:
        self._piece = piece
        self._longest = longest
        run = bytearray()
        self._starts = array("I", [0])
        drawn = _drawn(key, PLACES + longest)
        for first in range(0, len(drawn), _AT_ONCE):
            pieces = [piece(one % count) for one in drawn[first : first + _AT_ONCE]]
            ends = itertools.accumulate(map(len, pieces), initial=len(run))
            self._starts.extend(itertools.islice(ends, 1, None))
            run += b"".join(pieces)
        self._run = memoryview(bytes(run))

    def cut(self, numbering: _Numbering, number: int, n: int) -> tuple[bytes, memoryview]:
        """`n` symbols: the number, then a part of the run."""
        if n > self._longest:
            raise ValueError(f"prompts of up to {self._longest} tokens are prepared, not of {n}")
        digits = numbering.digits(number, n)
        start = numbering.place(number)
        end = start + n - len(digits)
        return b"".join(map(self._piece, digits)), self._run[self._starts[start] : self._starts[end]]


def _token_stock(ids: Sequence[int], seed: int, nonce: str, longest_tok: int) -> _Stock:
    _check_symbols("token ids", ids)
    key = _key(seed, nonce, "body")
    return _Stock(piece=lambda index: b",%d" % ids[index], count=len(ids), key=key, longest=longest_tok)


def _check_symbols(kind: str, symbols: Sequence[object]) -> None:
    if not symbols:
        raise ValueError(f"no {kind} to make prompts of")
    if not isinstance(symbols, range) and len(set(symbols)) < len(symbols):
        raise ValueError(f"some {kind} stand in the list twice: prompts might be equal")


def _check_own(n: int, shared_tok: int, context_tok: int) -> None:
    if n < 1:
        raise ValueError(f"{shared_tok} shared tokens leave a prompt of {context_tok} none of its own")


def _key(seed: int, nonce: str, use: str) -> bytes:
    return f"{seed}:{use}:{nonce}".encode()


def _drawn(key: bytes, n: int) -> array[int]:
    """[n] evenly drawn whole numbers below 2 ** 32, the same on every machine and version."""
    drawn = array("I", hashlib.shake_256(key).digest(4 * n))
    if sys.byteorder != "little":
        drawn.byteswap()
    return drawn


def _escaped(text: str) -> bytes:
    """Text as it stands within a JSON string."""
    return json.dumps(text)[1:-1].encode()
