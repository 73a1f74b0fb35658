"""The framing of one HTTP/1.1 response: its head, the body within the chunks, and the stamped pieces it comes in."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

HEAD_MAX_BYTES = 65_536
SIZE_MAX_BYTES = 2**40
"""No response of an engine is longer than this: a larger size is a mistake of the sender's."""
_SIZE_MAX_DIGITS = 16
_LINE_MAX_BYTES = 1_024
_NO_BODY = (204, 304)
_FIRST_FINAL = 200
_SWITCHING = 101


class FramingError(ValueError):
    """Bytes that are no HTTP/1.1 response."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """A response's first lines; `length` is None where the body is chunked or ends with the connection."""

    status: int
    length: int | None
    chunked: bool
    keep_alive: bool
    size_bytes: int
    """Of the head, its empty line and interim responses before it included."""


def head(data: bytes | bytearray) -> Head | None:
    """The head at the start of `data`, after interim (1xx) ones; None as long as it is not whole.

    Raises:
        FramingError: it is none.
    """
    start = 0
    while True:
        end = data.find(b"\r\n\r\n", start)
        if (len(data) if end < 0 else end) > HEAD_MAX_BYTES:
            raise FramingError(f"no end of the response's head within {HEAD_MAX_BYTES} bytes")
        if end < 0:
            rest = bytes(data[start : start + 80])
            if rest and not rest.startswith(b"HTTP/"[: len(rest)]):
                raise FramingError(f"not an HTTP response: {rest!r}")
            return None
        found = _head(bytes(data[start:end]), size_bytes=end + 4)
        if found.status == _SWITCHING:
            raise FramingError("an answer 101 that was not asked for: the engine left HTTP")
        if found.status >= _FIRST_FINAL:
            return found
        start = end + 4


def _head(lines: bytes, *, size_bytes: int) -> Head:
    status_line, *rest = lines.split(b"\r\n")
    version, _, reason = status_line.partition(b" ")
    code = reason[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not (len(code) == 3 and code.isdigit()):  # noqa: PLR2004 - a status has three digits
        raise FramingError(f"not an HTTP response: {status_line[:80]!r}")
    fields: dict[bytes, list[bytes]] = {}
    for line in rest:
        name, _, value = line.partition(b":")
        fields.setdefault(name.strip().lower(), []).append(value.strip())
    status, coding = int(code), b", ".join(fields.get(b"transfer-encoding", [])).lower()
    if coding not in (b"", b"chunked"):
        raise FramingError(f"a Transfer-Encoding of {coding[:40]!r}")
    persistent = b",".join(fields.get(b"connection", [b"keep-alive" if version == b"HTTP/1.1" else b"close"]))
    return Head(
        status=status,
        length=_length(status, fields.get(b"content-length", []), chunked=bool(coding)),
        chunked=bool(coding) and status not in _NO_BODY,
        keep_alive=b"close" not in persistent.lower(),
        size_bytes=size_bytes,
    )


def _length(status: int, values: Sequence[bytes], *, chunked: bool) -> int | None:
    if status in _NO_BODY:
        return 0
    if chunked and values:
        raise FramingError("a Content-Length and chunks at once: where the response ends cannot be told")
    if not values:
        return None
    if len(set(values)) > 1:
        raise FramingError(f"several Content-Lengths: {b', '.join(values)[:80]!r}")
    text = values[0]
    if not text.isdigit() or len(text) > _SIZE_MAX_DIGITS or int(text) > SIZE_MAX_BYTES:
        raise FramingError(f"a Content-Length of {text[:40]!r}")
    return int(text)


class Dechunker:
    """Takes the chunks off a body as its bytes come."""

    __slots__ = ("_left", "_line", "_state")

    def __init__(self) -> None:
        self._left = 0
        self._line = b""
        self._state = "size"

    @property
    def idle(self) -> bool:
        """Whether the next byte begins a chunk."""
        return self._state == "size" and not self._line

    @property
    def whole(self) -> bool:
        """Whether the body's last byte was seen."""
        return self._state == "end"

    def feed(self, data: bytes) -> bytes:
        """The part of the body that is in these bytes.

        Raises:
            FramingError: the sizes of the chunks make no sense, or bytes follow the end.
        """
        pieces: list[bytes] = []
        at, size = 0, len(data)
        while at < size:
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                if not self._left:
                    if data.startswith(b"\r\n", at):
                        at += 2
                    else:
                        self._state = "after"
                continue
            if self._state == "end":
                raise FramingError("bytes after the end of the response")
            end = data.find(b"\n", at, at + _LINE_MAX_BYTES)
            if end < 0:
                self._keep(data[at : at + _LINE_MAX_BYTES])
                break
            line = data[at:end].removesuffix(b"\r")
            if self._line:
                line = (self._line + data[at:end]).removesuffix(b"\r")
                self._line = b""
            self._end_of_line(line)
            at = end + 1
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _keep(self, part: bytes) -> None:
        self._line += part
        if len(self._line) >= _LINE_MAX_BYTES:
            raise FramingError(f"a chunk's line of more than {_LINE_MAX_BYTES} bytes")

    def _end_of_line(self, line: bytes) -> None:
        if self._state == "size":
            self._left = _chunk_size(line)
            if not self._left:
                self._state = "trailer"
        elif self._state == "after":
            if line:
                raise FramingError(f"a chunk is longer than it said: {line[:40]!r}")
            self._state = "size"
        elif not line:
            self._state = "end"


@lru_cache(maxsize=1024)
def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or digits.strip(b"0123456789abcdefABCDEF"):
        raise FramingError(f"a chunk's size of {line[:40]!r}")
    if len(digits) > _SIZE_MAX_DIGITS or int(digits, 16) > SIZE_MAX_BYTES:
        raise FramingError(f"a chunk's size of {line[:40]!r}: more than {SIZE_MAX_BYTES} bytes")
    return int(digits, 16)


class Pieces:
    """Stamped bytes, and how far they have been read."""

    __slots__ = ("_at", "_ends", "_index", "_pieces", "_stamps")

    def __init__(self, pieces: Sequence[bytes], stamps: Sequence[int]) -> None:
        self._pieces, self._stamps = pieces, stamps
        self._ends = list(accumulate(map(len, pieces)))
        self._index = self._at = 0

    @property
    def left_bytes(self) -> int:
        return self._ends[-1] - self._at if self._ends else 0

    def block(self, size_bytes: int) -> tuple[list[bytes], Sequence[int]]:
        """The next pieces, of `size_bytes` together at the most, or a part of the next one."""
        first = self._rest()
        stop = max(bisect_right(self._ends, self._at + size_bytes, lo=self._index), self._index + 1)
        pieces = [first[:size_bytes], *self._pieces[self._index + 1 : stop]]
        return pieces, self._stamps[self._index : stop]

    def step(self, size_bytes: int, end: bytes) -> tuple[list[bytes], Sequence[int]]:
        """Takes a block up to the last `end` in it; more than `size_bytes` where that has none."""
        first = self._rest()
        if len(first) > size_bytes:
            pieces, stamps = [first], self._stamps[self._index : self._index + 1]
        else:
            pieces, stamps = self.block(size_bytes)
        last = pieces[-1]
        if len(last) > size_bytes or not last.endswith(end):
            cut = last.rfind(end, 0, size_bytes)
            cut = last.find(end) if cut < 0 else cut
            pieces[-1] = last if cut < 0 else last[: cut + len(end)]
        self.skip(sum(map(len, pieces)))
        return pieces, stamps

    def skip(self, size_bytes: int) -> None:
        self._at += size_bytes
        self._index = bisect_right(self._ends, self._at, lo=self._index)

    def _rest(self) -> bytes:
        piece = self._pieces[self._index]
        done = len(piece) - (self._ends[self._index] - self._at)
        return piece[done:] if done else piece
