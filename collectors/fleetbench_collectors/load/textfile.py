"""Text files that somebody gave: plain or gzip, read piece by piece, every mistake with its place."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import itertools
import json
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

FILE_MAX_BYTES = 2 << 30
ENTRY_MAX_BYTES = 16 << 20
READ_BYTES = 1 << 18
_SHOWN_CHARS = 60
_GZIP = b"\x1f\x8b"
_SPACE = re.compile(r"[ \t\r\n]*")


def check_limit(limit: int | None) -> None:
    if limit is not None and limit < 1:
        raise ValueError(f"a limit must be at least 1, not {limit}")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers from 1, without their line ends.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text in UTF-8, or too long, or a damaged gzip file.
    """
    with opened(path) as file:
        total = 0
        for number in itertools.count(1):
            raw = file.readline(ENTRY_MAX_BYTES + 1)
            if not raw:
                return
            total += len(raw)
            with located(path, f"line {number}"):
                _check_size(total)
                text = _decoded(raw, first=number == 1)
            if text.strip():
                yield number, text


def json_object(text: str) -> dict[str, Any]:
    """A line's JSON object.

    Raises:
        ValueError: it is none.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"not a JSON object, {shown(text)}: {error}") from None
    return checked_object(value)


def checked_object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object, not {shown(value)}")  # noqa: TRY004 - a mistake in a file
    return value


def shown(value: object) -> str:
    """What stands in a file, as short as a message needs it."""
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."


@contextlib.contextmanager
def located(path: Path, place: str) -> Iterator[None]:
    """Puts the file and the place before the sentence of a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}, {place}: {error}") from None


def entries(path: Path) -> Iterator[tuple[int, object]]:
    """The objects of a JSON list, numbered from 1, read one after the other: such files have hundreds of MB."""
    with opened(path) as file:
        window = _Window(_chunks(file))
        with located(path, "the list"):
            window.take("[")
            if window.ahead() == "]":
                return
        for number in itertools.count(1):
            with located(path, f"entry {number}"):
                value = window.object()
                ended = window.take(",]") == "]"
            yield number, value
            if ended:
                break
        with located(path, "the list"):
            if window.ahead():
                raise ValueError("something follows its end")


class _Window:
    """The part of a JSON text that is looked at."""

    __slots__ = ("_at", "_chunks", "_text")

    def __init__(self, chunks: Iterator[str]) -> None:
        self._chunks = chunks
        self._text = ""
        self._at = 0

    def ahead(self) -> str:
        """The next character that is no space, empty at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = space.end() if space else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow():
                return ""

    def take(self, allowed: str) -> str:
        found = self.ahead()
        if not found or found not in allowed:
            raise ValueError(f"{' or '.join(allowed)} expected, not {shown(found) if found else 'the end of the file'}")
        self._at += 1
        return found

    def object(self) -> object:
        """The next value; what is not whole yet is tried again with twice as much text."""
        if self.ahead() != "{":
            raise ValueError(f"must be a JSON object, not {shown(self._text[self._at : self._at + _SHOWN_CHARS])}")
        while True:
            try:
                value, self._at = json.JSONDecoder().raw_decode(self._text, self._at)
            except RecursionError:
                raise ValueError("JSON that is nested too deeply") from None
            except ValueError as error:
                if len(self._text) - self._at > ENTRY_MAX_BYTES or not self._grow():
                    raise ValueError(f"not a JSON object of at most {ENTRY_MAX_BYTES >> 20} MiB: {error}") from None
            else:
                return cast("object", value)

    def _grow(self) -> bool:
        rest = self._text[self._at :]
        parts: list[str] = []
        while sum(map(len, parts)) < max(len(rest), 1) and (part := next(self._chunks, "")):
            parts.append(part)
        self._text, self._at = rest + "".join(parts), 0
        return bool(parts)


def _chunks(file: BinaryIO) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    total = 0
    while raw := file.read(READ_BYTES):
        total += len(raw)
        _check_size(total)
        try:
            text = decoder.decode(raw)
        except UnicodeDecodeError as error:
            raise ValueError(f"not text in UTF-8: {error.reason}") from None
        if text:
            yield text


def _decoded(raw: bytes, *, first: bool) -> str:
    if len(raw) > ENTRY_MAX_BYTES:
        raise ValueError(f"longer than {ENTRY_MAX_BYTES >> 20} MiB")
    try:
        text = raw.decode("utf-8-sig" if first else "utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not text in UTF-8: {error.reason}") from None
    if "\0" in text:
        raise ValueError("a NUL byte: not a text file")
    return text.rstrip("\r\n")


@contextlib.contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    found = path.stat()
    # Files are opened twice, once to see what they are: a pipe would have lost its beginning by then.
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{path}: not a regular file; save what it gives to one")
    with located(path, "the file"):
        _check_size(found.st_size)
    with path.open("rb") as raw:
        if not raw.peek(len(_GZIP)).startswith(_GZIP):
            yield raw
            return
        with gzip.GzipFile(fileobj=raw) as unzipped:
            try:
                yield cast("BinaryIO", unzipped)
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{path}: a damaged gzip file: {error}") from None


def _check_size(size_bytes: int) -> None:
    if size_bytes > FILE_MAX_BYTES:
        raise ValueError(f"more than {FILE_MAX_BYTES / 2**30:g} GiB: cut it, a trial needs only a part")
