"""A warehouse of many nights, by seed: 1,000 cells a night, each of two trials of 250 requests with ten gaps each.

What is written goes the way of real trials: the load generator's own records, summary and rows, and a commit each.
Latencies are log-normal about a base that the cell's axes give; no figure of it was measured on hardware.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from fleetbench.matrix.identity import digest
from fleetbench.origin import OWN
from fleetbench.store.commit import Warehouse
from fleetbench.store.schema import TRIALS
from fleetbench_collectors.load.latency import summarise
from fleetbench_collectors.load.record import OUTCOMES, PHASES, UNKNOWN, Records
from fleetbench_collectors.load.rows import table

HARDWARE = {"a100-80g": 1.0, "h100": 0.6, "h200": 0.5, "b200": 0.35, "mi300x": 0.55}
RECIPES = {"bf16": 1.0, "fp8": 0.65, "int8": 0.7, "int4": 0.5, "awq": 0.5, "gptq": 0.52, "mxfp4": 0.48, "nvfp4": 0.45}
BATCHES = (1, 4, 16, 64, 256)
CONTEXTS = (256, 1024, 4096, 16384, 65536)
REPEATS = 2
REQUESTS = 250
GAPS = 10
AT_ONCE = 200
FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)
Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    hardware: str
    recipe: str
    batch: int
    context_tok: int

    @property
    def cell_id(self) -> str:
        return digest([self.hardware, self.recipe, self.batch, self.context_tok])[:16]

    @property
    def itl_ms(self) -> float:
        grows = 1 + self.batch / 64 + self.context_tok / 32768
        return 12.0 * HARDWARE[self.hardware] * RECIPES[self.recipe] * grows


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A trial before it is committed."""

    row: Row
    measured: Mapping[str, pa.Table]


def cells(number: int | None = None) -> list[Cell]:
    """The night's cells, or the first so many of them."""
    axes = itertools.product(HARDWARE, RECIPES, BATCHES, CONTEXTS)
    return [Cell(hardware=h, recipe=r, batch=b, context_tok=c) for h, r, b, c in itertools.islice(axes, number)]


def run_id(night: int) -> str:
    return digest(["night", night])[:12]


def run_row(night: int, asked: int) -> Row:
    return {
        "run_id": run_id(night),
        "run": f"night-{night:03}",
        "matrix": "nightly",
        "analysis": "What changed since yesterday?",
        "matrix_json": '{"recipes": [' + ", ".join(f'{{"name": "{name}"}}' for name in RECIPES) + "]}",
        "reference": "bf16",
        "submitted_at": FIRST + timedelta(days=night),
        "fleetbench_version": "0.1.0",
        "origin": OWN,
        "cells": asked,
        "refusals": 0,
        "trials": asked * REPEATS,
    }


def trials(night: int, of: list[Cell]) -> Iterator[Made]:
    """The night's trials, the same ones each time."""
    for cell in of:
        for repeat in range(REPEATS):
            yield _trial(night, cell, repeat)


def commit_night(root: Warehouse, night: int, of: list[Cell]) -> int:
    """Land a whole night, many trials at once; returns their number."""
    root.commit("runs", [run_row(night, len(of))], run_id=run_id(night), name="run")
    waiting = trials(night, of)
    made = 0
    while some := list(itertools.islice(waiting, AT_ONCE)):
        requests = pa.concat_tables([trial.measured["requests"] for trial in some])
        root.commit_trials([trial.row for trial in some], {"requests": requests})
        made += len(some)
    return made


def _trial(night: int, cell: Cell, repeat: int) -> Made:
    identity = digest([run_id(night), cell.cell_id, repeat])[:16]
    draw = np.random.default_rng(int(identity, 16))
    key = {"run_id": run_id(night), "trial_id": identity, "attempt": 0}
    records = _records(draw, cell)
    summary = summarise(records, asked_requests=REQUESTS)
    energy_j = 0.4 * summary["window_s"] * cell.batch
    row = {
        **{name: value for name, value in summary.items() if name in TRIALS.names},
        **key,
        **_axes(cell),
        "cell_id": cell.cell_id,
        "launch_id": digest([run_id(night), cell.hardware, cell.recipe])[:16],
        "launch_attempt": 0,
        "repeat": repeat,
        "role": "measure",
        "kind": "speed",
        "batch": cell.batch,
        "context_tok": cell.context_tok,
        "output_tok": GAPS + 1,
        "seed": 0,
        "node": f"node-{cell.hardware}",
        "started_at": FIRST + timedelta(days=night, minutes=repeat),
        "wall_s": summary["window_s"] + 1.0,
        "outcome": "ok",
        "valid": True,
        "verdict": "valid",
        "power_status": "available",
        "energy_j": energy_j,
        "energy_j_per_tok": energy_j / (REQUESTS * (GAPS + 1)),
        "power_mean_w": energy_j / summary["window_s"],
        "idle_power_w": 60.0,
    }
    return Made(row=row, measured={"requests": table(records, key=key, zero_ns=0, stamp="kernel")})


def _axes(cell: Cell) -> Row:
    return {
        "model": "llama-3.1-8b",
        "model_digest": digest("llama-3.1-8b"),
        "random_weights": False,
        "recipe": cell.recipe,
        "reference": cell.recipe == "bf16",
        "weights": cell.recipe,
        "activations": "bf16",
        "kv_k": "bf16",
        "kv_v": "bf16",
        "scheme": "W16A16",
        "method": "none",
        "artifact_id": digest(cell.recipe)[:16],
        "engine": "vllm",
        "engine_version": "0.33.0",
        "hardware": cell.hardware,
        "gpus": 1,
        "tp": 1,
        "pp": 1,
        "dp": 1,
    }


def _records(draw: np.random.Generator, cell: Cell) -> Records:
    """A closed loop: `batch` requests in flight, each started when the one before it on its stream has ended."""
    gaps_us = np.rint(1e3 * cell.itl_ms * draw.lognormal(0.0, 0.1, (REQUESTS, GAPS))).astype(np.int64)
    ttft_ns = np.rint(1e6 * cell.itl_ms * (1 + cell.context_tok / 512) * draw.lognormal(0.0, 0.2, REQUESTS))
    whole_ns = ttft_ns.astype(np.int64) + 1000 * gaps_us.sum(axis=1)
    start_ns = np.zeros(REQUESTS, dtype=np.int64)
    for stream in range(min(cell.batch, REQUESTS)):
        own = whole_ns[stream :: cell.batch]
        start_ns[stream :: cell.batch] = np.cumsum(own) - own
    first_ns, end_ns = start_ns + ttft_ns.astype(np.int64), start_ns + whole_ns
    values = {
        "number": np.arange(REQUESTS),
        "phase": PHASES.index("measure"),
        "outcome": OUTCOMES.index("ok"),
        "intended_ns": start_ns,
        "begun_ns": start_ns,
        "start_ns": start_ns,
        "first_byte_ns": first_ns,
        "first_token_ns": first_ns,
        "last_token_ns": end_ns,
        "end_ns": end_ns,
        "over_ns": end_ns,
        "asked_prompt_tok": cell.context_tok,
        "asked_output_tok": GAPS + 1,
        "prompt_tok": cell.context_tok,
        "output_tok": GAPS + 1,
        "cached_tok": 0,
        "chunks": GAPS + 1,
        "gaps_n": GAPS,
        "chunk_tok_n": UNKNOWN,
    }
    records = Records()
    for name, column in records.numbers.items():
        column.frombytes(np.broadcast_to(np.asarray(values[name], dtype=np.int64), (REQUESTS,)).tobytes())
    records.gaps_us.frombytes(gaps_us.astype(np.uint32).tobytes())
    return records
