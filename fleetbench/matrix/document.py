"""Safe YAML with line numbers: text in; plain values, lines and every mistake out. No tags, no bombs."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 20
MAX_NODES = 20_000
MAX_DIGITS = 18
SHOWN = 60

Loc = tuple[str | int, ...]

_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, bool | float | None] = {
    "": None,
    "~": None,
    "null": None,
    "true": True,
    "false": False,
    ".inf": float("inf"),
    "+.inf": float("inf"),
    "-.inf": float("-inf"),
    ".nan": float("nan"),
}
_STEP = re.compile(r"([^.\[\]]+)|\[([0-9]+)\]")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """A YAML value; size and height count what aliases repeat, so that a bomb is seen before it goes off."""

    line: int
    value: Any = None
    entries: dict[str, Node] | None = None
    key_lines: dict[str, int] = field(default_factory=dict)
    items: list[Node] | None = None
    size: int = 1
    height: int = 1
    open: bool = False

    def plain(self) -> Any:
        if self.entries is not None:
            return {key: node.plain() for key, node in self.entries.items()}
        if self.items is not None:
            return [node.plain() for node in self.items]
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
    """Where things stand in a file."""

    source: str
    root: Node | None

    def find(self, loc: Loc) -> tuple[Loc, int | None]:
        """The part of `loc` that the file has, and its line; a scalar or mapping stands for a list of one."""
        node, line = self.root, self.root.line if self.root else None
        present: list[str | int] = []
        for step in loc:
            child: Node | None = None
            if node is not None and node.items is not None and isinstance(step, int) and step < len(node.items):
                child = node.items[step]
                line = child.line
            elif node is not None and node.entries is not None and isinstance(step, str):
                child, line = node.entries.get(step), node.key_lines.get(step, line)
            elif step == 0:
                continue
            if child is None:
                break
            node = child
            present.append(step)
        return tuple(present), line

    def at(self, path: str) -> int | None:
        """The line of `load.context[1]`, or of the nearest thing around it; None where there is no file."""
        steps = _STEP.findall(path)
        return self.find(tuple(word or int(index) for word, index in steps))[1]

    def mistake(self, loc: Loc, sentence: str) -> str:
        """`FILE:LINE: path: sentence`."""
        present, line = self.find(loc)
        return mistake(self.source, line, present, sentence)


def mistake(source: str, line: int | None, loc: Loc, sentence: str) -> str:
    return f"{place(source, line)}: {dotted(loc)}: {sentence}" if loc else f"{place(source, line)}: {sentence}"


def place(source: str, line: int | None) -> str:
    return source if line is None else f"{source}:{line}"


def dotted(loc: Loc) -> str:
    path = ""
    for step in loc:
        if isinstance(step, int):
            path += f"[{step}]"
        else:
            path += ("." if path else "") + (step if _PLAIN_KEY.match(step) else show(step))
    return path


def printable(text: str) -> str:
    """The text with `?` for each character that a terminal would act on or cannot print."""
    return "".join(char if char.isprintable() else "?" for char in text)


def show(value: Any) -> str:
    """A value as one short line of printable text."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = json.dumps(value[:SHOWN] if isinstance(value, str) else value, default=str)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong in the YAML itself, before anything is known of a matrix."""

    line: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """root is None where the text could not be read to its end."""

    root: Node | None
    problems: tuple[Problem, ...]


class _StopError(Exception):
    def __init__(self, line: int, sentence: str) -> None:
        super().__init__(line, sentence)
        self.problem = Problem(line=line, sentence=sentence)


def parse(text: str) -> Document:
    builder = _Builder()
    try:
        # The events, not the composer: it recurses, and resolves aliases and tags before they can be refused.
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            builder.feed(event)
    except _StopError as stop:
        builder.problems.append(stop.problem)
        return Document(root=None, problems=tuple(builder.problems))
    except yaml.reader.ReaderError as error:
        at = error.position if isinstance(error.position, int) else 0
        sentence = f"holds the control character {error.character!r} (remove it)"
        builder.problems.append(Problem(line=text.count("\n", 0, at) + 1, sentence=sentence))
        return Document(root=None, problems=tuple(builder.problems))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else 1
        builder.problems.append(Problem(line=line, sentence=f"is not YAML: {_one_line(why)}"))
        return Document(root=None, problems=tuple(builder.problems))
    except (ValueError, OverflowError) as error:  # PyYAML on "\UFFFFFFFF" and on huge %YAML versions
        sentence = f"is not YAML: {_one_line(str(error))}"
        builder.problems.append(Problem(line=builder.line, sentence=sentence))
        return Document(root=None, problems=tuple(builder.problems))
    return Document(root=builder.root, problems=tuple(builder.problems))


def _one_line(text: str) -> str:
    return " ".join(text.encode("ascii", "backslashreplace").decode("ascii").split())


class _Builder:
    """Events in, one tree out; a stack instead of recursion."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self.line = 1
        self.documents = 0
        self.nodes = 0
        self.stack: list[Node] = []
        self.keys: list[tuple[str | None, int] | None] = []
        self.anchors: dict[str, Node] = {}

    def feed(self, event: yaml.Event) -> None:
        self.line = event.start_mark.line + 1 if event.start_mark else self.line
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    raise _StopError(self.line, "holds several documents (keep one; remove the second `---`)")
            case yaml.AliasEvent():
                self.place_alias(event.anchor or "")
            case yaml.ScalarEvent():
                self.open_node(event)
                self.close_node()
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self.open_node(event)
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self.close_node()
            case _:
                pass

    def open_node(self, event: yaml.NodeEvent) -> None:
        tag = getattr(event, "tag", None)
        if tag is not None:
            self.problem(f"the tag {show(tag)} is not allowed (write plain values)")
        node = Node(line=self.line)
        match event:
            case yaml.MappingStartEvent():
                node.entries, node.open = {}, True
            case yaml.SequenceStartEvent():
                node.items, node.open = [], True
            case yaml.ScalarEvent():
                node.value = self.scalar(event.value, plain=event.style is None)
                node.size += len(event.value) // 1000
        self.count(node.size, len(self.stack) + 1)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self.stack.append(node)
        self.keys.append(None)

    def close_node(self) -> None:
        node = self.stack.pop()
        self.keys.pop()
        node.open = False
        self.attach(node, self.line if node.items is not None or node.entries is not None else node.line)

    def place_alias(self, anchor: str) -> None:
        node = self.anchors.get(anchor)
        if node is None:
            raise _StopError(
                self.line, f"the alias *{show(anchor)} has no anchor (define it above, or write the value)"
            )
        if node.open:
            raise _StopError(self.line, f"the alias *{show(anchor)} stands inside its own anchor (write the value)")
        self.count(node.size, len(self.stack) + node.height)
        self.attach(node, self.line)

    def attach(self, node: Node, line: int) -> None:
        if not self.stack:
            self.root = node
            return
        parent = self.stack[-1]
        parent.size += node.size
        parent.height = max(parent.height, node.height + 1)
        if parent.items is not None:
            parent.items.append(node)
        elif parent.entries is not None and self.keys[-1] is None:
            self.keys[-1] = (self.key(node), line)
        elif parent.entries is not None and (pending := self.keys[-1]) is not None:
            self.keys[-1] = None
            self.put(parent.entries, parent.key_lines, pending, node)

    def put(self, entries: dict[str, Node], lines: dict[str, int], pending: tuple[str | None, int], node: Node) -> None:
        key, line = pending
        if key is None:
            return
        if key in entries:
            sentence = f"the key {show(key)} stands twice, first on line {lines[key]} (keep one)"
            self.problems.append(Problem(line=line, sentence=sentence))
            return
        entries[key], lines[key] = node, line

    def key(self, node: Node) -> str | None:
        if isinstance(node.value, str):
            return node.value
        self.problem("a key must be a word (quote it if it is one)")
        return None

    def scalar(self, text: str, *, plain: bool) -> Any:
        if any("\ud800" <= char <= "\udfff" for char in text):
            self.problem("holds half a surrogate pair (write the character itself)")
            return text.encode("ascii", "backslashreplace").decode("ascii")
        if not plain:
            return text
        if text.lower() in _WORDS:
            return _WORDS[text.lower()]
        if _INT.match(text):
            if len(text.lstrip("+-")) > MAX_DIGITS:
                self.problem(f"the number {show(text)} is too long (at most {MAX_DIGITS} digits)")
                return 1
            return int(text)
        return float(text) if _FLOAT.match(text) else text

    def count(self, nodes: int, depth: int) -> None:
        self.nodes += nodes
        if self.nodes > MAX_NODES:
            raise _StopError(self.line, f"holds more than {MAX_NODES} values, aliases expanded (make it smaller)")
        if depth > MAX_DEPTH:
            raise _StopError(self.line, f"is nested deeper than {MAX_DEPTH} levels (make it flatter)")

    def problem(self, sentence: str) -> None:
        self.problems.append(Problem(line=self.line, sentence=sentence))
