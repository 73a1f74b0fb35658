"""What an event of an OpenAI-compatible stream says, in the forms of the engines that serve one."""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from itertools import accumulate, compress, islice, pairwise, repeat
from operator import lt
from typing import Any, NamedTuple

from fleetbench_collectors.load.sse import DONE, Counted

_DELTA_TEXTS = ("content", "reasoning_content", "reasoning")
_DECODER = json.JSONDecoder()
_TOK_MAX = 10_000_000
"""Of one request: a larger count is none."""
_EXCERPT_CHARS = 200

Counts = tuple[int | None, int | None, int | None]
"""Tokens of the prompt, of the output, and of the prompt found in a cache, by the server's count; None where it says
nothing."""


class Said(NamedTuple):
    """What an event's first choice brought.

    text: the key of its text where that is all it brought; sure: it carries a token; blank: it may carry one, which
    has no text; role: it says whose answer it is, and without a token only announces it; ids: token ids in it, None
    where the server sends none; last: the server says that nothing follows.
    """

    text: str | None
    sure: bool
    blank: bool
    role: bool
    ids: int | None
    last: bool


def event(data: bytes) -> dict[str, Any]:
    """The JSON object of an event.

    Raises:
        ValueError: it is none.
    """
    try:
        text = data.decode().strip()
        value, end = _DECODER.raw_decode(text)
        if end < len(text):
            value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"an event that is no JSON: {_excerpt(data)}") from error
    if not isinstance(value, dict):
        raise ValueError(f"an event that is no object: {_excerpt(data)}")  # noqa: TRY004 - of bytes, not of a call
    return value


def done(data: bytes) -> bool:
    """Whether the event is the one that is no JSON and ends a stream."""
    return data.strip() == DONE


def error(event: dict[str, Any]) -> str | None:
    """The error that an event reports in place of a chunk: under `error`, or as the object itself."""
    found = event.get("error")
    if found:
        return _dumped(found if isinstance(found, dict) else event)
    return _dumped(event) if event.get("object") == "error" else None


def _dumped(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "one that is nested too deeply to be shown"


def counts(event: dict[str, Any]) -> Counts | None:
    """By `usage`, or by the `timings` of llama.cpp, whose prompt_n leaves out what its cache had."""
    usage, timings = event.get("usage"), event.get("timings")
    if isinstance(usage, dict):
        details = usage.get("prompt_tokens_details")
        cached = _whole(details.get("cached_tokens")) if isinstance(details, dict) else None
        found = _whole(usage.get("prompt_tokens")), _whole(usage.get("completion_tokens")), cached
    elif isinstance(timings, dict):
        found = None, None, None
    else:
        return None
    return _with_timings(found, timings) if isinstance(timings, dict) else found


def _with_timings(found: Counts, timings: dict[str, Any]) -> Counts:
    prompt, output, cached = found
    cache, processed = _whole(timings.get("cache_n")), _whole(timings.get("prompt_n"))
    if prompt is None and cache is not None and processed is not None:
        prompt = cache + processed
    return (
        prompt,
        _whole(timings.get("predicted_n")) if output is None else output,
        cache if cached is None else cached,
    )


def said(event: dict[str, Any]) -> Said | None:
    """What the first choice brought: of `text` in completions, of `delta` in chat; None where there is none."""
    choices = event.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    choice = choices[0]
    last = bool(choice.get("finish_reason"))
    found = choice.get("token_ids")
    ids = len(found) if isinstance(found, list) else None
    delta = choice.get("delta")
    if isinstance(delta, dict):
        return _of_delta(delta, ids=ids, last=last)
    text = bool(choice.get("text"))
    sure = text or bool(ids)
    blank = not sure and not last and ids is None and "text" in choice
    return Said("text" if text and ids is None and not last else None, sure, blank, False, ids, last)


def _of_delta(delta: dict[str, Any], *, ids: int | None, last: bool) -> Said:
    texts = [key for key in _DELTA_TEXTS if delta.get(key)]
    role, called = bool(delta.get("role")), _called(delta.get("tool_calls"))
    sure = bool(texts) or called or bool(ids)
    blank = not sure and not role and not last and ids is None and any(key in delta for key in _DELTA_TEXTS)
    alone = len(texts) == 1 and not called and ids is None and not last
    return Said(texts[0] if alone else None, sure, blank, role, ids, last)


def _called(calls: Any) -> bool:
    """Whether a piece of a tool's call is in the delta: of its name or of its arguments."""
    if not isinstance(calls, list):
        return False
    functions = [call.get("function") for call in calls if isinstance(call, dict)]
    return any(isinstance(one, dict) and bool(one.get("name") or one.get("arguments")) for one in functions)


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < _TOK_MAX else None


def _excerpt(data: bytes) -> str:
    return data[: 4 * _EXCERPT_CHARS].decode(errors="replace").strip()[:_EXCERPT_CHARS]


class Arrivals(NamedTuple):
    """Chunks that carry a token, by the read that completed them.

    token_ns: [arrivals]; chunk_tok: [arrivals] tokens of each, None where each is one chunk and nothing says otherwise.
    """

    chunks: int | None
    token_ns: array[int]
    chunk_tok: array[int] | None


class Chunks:
    """Adds up the chunks of one stream: 12 bytes an arrival, no object."""

    __slots__ = ("_blanks", "_continuous", "_ns", "_sure", "_tok", "_used", "cached_tok", "output_tok", "prompt_tok")

    def __init__(self) -> None:
        self.prompt_tok: int | None = None
        self.output_tok: int | None = None
        self.cached_tok: int | None = None
        self._ns = array("q")
        self._sure = array("I")
        self._blanks: dict[int, int] = {}
        self._tok: array[int] | None = array("I")
        self._used: int | None = None
        self._continuous = True

    def add(self, event: dict[str, Any], stamp: int) -> bool:
        """One event; whether the server says that no token follows."""
        used = self._count(event)
        chunk = said(event)
        if chunk is None:
            return False
        sure, tok = chunk.sure, chunk.ids
        if chunk.role and not sure:
            self._used = 0 if used is not None and self._used is None else self._used
        elif used is None:
            self._continuous = self._continuous and not (sure or chunk.blank)
        elif self._continuous:
            grown = max(used - (self._used or 0), 0)
            # A count that comes with the last chunk only says nothing about that chunk.
            sure = sure or (grown > 0 and not (chunk.last and self._used is None))
            tok = grown if tok is None else tok
            self._used = used
        if sure:
            self._arrive(stamp, 1)
            self._server_said(tok)
        elif chunk.blank:
            self._blank(stamp, 1)
        return chunk.last

    def extend(self, stamps: Sequence[int], counted: Counted, *, blank: bool) -> None:
        """Events of a template, which say nothing of tokens: [pieces] by the stamps of the reads that completed them.

        `blank`: those without a text may carry a token.
        """
        texts, blanks = counted.texts, counted.blanks
        self._tok, self._continuous = None, False
        if blanks is None and sum(texts) == len(texts) and 0 not in texts:
            stamps = stamps[: len(texts)]
            if self._rising(stamps):
                self._ns.extend(stamps)
                self._sure.extend(texts)
                return
        for stamp, text, empty in zip(stamps, texts, blanks or repeat(0), strict=False):
            if text:
                self._arrive(stamp, text)
            if empty and blank:
                self._blank(stamp, empty)

    def arrivals(self) -> Arrivals:
        """Decides which chunks carried a token, and how many tokens each arrival has.

        A token may have no text (a control token, half of a character), and a chunk without a text may have no token.
        The server's own count decides: chunks without a text are tokens where that makes the counts equal. Tokens come
        from the chunks' ids or running counts where these add up to the total, else the total spreads evenly.
        """
        ns, sure, tok = self._ns, self._sure, self._tok
        if self._blanks and sum(sure) + sum(self._blanks.values()) == self.output_tok:
            tok = None
            for index, chunks in self._blanks.items():
                sure[index] += chunks
        if self._blanks and 0 in sure:
            ns = array("q", compress(ns, sure))
            tok = None if tok is None else array("q", compress(tok, sure))
            sure = array("I", filter(None, sure))
        chunks = len(ns) if max(sure, default=0) == 1 else sum(sure)
        if tok and sum(tok) == self.output_tok and min(tok) > 0:
            return Arrivals(chunks, ns, array("I", tok))
        if len(ns) < chunks:
            return Arrivals(chunks, ns, array("I", spread_over(self.output_tok, sure)))
        return Arrivals(chunks or None, ns, None)

    def _count(self, event: dict[str, Any]) -> int | None:
        """Takes over the server's counts; the output's, where this event has one."""
        found = counts(event)
        if found is None:
            return None
        prompt_tok, output_tok, cached_tok = found
        if prompt_tok is not None:
            self.prompt_tok = prompt_tok
        if output_tok is not None:
            self.output_tok = output_tok
        if cached_tok is not None:
            self.cached_tok = cached_tok
        return output_tok

    def _rising(self, stamps: Sequence[int]) -> bool:
        return (not self._ns or self._ns[-1] < stamps[0]) and all(map(lt, stamps, islice(stamps, 1, None)))

    def _arrive(self, stamp: int, chunks: int) -> None:
        """Chunks that one read brought are one arrival, for the time between them cannot be seen."""
        if self._ns and self._ns[-1] == stamp:
            self._sure[-1] += chunks
            return
        self._ns.append(stamp)
        self._sure.append(chunks)
        if self._tok is not None:
            self._tok.append(0)

    def _blank(self, stamp: int, chunks: int) -> None:
        self._arrive(stamp, 0)
        index = len(self._ns) - 1
        self._blanks[index] = self._blanks.get(index, 0) + chunks

    def _server_said(self, tok: int | None) -> None:
        if tok is None:
            self._tok = None
        elif self._tok is not None:
            self._tok[-1] = min(self._tok[-1] + tok, _TOK_MAX)


def spread_over(output_tok: int | None, arrivals: Sequence[int]) -> list[int]:
    """[arrivals] tokens, evenly by the chunks of each; one a chunk where the total is unknown or smaller."""
    chunks = sum(arrivals)
    tok = chunks if output_tok is None or output_tok < chunks else output_tok
    bounds = (
        [index * tok // chunks for index in accumulate(arrivals, initial=0)] if chunks else [0] * (len(arrivals) + 1)
    )
    return [after - before for before, after in pairwise(bounds)]
