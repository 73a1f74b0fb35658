"""Commands in shell text, as words: for the parsers of those commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import PurePath

_BETWEEN = re.compile(r"\$\(|&&|\|\||[;|()\n`]|(?<!\w)\bdo\b|\bthen\b")
_BEFORE = ("exec", "sudo", "env")


def commands(text: str, name: str, values: Mapping[str, str]) -> Iterator[list[str]]:
    """The words after each call of `name`, whatever its path; variables by `values`, `x` where they are not there."""
    for part in _BETWEEN.split(text.replace("\\\n", " ")):
        if name not in part:
            continue
        try:
            words = shlex.split(_filled(part, values), comments=True)
        except ValueError:  # a quotation that was cut: no command of ours has one across commands
            continue
        while words and (words[0] in _BEFORE or re.match(r"-u$|[A-Za-z_]\w*=", words[0])):
            words = words[2:] if words[0] == "-u" else words[1:]
        if words and PurePath(words[0]).name == name and len(words) > 1:
            yield [word for word in words[1:] if not re.fullmatch(r"\d*>.*|&", word)]


def _filled(text: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        return values.get(next(group for group in found.groups() if group is not None), "x")

    return re.sub(r"\$\{([^}]*)\}|\$(\w+|@)", value, text)
