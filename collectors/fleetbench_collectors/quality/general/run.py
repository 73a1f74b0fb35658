"""Asks a chat model the suite `general` through any OpenAI-compatible endpoint."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa

from fleetbench_collectors import tables
from fleetbench_collectors.failure import WorkerFailure
from fleetbench_collectors.quality import score
from fleetbench_collectors.quality.client import Client, RequestRefusedError
from fleetbench_collectors.quality.general import suite
from fleetbench_collectors.quality.general.ask import PATH, Engine, answer
from fleetbench_collectors.quality.general.item import SUITE
from fleetbench_collectors.quality.spec import QualitySpec

_NO_POSITIONS = "the suite general has no forced positions"


def run(ask: QualitySpec) -> dict[str, Any]:
    """One trial: `{"tables": {name: table}, "summary": {...}}`.

    Raises:
        WorkerFailure: no chat endpoint, a context too small or unknown, an engine that is gone or answers nothing.
    """
    engine = _preflight(ask)
    try:
        items = suite.general(ask.items, ask.seed, engine.ctx_tok)
    except ValueError as error:
        raise WorkerFailure("bad_spec", f"the engine at {ask.base_url}: {error}") from error
    started = time.monotonic()
    first = sorted(items, key=lambda item: (-item.prompt_tok, item.cluster))
    with ThreadPoolExecutor(min(ask.parallel, engine.slots), thread_name_prefix="quality") as pool:
        futures = [pool.submit(answer, ask, engine, item) for item in first]
        try:
            rows = [future.result() for future in futures]
        except WorkerFailure:
            pool.shutdown(cancel_futures=True)
            raise
    if all(row["answer"] is None for row in rows):
        raise WorkerFailure("protocol", f"the engine answered no item; the first refusal: {rows[0]['refusal']}")
    order = {item.item_id: i for i, item in enumerate(items)}
    rows.sort(key=lambda row: order[row["item_id"]])
    categories = score.totals((row["category"], row["correct"]) for row in rows)
    return {
        "tables": {
            "quality_items": pa.Table.from_pylist(rows, schema=tables.QUALITY_ITEMS),
            "quality_positions": tables.QUALITY_POSITIONS.empty_table(),
        },
        "summary": {
            "suite": SUITE,
            **{key: sum(count[key] for count in categories.values()) for key in ("items", "answered", "correct")},
            "categories": categories,
            "degenerate": dict(Counter(row["degenerate"] for row in rows if row["degenerate"])),
            "positions": 0,
            "positions_refused": _NO_POSITIONS,
            "first_refusal": next((row["refusal"] for row in rows if row["refusal"]), None),
            "items_s": time.monotonic() - started,
            "positions_s": 0.0,
        },
    }


def _preflight(ask: QualitySpec) -> Engine:
    """The model's name, slots and context, and that there is a chat endpoint, before any item is asked."""
    with Client(ask.base_url, ask.request_timeout_s) as client:
        model, ctx_tok = _listed(client)
        slots = ask.parallel
        try:
            props = client.get("/props")
            slots, ctx_tok = int(props["total_slots"]), int(props["default_generation_settings"]["n_ctx"])
        except (RequestRefusedError, KeyError, TypeError, ValueError):
            pass  # llama-server's own; another engine says its context in /v1/models
        if ctx_tok is None:
            raise WorkerFailure(
                "bad_spec",
                f"neither /props nor /v1/models of {ask.base_url} says what context it holds; "
                "the suite general cannot choose its lengths",
            )
        probe = {"model": model, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 1}
        try:
            client.post(PATH, probe)
        except RequestRefusedError as error:
            raise WorkerFailure(
                "bad_spec", f"{ask.base_url} has no {PATH}, which the suite general is asked through: {error}"
            ) from error
        try:
            client.post(PATH, probe | {"logprobs": True})
        except RequestRefusedError:
            return Engine(model=model, slots=slots, ctx_tok=ctx_tok, logprobs=False)
    return Engine(model=model, slots=slots, ctx_tok=ctx_tok, logprobs=True)


def _listed(client: Client) -> tuple[str, int | None]:
    """Name and context of the one model that is served."""
    try:
        model = client.get("/v1/models")["data"][0]
        length = model.get("max_model_len")
        return str(model["id"]), None if length is None else int(length)
    except RequestRefusedError as error:
        raise WorkerFailure("bad_spec", f"the engine refused /v1/models: {error}") from error
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise WorkerFailure("protocol", f"/v1/models lists no model: {error!r}") from error
