"""Asks a running engine for one token, in the first way that it does not refuse."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from fleetbench.engine.client import SHOWN_BYTES, request
from fleetbench.engine.protocol import EngineUnreachableError

WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("/v1/completions", {"prompt": [1, 2, 3], "ignore_eos": True, "cache_prompt": False}),
    ("/v1/completions", {"prompt": [1, 2, 3]}),
    ("/v1/completions", {"prompt": "1 2 3"}),
    ("/v1/chat/completions", {"messages": [{"role": "user", "content": "1 2 3"}]}),
)
"""Some engines take no key that they do not know, some no token ids, and some know no completions."""
REFUSALS = frozenset({400, 404, 405, 415, 422, 501})


def why_none(base_url: str, model: str, *, left_s: Callable[[], float]) -> str | None:
    """None once the engine gave a token, else why it did not.

    Args:
        base_url: where it serves.
        model: its name in requests.
        left_s: seconds that an answer may take; raises where there are none, or nobody to answer.
    """
    why = ""
    for path, asked in WAYS:
        body = {"model": model, "max_tokens": 1, "temperature": 0, **asked}
        try:
            answer = request(base_url, path, timeout_s=left_s(), method="POST", body=body)
        except EngineUnreachableError as error:
            return str(error)
        if answer.status == HTTPStatus.OK:
            return _lack(answer.value)
        why = f"{path}: status {answer.status}: {answer.content[:SHOWN_BYTES]!r}"
        if answer.status not in REFUSALS:
            return why
    return why


def _lack(answer: Any) -> str | None:
    """Why an answer holds no token; None where it does."""
    try:
        if answer["usage"]["completion_tokens"] >= 1:
            return None
    except (KeyError, TypeError) as error:
        return f"it answered what is no completion ({error!r})"
    return "it answered without a token"
