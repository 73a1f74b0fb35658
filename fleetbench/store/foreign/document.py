"""Files as text, JSON, JSON lines, YAML and CSV, and values out of them: what is wrong is said with its place."""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from fleetbench.store.foreign.record import ForeignError

_GZIP = b"\x1f\x8b"
MOST_BYTES = 2**30
MOST_DEPTH = 100
"""Of YAML: its parser in C ends the process where Python's would raise."""
_INT32 = 2**31 - 1
_MOST = 1e300
_LONGEST_S = 1e9
"""More seconds than any stamp or span has (31 years): beyond it is another unit."""


def data(path: Path) -> bytes:
    """The bytes of a file, unpacked where they are gzip's.

    Raises:
        ForeignError: it is no file, cannot be read, is cut short or larger than MOST_BYTES.
    """
    try:
        if path.exists() and not path.is_file():
            raise ForeignError("", "it is no regular file")
        with path.open("rb") as file:
            packed = file.read(len(_GZIP)) == _GZIP
        with gzip.open(path) if packed else path.open("rb") as file:
            found = file.read(MOST_BYTES + 1)
    except EOFError as error:
        raise ForeignError("", "its gzip data is cut short: get it again") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise ForeignError("", f"its gzip data is damaged ({error}): get it again") from error
    except OSError as error:
        raise ForeignError("", f"it cannot be read: {error.strerror}") from error
    if len(found) > MOST_BYTES:
        raise ForeignError("", f"it has more than {MOST_BYTES / 2**30:g} GiB{' unpacked' * packed}: split it")
    return found


def text(path: Path) -> str:
    found = data(path)
    try:
        decoded = found.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ForeignError(f"byte {error.start}", "this is no UTF-8 text") from error
    if not decoded.strip():
        raise ForeignError("", "it is empty")
    return decoded


def parsed_json(found: str, where: str = "") -> Node:
    try:
        return Node(value=json.loads(found), where=where)
    except json.JSONDecodeError as error:
        raise _no_json(error, found, where) from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or an integer of thousands of digits
        raise ForeignError(where, f"this JSON cannot be read: {type(error).__name__}") from error


def json_file(path: Path) -> Node:
    return parsed_json(text(path))


def json_lines(path: Path) -> Iterator[Node]:
    """One value a line; empty lines are passed over."""
    for number, line in enumerate(text(path).split("\n"), start=1):
        if line.strip():
            yield parsed_json(line, f"line {number}")


def json_records(path: Path) -> Iterator[Node]:
    """The objects of a file that is one, a list of them, or several one after another, a line each or not."""
    found = text(path)
    try:
        whole = json.loads(found)
    except json.JSONDecodeError as error:
        if not error.msg.startswith("Extra data"):
            raise _no_json(error, found, "") from error
        yield from _one_after_another(found)
        return
    except (RecursionError, ValueError) as error:
        raise ForeignError("", f"this JSON cannot be read: {type(error).__name__}") from error
    if not isinstance(whole, list):
        yield Node(value=whole, where="")
        return
    for number, value in enumerate(whole, start=1):
        yield Node(value=value, where=f"record {number}")


def _one_after_another(found: str) -> Iterator[Node]:
    decoder, at, number = json.JSONDecoder(), 0, 0
    while rest := len(found[at:].lstrip()):
        at, number = len(found) - rest, number + 1
        try:
            value, at = decoder.raw_decode(found, at)
        except json.JSONDecodeError as error:
            raise _no_json(error, found, f"record {number}") from error
        except (RecursionError, ValueError) as error:
            raise ForeignError(f"record {number}", f"this JSON cannot be read: {type(error).__name__}") from error
        yield Node(value=value, where=f"record {number}")


def _no_json(error: json.JSONDecodeError, found: str, where: str) -> ForeignError:
    why = "the JSON is cut short" if error.pos >= len(found.rstrip()) else f"this is no JSON: {error.msg}"
    return ForeignError(where or f"line {error.lineno}", why)


class _Plain(yaml.CSafeLoader):
    """Times stay text, as they are in JSON."""


_Plain.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def yaml_file(path: Path) -> Node:
    found = list(yaml_documents(text(path)))
    if len(found) != 1:
        raise ForeignError("", f"it holds {len(found)} documents, where one should be")
    return found[0]


def _check_depth(found: str) -> None:
    depth = 0
    for event in yaml.parse(found, Loader=_Plain):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MOST_DEPTH:
            where = f"line {event.start_mark.line + 1}" if event.start_mark else ""
            raise ForeignError(where, f"it is nested more than {MOST_DEPTH} deep")


def yaml_documents(found: str) -> Iterator[Node]:
    """The documents of a text that holds one or several, apart by `---`."""
    try:
        _check_depth(found)
        values = list(yaml.load_all(found, Loader=_Plain))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or type(error).__name__
        raise ForeignError(f"line {mark.line + 1}" if mark else "", f"this is no YAML: {problem}") from error
    for number, value in enumerate(values, start=1):
        yield Node(value=value, where="" if len(values) == 1 else f"record {number}")


def csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Node]:
    """One mapping a row, column to text or None where it is empty; all of `columns` have to be there."""
    reader = csv.reader(io.StringIO(text(path), newline=""), strict=True)
    try:
        header = next(reader)
        if lacking := [name for name in columns if name not in header]:
            raise ForeignError("line 1", f"there is no column {', '.join(lacking)}")
        for row in reader:
            if not row:
                continue
            where = f"line {reader.line_num}"
            if len(row) != len(header):
                raise ForeignError(where, f"{len(row)} fields, where the header has {len(header)}")
            values = {name: part or None for name, part in zip(header, row, strict=True)}
            yield Node(value=values, where=where, plain=True)
    except csv.Error as error:
        raise ForeignError(f"line {reader.line_num}", f"this is no CSV: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value out of a document, and where it stands: `line 3: results[2].latency`.

    plain: numbers are text, as in CSV.
    """

    value: Any
    where: str
    plain: bool = False

    def fail(self, why: str) -> ForeignError:
        return ForeignError(self.where, why)

    def get(self, key: str) -> Node:
        """What stands under a key, or a Node of None; raises ForeignError where this is no mapping."""
        if not isinstance(self.value, dict):
            raise self.fail(f"this is {_kind(self.value)}, where an object with {key} should be")
        return Node(value=self.value.get(key), where=self._beneath(key), plain=self.plain)

    def within(self, *keys: str) -> Node:
        """What stands under keys within each other; a Node of None where one of them is not there."""
        found = self
        for key in keys:
            found = Node(value=None, where=found._beneath(key)) if found.value is None else found.get(key)
        return found

    def has(self, *keys: str) -> bool:
        return isinstance(self.value, dict) and all(self.value.get(key) is not None for key in keys)

    def items(self) -> list[Node]:
        """The elements of a list; of none where there is none."""
        if self.value is None:
            return []
        if not isinstance(self.value, list):
            raise self.fail(f"this is {_kind(self.value)}, where a list should be")
        return [Node(value=value, where=f"{self.where}[{n}]") for n, value in enumerate(self.value)]

    def mapping(self) -> Mapping[str, Any]:
        if not isinstance(self.value, dict):
            raise self.fail(f"this is {_kind(self.value)}, where an object should be")
        return self.value

    def required(self) -> Node:
        if self.value is None:
            raise self.fail("it is missing")
        return self

    def text(self) -> str | None:
        if self.value is None or self.value == "":
            return None
        if not isinstance(self.value, str):
            raise self.fail(f"this is {_kind(self.value)}, where text should be")
        try:
            self.value.encode()
        except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and no file can hold
            raise self.fail("this text is no Unicode") from None
        return self.value

    def number(self) -> float | None:
        """A finite number that is not negative."""
        found = self.value
        if self.plain and isinstance(found, str):
            try:
                found = float(found)
            except ValueError:
                raise self.fail(f"{self.value[:40]!r} is no number") from None
        if found is None:
            return None
        if isinstance(found, bool) or not isinstance(found, int | float):
            raise self.fail(f"this is {_kind(found)}, where a number should be")
        if not 0 <= found <= _MOST:
            raise self.fail(f"{str(found)[:40]} is no measurement")
        return float(found)

    def positive(self, factor: float = 1.0) -> float | None:
        """A number times `factor`; None for 0 too, where 0 says that there was nothing to measure."""
        found = self.number()
        return None if not found else found * factor

    def count(self, most: int = _INT32) -> int | None:
        """A whole number that is not negative, and not above `most`."""
        found = self.number()
        if found is None:
            return None
        if found != int(found):
            raise self.fail(f"{self.value!r} is no whole number")
        if found > most:
            raise self.fail(f"{self.value!r} is more than any count (at most {most})")
        return self.value if isinstance(self.value, int) else int(found)  # a float has no 19 digits, ns since 1970 do

    def seconds_ns(self) -> int | None:
        """Seconds as whole nanoseconds."""
        found = self.number()
        if found is None:
            return None
        if found > _LONGEST_S:
            raise self.fail(f"{found:g} s is longer than anything that is measured")
        return round(found * 1e9)

    def scalar(self) -> str | int | float | bool | None:
        """A value as it stands: text, a finite number, true or false."""
        if isinstance(self.value, str):
            return self.text()
        if isinstance(self.value, float) and not math.isfinite(self.value):
            raise self.fail(f"{self.value} is no number")
        if self.value is None or isinstance(self.value, bool | int | float):
            return self.value
        raise self.fail(f"this is {_kind(self.value)}, where one value should be")

    def flag(self) -> bool | None:
        if self.value is None or isinstance(self.value, bool):
            return self.value
        raise self.fail(f"this is {_kind(self.value)}, where true or false should be")

    def instant(self) -> datetime | None:
        """A time in ISO 8601 with a zone; None where it has none, for a local time says no instant."""
        said = self.text()
        if said is None:
            return None
        try:
            found = datetime.fromisoformat(said)
            return found.astimezone(UTC) if found.tzinfo else None
        except (ValueError, OverflowError) as error:
            raise self.fail(f"{said[:40]!r} is no time in ISO 8601") from error

    def unix(self) -> datetime | None:
        """Seconds since 1970 as a time."""
        found = self.number()
        try:
            return None if found is None else datetime.fromtimestamp(found, UTC)
        except (OverflowError, ValueError, OSError) as error:
            raise self.fail(f"{found:g} s after 1970 is no time that is measured in") from error

    def _beneath(self, key: str) -> str:
        if not self.where:
            return str(key)
        place = self.where.rpartition(": ")[2]
        nested = not place.startswith(("line ", "record ")) or "." in place
        return f"{self.where}.{key}" if nested else f"{self.where}: {key}"


def _kind(value: Any) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list():
            return "a list"
    return "an object"
