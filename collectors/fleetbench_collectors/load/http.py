"""The framing of one HTTP/1.1 response: its head, where its body lies among the bytes, and when it is whole."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_MAX_BYTES = 65_536
_CHUNK_LINE_MAX_BYTES = 1_024


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
    """Of the head, its empty line included."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A run of body bytes: `size` of them at `raw` among the response's bytes, `body` among the body's."""

    raw: int
    body: int
    size: int


def head(data: bytes | bytearray) -> Head | None:
    """The head at the start of `data`; None as long as it is not whole.

    Raises:
        FramingError: it is none.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        if len(data) > HEAD_MAX_BYTES:
            raise FramingError(f"no end of the response's head within {HEAD_MAX_BYTES} bytes")
        if data and not data.startswith(b"HTTP/"[: len(data)]):
            raise FramingError(f"not an HTTP response: {bytes(data[:80])!r}")
        return None
    status_line, *lines = bytes(data[:end]).split(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    code = rest[:3]
    if version not in (b"HTTP/1.1", b"HTTP/1.0") or not (len(code) == 3 and code.isdigit()):  # noqa: PLR2004 - a status has three digits
        raise FramingError(f"not an HTTP response: {status_line[:80]!r}")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    chunked = fields.get(b"transfer-encoding", b"").lower().endswith(b"chunked")
    status = int(code)
    persistent = fields.get(b"connection", b"keep-alive" if version == b"HTTP/1.1" else b"close")
    return Head(
        status=status,
        length=_length(status, fields.get(b"content-length"), chunked=chunked),
        chunked=chunked and not _bodiless(status),
        keep_alive=b"close" not in persistent.lower(),
        size_bytes=end + 4,
    )


def _bodiless(status: int) -> bool:
    return status < 200 or status in (204, 304)  # noqa: PLR2004 - what RFC 9112, section 6.3 says


def _length(status: int, text: bytes | None, *, chunked: bool) -> int | None:
    if _bodiless(status):
        return 0
    if chunked or text is None:
        return None
    if not text.isdigit():
        raise FramingError(f"a Content-Length of {text[:40]!r}")
    return int(text)


class Chunks:
    """Walks a chunked body as its bytes come; `pieces` are the runs of data found so far."""

    __slots__ = ("_at", "_left", "_line", "_state", "body", "pieces")

    def __init__(self, start: int) -> None:
        self.pieces: list[Piece] = []
        self.body = 0
        self._at = start
        self._left = 0
        self._line = bytearray()
        self._state = "size"

    def feed(self, data: bytes | memoryview) -> bool:
        """Whether the body is whole after these bytes.

        Raises:
            FramingError: the sizes of the chunks make no sense, or bytes follow the end.
        """
        view, used = memoryview(data), 0
        while used < len(view):
            if self._state == "end":
                raise FramingError("bytes after the end of the response")
            step = self._data(len(view) - used) if self._state == "data" else self._text(view[used:])
            used += step
        return self._state == "end"

    def _data(self, available: int) -> int:
        size = min(self._left, available)
        self.pieces.append(Piece(raw=self._at, body=self.body, size=size))
        self.body += size
        self._at += size
        self._left -= size
        if not self._left:
            self._state = "after"
        return size

    def _text(self, view: memoryview) -> int:
        """Takes a line, or what there is of it: a chunk's size, the line end after a chunk, a trailer."""
        excerpt = bytes(view[:_CHUNK_LINE_MAX_BYTES])
        end = excerpt.find(b"\n")
        taken = len(excerpt) if end < 0 else end + 1
        self._line += excerpt[:taken]
        self._at += taken
        if end >= 0:
            self._end_of_line(bytes(self._line).rstrip(b"\r\n"))
            self._line.clear()
        elif len(self._line) >= _CHUNK_LINE_MAX_BYTES:
            raise FramingError(f"a chunk's line of more than {_CHUNK_LINE_MAX_BYTES} bytes")
        return taken

    def _end_of_line(self, line: bytes) -> None:
        if self._state == "after":
            if line:
                raise FramingError(f"a chunk is longer than it said: {line[:40]!r}")
            self._state = "size"
        elif self._state == "size":
            digits = line.partition(b";")[0].strip()
            if not digits or digits.strip(b"0123456789abcdefABCDEF"):
                raise FramingError(f"a chunk's size of {line[:40]!r}")
            self._left = int(digits, 16)
            self._state = "data" if self._left else "trailer"
        elif not line:
            self._state = "end"


class ResponseEnd:
    """Tells when a response is whole, at the price of a comparison a read.

    A chunked body can only end where the bytes seen end in CRLF CRLF, so its chunks are walked no sooner.
    """

    __slots__ = ("_chunks", "_pending", "_size", "_tail", "head")

    def __init__(self) -> None:
        self.head: Head | None = None
        self._pending: list[bytes] = []
        self._size = 0
        self._tail = b""
        self._chunks: Chunks | None = None

    def feed(self, data: bytes) -> bool:
        """Whether the response is whole after these bytes.

        Raises:
            FramingError: they are no HTTP/1.1 response.
        """
        self._size += len(data)
        if self.head is None:
            self._pending.append(data)
            return self._start()
        if self.head.chunked:
            self._pending.append(data)
            return self._chunked_end(data)
        return self._length_end()

    def _start(self) -> bool:
        seen = b"".join(self._pending)
        self.head = head(seen)
        if self.head is None:
            self._pending = [seen]
            return False
        rest = seen[self.head.size_bytes :]
        if self.head.status < 200:  # noqa: PLR2004 - an interim response; the real one follows
            raise FramingError(f"an interim response {self.head.status} that was not asked for")
        self._pending = [rest]
        if not self.head.chunked:
            return self._length_end()
        self._chunks = Chunks(self.head.size_bytes)
        return self._chunked_end(rest)

    def _chunked_end(self, data: bytes) -> bool:
        self._tail = (self._tail + data[-4:])[-4:]
        if self._tail != b"\r\n\r\n" or self._chunks is None:
            return False
        pending, self._pending = self._pending, []
        whole = False
        for piece in pending:
            whole = self._chunks.feed(piece)
        return whole

    def _length_end(self) -> bool:
        if self.head is None or self.head.length is None:
            return False
        missing = self.head.size_bytes + self.head.length - self._size
        if missing < 0:
            raise FramingError("bytes after the end of the response")
        return not missing
