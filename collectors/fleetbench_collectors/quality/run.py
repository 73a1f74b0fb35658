"""Asks a running llama-server the suite's items and takes its distributions at the forced positions."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any

import pyarrow as pa

from fleetbench_collectors import tables
from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.quality import positions, score, suite, tasks
from fleetbench_collectors.quality.client import Client, RequestRefusedError
from fleetbench_collectors.quality.general import item as general_item
from fleetbench_collectors.quality.general import run as general
from fleetbench_collectors.quality.spec import QualitySpec
from fleetbench_collectors.quality.suite import Item

Row = dict[str, Any]
Step = Callable[[Client, int], list[Row]]
"""Work that belongs on one slot, in order: gets a connection and the slot's number, gives rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Engine:
    slots: int
    ctx_tok: int


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """One quality trial: `{"tables": {name: table}, "summary": {...}}`, which the worker writes and answers.

    Raises:
        WorkerFailure: a wrong specification, an engine that is gone, silent or holds another model.
    """
    ask = QualitySpec.from_json(spec)
    if ask.suite == general_item.NAME:
        return general.run(ask)
    items = suite.embedded(ask.items, ask.seed)
    engine = _preflight(ask)
    lanes = min(ask.parallel, engine.slots)

    started = time.monotonic()
    answered = _drive(ask, lanes, _item_steps(ask, items))
    items_s = time.monotonic() - started
    _refuse_silence(answered)

    started = time.monotonic()
    forced, refused = _distributions(ask, lanes, items)
    positions_s = time.monotonic() - started

    order = {item.item_id: i for i, item in enumerate(items)}
    answered.sort(key=lambda row: order[row["item_id"]])
    forced.sort(key=lambda row: (order[row["item_id"]], row["position"]))
    categories = score.totals((row["category"], row["correct"]) for row in answered)
    made = {
        "quality_items": pa.Table.from_pylist(answered, schema=tables.QUALITY_ITEMS),
        "quality_positions": pa.Table.from_pylist(forced, schema=tables.QUALITY_POSITIONS),
    }
    summary = {
        "suite": suite.SUITE,
        **{key: sum(count[key] for count in categories.values()) for key in ("items", "answered", "correct")},
        "categories": categories,
        "positions": len(forced),
        "positions_refused": refused,
        "first_refusal": next((row["refusal"] for row in answered if row["refusal"]), None),
        "items_s": items_s,
        "positions_s": positions_s,
    }
    return {"tables": made, "summary": summary}


def _preflight(ask: QualitySpec) -> _Engine:
    """Slots, room and vocabulary of the engine, before any item is asked."""
    known = list(range(tasks.NEWLINE, tasks.VOCAB.index("~") + 1))
    with Client(ask.base_url, ask.request_timeout_s) as client:
        try:
            props = client.get("/props")
            said = client.post("/detokenize", {"tokens": known})
            engine = _Engine(
                slots=int(props["total_slots"]), ctx_tok=int(props["default_generation_settings"]["n_ctx"])
            )
            text = said["content"]
        except RequestRefusedError as error:
            raise WorkerFailure("protocol", f"the engine refused its own properties: {error}") from error
        except (KeyError, TypeError, ValueError) as error:
            raise WorkerFailure("protocol", f"/props or /detokenize lack a field: {error!r}") from error
    if text != tasks.decode(known):
        raise WorkerFailure("bad_model", "the engine's vocabulary is not the one of the embedded suite's model")
    if engine.ctx_tok < suite.CONTEXT_TOK:
        raise WorkerFailure(
            "bad_spec",
            f"a slot of the engine holds {engine.ctx_tok} tokens; the embedded suite needs {suite.CONTEXT_TOK}",
        )
    return engine


def _drive(ask: QualitySpec, lanes: int, steps: Iterable[Step]) -> list[Row]:
    """The rows of all steps, `lanes` at a time, each lane on a slot of its own; the first failure ends all."""
    waiting: SimpleQueue[Step] = SimpleQueue()
    for step in steps:
        waiting.put(step)
    failed = threading.Event()

    def lane(slot: int) -> list[Row]:
        rows: list[Row] = []
        try:
            with Client(ask.base_url, ask.request_timeout_s) as client:
                while not failed.is_set():
                    rows += waiting.get_nowait()(client, slot)
        except Empty:
            pass
        except (WorkerFailure, positions.PositionsRefusedError):
            failed.set()
            raise
        return rows

    with ThreadPoolExecutor(lanes, thread_name_prefix="quality") as pool:
        futures = [pool.submit(lane, slot) for slot in range(lanes)]
    return [row for future in futures for row in future.result()]


def _key(ask: QualitySpec) -> Row:
    return {"run_id": ask.run_id, "trial_id": ask.trial_id, "attempt": ask.attempt}


def _item_steps(ask: QualitySpec, items: Sequence[Item]) -> list[Step]:
    """One step a cluster, the longest prompts first so that no lane is left with them at the end."""
    clusters = [tuple(group) for _, group in groupby(items, key=lambda item: item.cluster)]
    clusters.sort(key=lambda cluster: -len(cluster[0].prompt_ids))

    def step_of(cluster: tuple[Item, ...]) -> Step:
        return lambda client, slot: [_answer(ask, client, slot, item, again=i > 0) for i, item in enumerate(cluster)]

    return [step_of(cluster) for cluster in clusters]


def _answer(ask: QualitySpec, client: Client, slot: int, item: Item, *, again: bool) -> Row:
    """One item's row; `again` says that the slot holds this item's haystack."""
    answer: str | None = None
    refusal: str | None = None
    try:
        reply = client.post(
            "/completion",
            {
                "prompt": item.prompt_ids,
                "n_predict": len(item.answer_ids),
                "temperature": 0,
                "cache_prompt": again,
                "id_slot": slot,
                "return_tokens": True,
                "response_fields": ["tokens"],
            },
        )
        answer = tasks.decode([int(token) for token in reply["tokens"]])
    except RequestRefusedError as error:
        refusal = str(error)
    except (KeyError, TypeError, ValueError) as error:
        refusal = f"no tokens in the reply: {error!r}"
    return {
        **_key(ask),
        "item_id": item.item_id,
        "suite": suite.SUITE,
        "category": item.category,
        "stratum": item.stratum,
        "cluster": item.cluster,
        "context_tok": len(item.prompt_ids),
        "correct": None if answer is None else score.is_correct(item, answer),
        "expected": item.answer,
        "answer": answer,
        "refusal": refusal,
    }


def _refuse_silence(rows: Sequence[Row]) -> None:
    if all(row["answer"] is None for row in rows):
        raise WorkerFailure("protocol", f"the engine answered no item; the first refusal: {rows[0]['refusal']}")


def _distributions(ask: QualitySpec, lanes: int, items: Sequence[Item]) -> tuple[list[Row], str | None]:
    """The rows of the forced positions, or none and the reason: a part of them would bias a mean."""
    steps = [_force(ask, item, chosen) for item, chosen in positions.choose(items, ask.positions, ask.seed)]
    try:
        return _drive(ask, lanes, steps), None
    except positions.PositionsRefusedError as error:
        return [], str(error)


def _force(ask: QualitySpec, item: Item, chosen: Sequence[int]) -> Step:
    def step(client: Client, slot: int) -> list[Row]:
        return [_position(ask, client, slot, item, position, again=i > 0) for i, position in enumerate(chosen)]

    return step


def _position(ask: QualitySpec, client: Client, slot: int, item: Item, position: int, *, again: bool) -> Row:
    try:
        reply = client.post(
            "/completion",
            {
                "prompt": item.prompt_ids + item.answer_ids[:position],
                "n_predict": 1,
                "n_probs": tasks.VOCAB_SIZE,
                "temperature": 0,
                "cache_prompt": again,
                "id_slot": slot,
                "response_fields": ["completion_probabilities"],
            },
        )
    except RequestRefusedError as error:
        raise positions.PositionsRefusedError(f"the engine refused a forced position: {error}") from error
    found = positions.parse(reply)
    return {
        **_key(ask),
        "item_id": item.item_id,
        "position": position,
        "token": item.answer_ids[position],
        "ids": found.ids,
        "logprobs": found.logprobs,
    }
