"""One speed trial: warm-up, measured requests, rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from fleetbench_collectors import clock
from fleetbench_collectors.load import latency
from fleetbench_collectors.load.client import ClosedLoop, Exchange
from fleetbench_collectors.load.parse import Reply, reply
from fleetbench_collectors.load.prompts import prompts
from fleetbench_collectors.load.spec import LoadSpec, Phase
from fleetbench_collectors.tables import REQUESTS

_RESPONSE_MIN_BYTES = 1 << 20
_TOKEN_MAX_BYTES = 4_096


def run(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the trial of a JSON specification.

    Returns:
        tables: `requests`, rows of `tables.REQUESTS` with times in ns since the clock pair.
        summary: columns of `trials`: the clock pair, and all of `latency.summarise`.
        window: [start, end] of the measured requests in ns of the monotonic clock itself, for what was
            sampled meanwhile; None where no request went well.

    Raises:
        SpecError: the specification is wrong.
    """
    spec = LoadSpec.from_json(raw)
    payloads = _payloads(spec)
    pair = clock.pair()
    loop = ClosedLoop(
        address=spec.address,
        batch=spec.batch,
        timeout_s=spec.request_timeout_s,
        response_max_bytes=max(_RESPONSE_MIN_BYTES, _TOKEN_MAX_BYTES * spec.output_tok),
    )
    with loop:
        warm = loop.run(payloads[: spec.warmup])
        measured = loop.run(payloads[spec.warmup :], first=spec.warmup)
    requests = table(spec, pair.mono_ns, warm, measured)
    bounds = latency.window(requests)
    return {
        "tables": {"requests": requests},
        "summary": {
            "clock_wall_ns": pair.wall_ns,
            "clock_mono_ns": pair.mono_ns,
            **latency.summarise(requests, asked_requests=spec.requests),
        },
        "window": None if bounds is None else [pair.mono_ns + bound for bound in bounds],
    }


def table(spec: LoadSpec, zero_ns: int, warm: Sequence[Exchange], measured: Sequence[Exchange]) -> pa.Table:
    """Rows of `tables.REQUESTS`, times in ns since `zero_ns` on the monotonic clock."""
    rows = [
        *(_row(spec, zero_ns, "warmup", exchange) for exchange in warm),
        *(_row(spec, zero_ns, "measure", exchange) for exchange in measured),
    ]
    return pa.Table.from_pylist(rows, schema=REQUESTS)


def _payloads(spec: LoadSpec) -> list[bytes]:
    """The requests as they go over the wire, serialised before the clock runs.

    Prompts differ in their first tokens, so those of the warm-up still do when they are cut.
    """
    ids = range(spec.token_ids.first, spec.token_ids.first + spec.token_ids.count)
    made = prompts(spec.warmup + spec.requests, spec.context_tok, ids, spec.seed, spec.nonce)
    warm_tok, _ = spec.lengths_tok("warmup")
    return [
        *(_payload(spec, "warmup", prompt[:warm_tok]) for prompt in made[: spec.warmup]),
        *(_payload(spec, "measure", prompt) for prompt in made[spec.warmup :]),
    ]


def _payload(spec: LoadSpec, phase: Phase, prompt: Sequence[int]) -> bytes:
    body = json.dumps(
        {
            "model": spec.model,
            "prompt": prompt,
            "max_tokens": spec.lengths_tok(phase)[1],
            "ignore_eos": True,
            "temperature": 0,
            "seed": spec.seed,
            "stream": True,
            "stream_options": {"include_usage": True},
            "cache_prompt": False,
        }
    ).encode()
    host, port = spec.address
    shown = f"[{host}]" if ":" in host else host
    head = (
        f"POST {spec.path}/v1/completions HTTP/1.1\r\nHost: {shown}:{port}\r\n"
        "Content-Type: application/json\r\nAccept: text/event-stream\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _row(spec: LoadSpec, zero_ns: int, phase: Phase, exchange: Exchange) -> dict[str, Any]:
    said = reply(exchange)
    stamps = said.token_ns
    context_tok, output_tok = spec.lengths_tok(phase)
    return {
        "run_id": spec.run_id,
        "trial_id": spec.trial_id,
        "attempt": spec.attempt,
        "request": exchange.request,
        "phase": phase,
        "intended_ns": exchange.start_ns - zero_ns,
        "start_ns": exchange.start_ns - zero_ns,
        "first_byte_ns": _since(zero_ns, said.first_byte_ns),
        "first_token_ns": stamps[0] - zero_ns if stamps else None,
        "last_token_ns": stamps[-1] - zero_ns if stamps else None,
        "end_ns": _since(zero_ns, said.end_ns),
        "asked_prompt_tok": context_tok,
        "asked_output_tok": output_tok,
        "gaps_us": said.gaps_us() if stamps else None,
        "itl_sketch": latency.itl_sketch(said.gaps_us(), said.output_tok, said.chunk_tok),
        "stamp": "user",
        **_said(said),
    }


def _said(said: Reply) -> dict[str, Any]:
    names = ("outcome", "error", "prompt_tok", "output_tok", "cached_tok", "chunks", "chunk_tok")
    values = asdict(said)
    return {name: values[name] for name in names}


def _since(zero_ns: int, stamp_ns: int | None) -> int | None:
    return None if stamp_ns is None else stamp_ns - zero_ns
