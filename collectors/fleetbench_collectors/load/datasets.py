"""Files of prompts: ShareGPT-like JSON, JSON lines, plain text; gzip is seen by its first bytes."""

from __future__ import annotations

import codecs
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleetbench_collectors.load.textfile import (
    READ_BYTES,
    check_limit,
    checked_object,
    entries,
    json_object,
    lines,
    located,
    opened,
    shown,
)

OUTPUT_MAX_TOK = 10_000_000

_ROLES = ("system", "developer", "user", "assistant")
_OUTPUT_KEYS = ("output_tokens", "max_tokens", "output_len")
_HUMANS = ("human", "user")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A prompt of a file.

    text: the prompt; of messages, their contents with line breaks between. output_tok: the answer's length
    where the file says one. messages: (role, content) pairs up to the turn that is to be answered.
    """

    text: str
    output_tok: int | None
    messages: tuple[tuple[str, str], ...] | None


def read(path: str | os.PathLike[str], *, limit: int | None = None) -> list[Sample]:
    """The prompts of a file in its order, at most `limit`: what follows them is not read.

    `.txt` holds a prompt a line. Everything else is told by its first character: `[` begins a list of
    objects, `{` the first of one object a line. An object has `messages` (as of OpenAI's chat; a recorded
    answer at their end is left out), or `prompt`, or `text`, each optionally with `output_tokens`,
    `max_tokens` or `output_len`; or ShareGPT's `conversations`, whose first human turn is the prompt. A
    conversation in which no human says anything is passed over: the published file has such.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no prompts, or something else, or too much; with the line or the entry.
    """
    where = Path(path)
    check_limit(limit)
    name = where.name.lower().removesuffix(".gz")
    found = map(_plain, lines(where)) if name.endswith(".txt") else _objects(where)
    samples = list(itertools.islice(found, limit))
    if not samples:
        raise ValueError(f"{where}: no prompts in it")
    return samples


def _plain(line: tuple[int, str]) -> Sample:
    return Sample(text=line[1], output_tok=None, messages=None)


def _objects(path: Path) -> Iterator[Sample]:
    with opened(path) as file:
        head = file.read(READ_BYTES).lstrip(codecs.BOM_UTF8 + b" \t\r\n")[:1]
    if head == b"[":
        return _samples(path, "entry", entries(path), checked_object)
    if head == b"{":
        return _samples(path, "line", lines(path), json_object)
    if not head:
        return iter(())
    raise ValueError(f"{path}: begins with neither [ nor {{ as JSON does; a file with a prompt a line is named .txt")


def _samples(
    path: Path, kind: str, found: Iterable[tuple[int, Any]], as_object: Callable[[Any], dict[str, Any]]
) -> Iterator[Sample]:
    for number, value in found:
        with located(path, f"{kind} {number}"):
            sample = _sample(as_object(value))
        if sample is not None:
            yield sample


def _sample(raw: dict[str, Any]) -> Sample | None:
    """The prompt of an object; None for a conversation without one."""
    messages = None
    if raw.get("messages") is not None:
        messages = _messages(raw["messages"])
        text = "\n".join(content for _, content in messages)
    elif (key := next((key for key in ("prompt", "text") if raw.get(key) is not None), None)) is not None:
        text = _text(raw[key], key)
    elif raw.get("conversations") is not None:
        text = _first_human(raw["conversations"])
        if not text.strip():
            return None
    else:
        raise ValueError(f"must have messages, prompt, text or conversations, not only {shown(sorted(raw))}")
    if not text.strip():
        raise ValueError("the prompt is empty")
    return Sample(text=text, output_tok=_output_tok(raw), messages=messages)


def _messages(raw: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(raw, list):
        raise ValueError(f"messages must be a list, not {shown(raw)}")  # noqa: TRY004 - a mistake in a file
    turns = []
    for turn in map(checked_object, raw):
        if turn.get("role") not in _ROLES:
            raise ValueError(f"a role must be one of {', '.join(_ROLES)}, not {shown(turn.get('role'))}")
        turns.append((str(turn["role"]), _text(turn.get("content"), "content")))
    while turns and turns[-1][0] == "assistant":
        turns.pop()
    if not turns:
        raise ValueError("messages has no turn that is to be answered")
    return tuple(turns)


def _first_human(raw: object) -> str:
    """The first human turn of a ShareGPT conversation; empty where there is none."""
    if not isinstance(raw, list):
        raise ValueError(f"conversations must be a list, not {shown(raw)}")  # noqa: TRY004 - a mistake in a file
    turns = map(checked_object, raw)
    return next((_text(turn.get("value"), "value") for turn in turns if turn.get("from") in _HUMANS), "")


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be text, not {shown(value)}")  # noqa: TRY004 - a mistake in a file
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} has half of a surrogate pair, which is no text") from None
    return value


def _output_tok(raw: dict[str, Any]) -> int | None:
    key = next((key for key in _OUTPUT_KEYS if raw.get(key) is not None), None)
    if key is None:
        return None
    value = raw[key]
    if type(value) is not int or not 1 <= value <= OUTPUT_MAX_TOK:
        raise ValueError(f"{key} must be a whole number from 1 to {OUTPUT_MAX_TOK}, not {shown(value)}")
    return value
