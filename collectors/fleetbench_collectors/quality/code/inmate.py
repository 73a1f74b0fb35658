"""Runs inside the sandbox, as the text of `python -c`: the answer's code, then each call, one line of JSON a call.

Nothing here needs to be trusted. The code under test shares this interpreter and may change whatever it likes; what
counts is whether the right values come out, and only the other side knows these.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

MAX_DEPTH = 20


class OddValueError(Exception):
    """A value that no item asks for."""


def plain(value: Any, depth: int = 0) -> Any:
    """The value, if it is of exactly the types that JSON keeps apart: a subclass could be equal to anything."""
    kind = type(value)
    if depth > MAX_DEPTH:
        raise OddValueError("nested deeper than any answer")
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is list:
        return [plain(part, depth + 1) for part in value]
    if kind is dict and all(type(key) is str for key in value):
        return {key: plain(part, depth + 1) for key, part in value.items()}
    raise OddValueError(kind.__name__)


def answer(function: Any, arguments: list[Any]) -> dict[str, Any]:
    try:
        return {"value": plain(function(*arguments))}
    except OddValueError as error:
        return {"odd": str(error)}
    except BaseException as error:  # noqa: BLE001  sys.exit() and KeyboardInterrupt are answers like any other
        return {"raised": type(error).__name__, "words": str(error)[:200]}


def main() -> None:
    request = json.loads(sys.stdin.buffer.read())
    replies = os.fdopen(int(sys.argv[1]), "w", encoding="ascii")

    def reply(message: dict[str, Any]) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    space: dict[str, Any] = {"__name__": "answer"}
    try:
        exec(compile(request["code"], "answer", "exec", dont_inherit=True), space)  # noqa: S102  what a sandbox is for
        function = space[request["entry"]]
    except BaseException as error:  # noqa: BLE001  as above
        reply({"broken": type(error).__name__, "words": str(error)[:200]})
        os._exit(0)
    for arguments in request["calls"]:
        reply(answer(function, arguments))
    os._exit(0)  # what the code left to be done at exit is not done


if __name__ == "__main__":
    main()
