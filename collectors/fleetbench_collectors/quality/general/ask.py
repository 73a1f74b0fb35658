"""One item over /v1/chat/completions: the request, what its reply says, and the row that it becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.quality.client import Client, RequestRefusedError
from fleetbench_collectors.quality.general import degenerate, suite
from fleetbench_collectors.quality.general.item import SUITE, Item, Reply
from fleetbench_collectors.quality.spec import QualitySpec

PATH = "/v1/chat/completions"
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """Who answers; `logprobs`: whether it takes a request for them."""

    model: str
    slots: int
    ctx_tok: int
    logprobs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    reply: Reply
    prompt_tok: int
    logprobs: tuple[float | None, ...]


def body(item: Item, engine: Engine) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": engine.model,
        "messages": [{"role": "user", "content": item.prompt}],
        "temperature": 0,
        "max_tokens": item.max_tokens,
    }
    if item.tools:
        asked["tools"] = list(item.tools)
    if engine.logprobs and not item.tools:
        asked["logprobs"] = True
    return asked


def answer(ask: QualitySpec, engine: Engine, item: Item) -> Row:
    """The item's row: a request that fails or takes too long is an unanswered item with its reason.

    Raises:
        WorkerFailure: the engine is gone.
    """
    said: _Said | None = None
    refusal: str | None = None
    try:
        with Client(ask.base_url, ask.request_timeout_s) as client:
            said = _read(client.post(PATH, body(item, engine)))
    except RequestRefusedError as error:
        refusal = str(error)
    except WorkerFailure as error:
        if error.kind == "engine_gone":
            raise
        refusal = str(error)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        refusal = f"no message or usage in the reply: {error!r}"
    return {
        "run_id": ask.run_id,
        "trial_id": ask.trial_id,
        "attempt": ask.attempt,
        "item_id": item.item_id,
        "suite": SUITE,
        "category": item.category,
        "stratum": item.stratum,
        "cluster": item.cluster,
        "context_tok": item.prompt_tok if said is None else said.prompt_tok,
        "correct": None if said is None else suite.is_correct(item, said.reply),
        "expected": item.expected,
        "answer": None if said is None else _shown(said.reply),
        "degenerate": None if said is None else degenerate.why(said.reply, said.logprobs),
        "refusal": refusal,
    }


def _read(reply: Any) -> _Said:
    choice = reply["choices"][0]
    message = choice["message"]
    made = [call["function"] for call in message.get("tool_calls") or ()]
    content = (choice.get("logprobs") or {}).get("content") or ()
    return _Said(
        reply=Reply(
            text=_text(message.get("content")), calls=tuple((call["name"], str(call["arguments"])) for call in made)
        ),
        prompt_tok=int(reply["usage"]["prompt_tokens"]),
        logprobs=tuple(token["logprob"] for token in content),
    )


def _text(content: Any) -> str:
    if content is None:
        return ""
    if not isinstance(content, str):
        raise TypeError(f"content is a {type(content).__name__}")
    return content


def _shown(reply: Reply) -> str:
    """Text, then each call in a line of its own."""
    return "\n".join(filter(None, [reply.text, *(f"{name}({arguments})" for name, arguments in reply.calls)]))
