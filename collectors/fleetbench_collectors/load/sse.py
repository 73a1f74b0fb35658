"""Server-sent events: one by one, or counted where all of them are alike but for a text."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

EVENT_MAX_BYTES = 1_048_576
DONE = b"[DONE]"
_TOO_LONG = f"an event of more than {EVENT_MAX_BYTES} bytes"
_STRING = re.compile(rb' ?"((?:[^"\\]|\\.)*)"')
_HOLE = re.compile(rb'("(?:id|created|avg_decoded_tokens_per_iter)": ?)("[^"\\]*"|[0-9.]+)')


class Splitter:
    """Finds the events of a stream as its bytes come (WHATWG HTML, section 9.2: event stream interpretation).

    An `error:` line, as llama.cpp has sent it, is an event of its own. `[DONE]` needs no empty line after it.
    """

    __slots__ = ("_carry", "held")

    def __init__(self) -> None:
        self._carry = bytearray()
        self.held = False
        """The last byte was a CR, which ends its line where no LF follows."""

    @property
    def idle(self) -> bool:
        """Whether the next byte begins a line of a new event."""
        return not self._carry and not self.held

    def feed(self, data: bytes) -> Iterable[bytes]:
        """The data of every event that these bytes complete; to be read to its end.

        Raises:
            ValueError: an event of more than EVENT_MAX_BYTES.
        """
        if not self._carry and not self.held and len(data) < EVENT_MAX_BYTES and _one_line(data):
            only = data[5:-2].removeprefix(b" ")
            return (only,) if only else ()
        if self.held or b"\r" in data:
            if self.held:
                data = b"\r" + data
            self.held = data.endswith(b"\r")
            data = (data[:-1] if self.held else data).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return self._lines(data)

    def settle(self) -> Iterator[bytes]:
        """The data of the events that a held CR completes, where something else than an LF follows."""
        held, self.held = self.held, False
        return self._lines(b"\n") if held else iter(())

    def rest(self) -> Iterator[bytes]:
        """At the end of the stream: what needs no empty line after it."""
        yield from self.settle()
        lines = bytes(self._carry)
        yield from _data(lines[: lines.rfind(b"\n") + 1], ended=False)

    def _lines(self, data: bytes) -> Iterator[bytes]:
        if self._carry:
            before = len(self._carry)
            self._carry += data
            end = self._carry.rfind(b"\n\n", before - 1)
            if end < 0:
                blocks = []
            else:
                blocks = bytes(self._carry[:end]).split(b"\n\n")
                del self._carry[: end + 2]
        else:
            blocks = data.split(b"\n\n")
            self._carry += blocks.pop()
        for block in blocks:
            if len(block) > EVENT_MAX_BYTES:
                raise ValueError(_TOO_LONG)
            if block.startswith(b"data: {") and b"\n" not in block:
                yield block[6:]
            elif block:
                yield from _data(block)
        # One byte more than the longest event may be the first of the two line ends after it.
        if len(self._carry) > EVENT_MAX_BYTES + 1:
            self._carry.clear()
            raise ValueError(_TOO_LONG)


def _data(lines: bytes, *, ended: bool = True) -> Iterator[bytes]:
    """The data of the lines of one event, which an empty line has ended or not; an event without data is none."""
    pending: list[bytes] = []
    for line in lines.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"data":
            pending.append(value.removeprefix(b" "))
        elif name == b"error":
            yield b'{"error":' + value + b"}"
    if (ended and any(pending)) or pending == [DONE]:
        yield b"\n".join(pending)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Events found by the count: [pieces] those with a text and those without one; where the last of them ends."""

    texts: list[int]
    blanks: list[int] | None
    size_bytes: int


class Template:
    """What all events of a stream have in common that differ in one text only.

    An event is `prefix`, the text, `suffix`: from the line's start to the text's opening quote, and from its closing
    quote to the empty line. A text in JSON holds neither a line end nor a bare quote, so bytes with as many prefixes
    as suffixes, and no line ends beyond theirs, are just such events: counting is enough. Where the value of `id` or
    `created` changes, or of another key that says nothing of tokens, the bytes around it are counted.
    """

    __slots__ = ("_around", "_prefix", "_suffix")

    def __init__(self, prefix: bytes, suffix: bytes) -> None:
        self._prefix, self._suffix = prefix, suffix
        self._around: tuple[list[bytes], list[bytes]] | None = None

    @classmethod
    def learn(cls, event: bytes, key: str) -> Template | None:
        """From the bytes of an event whose text is the value of `key`; None where that is not clear."""
        name = b'"%s":' % key.encode()
        after = event.find(name) + len(name)
        text = _STRING.match(event, after)
        if text is None or not text[1] or event.count(name) != 1 or not _one_line(event):
            return None
        return cls(event[: text.start(1)], event[text.end(1) :])

    def ends(self, piece: bytes) -> bool:
        """Whether an event that the template may tell has its end among the bytes."""
        return self._suffix in piece

    def count(self, pieces: Sequence[bytes], *, framed: bool) -> Counted | None:
        """The events from the start of the pieces to the last that is whole; None where there are others among them.

        Args:
            pieces: [p] consecutive bytes; the first of them begins an event, or the HTTP chunk of one.
            framed: every event has a chunk of its own, and the chunks' sizes and ends are still there.
        """
        whole = b"".join(pieces)
        region = _region(whole, self._suffix, framed=framed)
        n = _events(region, framed=framed)
        if not n or _starts(region, self._prefix, framed=framed) != n:
            return self._loosely(whole, pieces, framed=framed)
        texts = _by_piece(whole, region, self._suffix, pieces, n)
        blank = region.count(self._prefix + b'"')
        if texts is not None and not blank:
            return Counted(texts=texts, blanks=None, size_bytes=len(region))
        if region.count(self._suffix) != n:
            return self._loosely(whole, pieces, framed=framed)
        texts, blanks = [0] * len(pieces), [0] * len(pieces)
        for start, last in _ends(region, self._suffix, pieces):
            (blanks if region.endswith(self._prefix, 0, start) else texts)[last] += 1
        return Counted(texts=texts, blanks=blanks, size_bytes=len(region)) if sum(blanks) == blank else None

    def _loosely(self, whole: bytes, pieces: Sequence[bytes], *, framed: bool) -> Counted | None:
        """The same where values change that may; the number of keys shows that nothing else did."""
        if self._around is None:
            self._around = _around(self._prefix), _around(self._suffix)
        prefixes, suffixes = self._around
        if len(prefixes) + len(suffixes) == 2:  # noqa: PLR2004 - one each: no such value
            return None
        region = _region(whole, suffixes[-1], framed=framed)
        n = _events(region, framed=framed)
        if not n or _starts(region, prefixes[0], framed=framed) != n or region.count(prefixes[-1] + b'"'):
            return None
        if any(region.count(part) != n for part in (*prefixes[1:], *suffixes)):
            return None
        if region.count(b'":') - region.count(b'\\":') != n * (self._prefix + self._suffix).count(b'":'):
            return None
        texts = _by_piece(whole, region, suffixes[-1], pieces, n)
        if texts is None:
            texts = [0] * len(pieces)
            for _, last in _ends(region, suffixes[-1], pieces):
                texts[last] += 1
        line = region[region.rfind(prefixes[0]) : region.rfind(b"\n") + 1]
        line = line[: line.rfind(b"\n\n") + 2]
        self._prefix = line[: line.find(prefixes[-1]) + len(prefixes[-1])]
        self._suffix = line[line.rfind(suffixes[0]) :]
        return Counted(texts=texts, blanks=None, size_bytes=len(region))


def _one_line(event: bytes) -> bool:
    """Whether the bytes are one event whose only line is one of data."""
    return (
        event.startswith(b"data:")
        and event.find(b"\n") == len(event) - 2
        and event.endswith(b"\n\n")
        and b"\r" not in event
    )


def _region(whole: bytes, suffix: bytes, *, framed: bool) -> bytes:
    """From the start to the last end of an event, and of its chunk."""
    tail = suffix + b"\r\n" if framed else suffix
    end = whole.rfind(tail)
    return whole[: end + len(tail)] if end >= 0 else b""


def _events(region: bytes, *, framed: bool) -> int:
    """How many events there are if all are of one line, by the line ends; 0 where they do not come out even.

    Deleting finds the line ends by memchr, which is faster than counting them.
    """
    n, odd = divmod(len(region) - len(region.replace(b"\n", b"")), 4 if framed else 2)
    return 0 if odd else n


def _starts(region: bytes, prefix: bytes, *, framed: bool) -> int:
    """How many lines begin with the prefix: the first ones of a chunk, or all."""
    if framed:
        return region.count(b"\r\n" + prefix)
    return region.count(b"\n" + prefix) + region.startswith(prefix)


def _by_piece(whole: bytes, region: bytes, suffix: bytes, pieces: Sequence[bytes], n: int) -> list[int] | None:
    """How many events each piece completes, without the last pieces if they have none; None where it is not clear."""
    left, used = len(whole) - len(region), len(pieces)
    while left >= len(pieces[used - 1]):
        used -= 1
        left -= len(pieces[used])
    if used == n:
        tail = region[region.rfind(suffix) :]
        if False not in [piece.endswith(tail) for piece in pieces[:used]]:
            return [1] * n
    texts = [piece.count(suffix) for piece in pieces[:used]]
    if suffix in whole[len(region) :]:
        return None
    if sum(texts) < n:
        _add_spread(texts, region, suffix, pieces[:used])
    return texts if sum(texts) == n else None


def _add_spread(texts: list[int], region: bytes, suffix: bytes, pieces: Sequence[bytes]) -> None:
    """Adds the events whose end is spread over pieces to those that bring their last bytes."""
    ends = list(accumulate(map(len, pieces)))
    before, most = 0, len(suffix) - 1
    for end in ends[:-1]:
        at = region.find(suffix, max(before, end - most), end + most)
        if at >= 0:
            texts[bisect_right(ends, at + most)] += 1
        before = end


def _ends(region: bytes, suffix: bytes, pieces: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """(position of the suffix, piece that brings its last byte) of every event."""
    ends = list(accumulate(map(len, pieces)))
    at = region.find(suffix)
    while at >= 0:
        after = at + len(suffix)
        yield at, bisect_right(ends, after - 1)
        at = region.find(suffix, after)


def _around(part: bytes) -> list[bytes]:
    """The bytes between the values that may change."""
    bounds = [0, *(bound for hole in _HOLE.finditer(part) for bound in hole.span(2)), len(part)]
    return [part[left:right] for left, right in zip(bounds[::2], bounds[1::2], strict=True)]
