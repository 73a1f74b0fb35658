"""Judges an answer to a code item: right only where every hidden test gives the right value in the sandbox."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fleetbench_collectors.quality.code.ending import Ending
from fleetbench_collectors.quality.code.items import CodeItem
from fleetbench_collectors.quality.code.sandbox import Sandbox

_FENCED = re.compile(r"^```[ \t]*([A-Za-z0-9]*)[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_LANGUAGES = frozenset({"", "python", "python3", "py"})
_DETAIL_CHARS = 240


class Kind(StrEnum):
    """What became of an answer; `VIOLATION` tried what the sandbox forbids or wrote into its results."""

    PASSED = "passed"
    WRONG = "wrong"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    NO_CODE = "no_code"
    VIOLATION = "violation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The kind, and a sentence for a person, in ASCII."""

    kind: Kind
    detail: str = ""

    @property
    def correct(self) -> bool:
        return self.kind is Kind.PASSED


def score(item: CodeItem, answer: str, sandbox: Sandbox) -> Score:
    """Takes the code out of the answer and runs it; the right values stay here and are compared here.

    Raises:
        SandboxRefusedError: no sandbox can be had any more; says nothing about the answer.
    """
    code = take_code(item.entry, answer)
    if code is None:
        return Score(kind=Kind.NO_CODE, detail=f"no single block of code that defines {item.entry}")
    return judge(item, sandbox.run(code, item.entry, item.calls))


def take_code(entry: str, answer: str) -> str | None:
    """The one fenced block of the answer, or the whole answer where nothing is fenced; None unless it defines `entry`.

    Several blocks are no answer: which one was meant is not guessed. Only looked at as text: nothing is parsed here.
    """
    if "```" in answer:
        blocks = _FENCED.findall(answer.replace("\r\n", "\n"))
        if len(blocks) != 1 or answer.count("```") != 2 or blocks[0][0].lower() not in _LANGUAGES:  # noqa: PLR2004  a pair
            return None
        code = str(blocks[0][1])
    else:
        code = answer
    return code if re.search(rf"^(def {entry}[ \t]*\(|{entry}[ \t]*=[^=])", code, re.MULTILINE) else None


def judge(item: CodeItem, ending: Ending) -> Score:
    """The score of a run; whatever the code did in there, only right values make it pass."""
    if ending.too_much or ending.signal == signal.SIGSYS:
        what = "wrote more results than any answer has" if ending.too_much else "made a forbidden system call"
        return Score(kind=Kind.VIOLATION, detail=f"the code {what}")
    if ending.too_long or ending.signal == signal.SIGXCPU:
        return Score(kind=Kind.TIMEOUT, detail="the code did not end in time")
    replies = _read(ending.replies)
    if replies is None or len(replies) > len(item.calls):
        return Score(kind=Kind.VIOLATION, detail="the code wrote among the results")
    for arguments, expected, (reply, line) in zip(item.calls, item.expected, replies, strict=False):
        call = f"{item.entry}({', '.join(map(repr, arguments))})"
        if (failure := _compare(call, expected, reply, line)) is not None:
            return failure
    if len(replies) < len(item.calls) or ending.exit_code != 0:
        how = f"signal {ending.signal}" if ending.signal else f"exit code {ending.exit_code}"
        return _fail(Kind.ERROR, f"the code ended by {how} after {len(replies)} of {len(item.calls)} tests")
    return Score(kind=Kind.PASSED)


def same(one: Any, other: Any) -> bool:
    """Equal in value and in type: neither True for 1 nor 1.0 for 1."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


def _read(replies: bytes) -> list[tuple[dict[str, Any], str]] | None:
    """Each line as an object and as it came; None where one of them is not what the runner writes."""
    try:
        found = [(json.loads(line), line.decode("ascii")) for line in replies.splitlines()]
    except (ValueError, RecursionError):
        return None
    return found if all(isinstance(reply, dict) for reply, _ in found) else None


def _compare(call: str, expected: Any, reply: dict[str, Any], line: str) -> Score | None:
    """None where the reply is the right value; else it is shown as it came: values may be nested beyond `repr`."""
    if "value" in reply:
        right = same(expected, reply["value"])
        return None if right else _fail(Kind.WRONG, f"{call} gave {line}, not {expected!r}")
    if "odd" in reply:
        return _fail(Kind.WRONG, f"{call} gave {line}, not {expected!r}")
    if "broken" in reply or "raised" in reply:
        kind = Kind.MEMORY if "MemoryError" in (reply.get("broken"), reply.get("raised")) else Kind.ERROR
        return _fail(kind, f"{call} ended in {line}" if "raised" in reply else f"the code ended in {line}")
    return _fail(Kind.VIOLATION, "the code wrote among the results")


def _fail(kind: Kind, detail: str) -> Score:
    text = detail.encode("ascii", "backslashreplace").decode()
    return Score(kind=kind, detail=text if len(text) <= _DETAIL_CHARS else text[: _DETAIL_CHARS - 3] + "...")
