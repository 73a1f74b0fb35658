"""Rows as a run would commit them, for every test that needs a warehouse with something in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fleetbench.origin import OWN
from fleetbench.store.commit import Warehouse
from fleetbench_collectors.load import latency
from fleetbench_collectors.load.record import OUTCOMES, PHASES, UNKNOWN, Records

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
Row = dict[str, Any]


def recipe_axes(recipe: str, **changes: Any) -> Row:
    return {
        "model": "ladder-75m",
        "model_digest": "d" * 64,
        "random_weights": True,
        "recipe": recipe,
        "reference": recipe == "f16",
        "weights": recipe,
        "activations": "f16",
        "kv_k": "f16",
        "kv_v": "f16",
        "scheme": "W16A16",
        "method": "rtn",
        "artifact_id": f"artifact-{recipe}",
        "engine": "llamacpp",
        "engine_version": "2026.10",
        "hardware": "local",
        "gpus": 0,
        "tp": 1,
        "pp": 1,
        "dp": 1,
        **changes,
    }


def run_row(**changes: Any) -> Row:
    return {
        "run_id": "run1",
        "run": "default",
        "matrix": "quickstart",
        "analysis": "what is it like?",
        "matrix_json": "{}",
        "reference": "f16",
        "submitted_at": START,
        "fleetbench_version": "0.1.0",
        "origin": OWN,
        "cells": 2,
        "refusals": 0,
        "trials": 2,
        **changes,
    }


def trial_row(recipe: str = "f16", repeat: int = 0, **changes: Any) -> Row:
    """A valid speed trial at batch 1, context 64; its cell and trial ids follow from what is given."""
    row: Row = {
        "run_id": "run1",
        "attempt": 0,
        "launch_id": f"launch-{recipe}",
        "launch_attempt": 0,
        "repeat": repeat,
        "role": "measure",
        "kind": "speed",
        **recipe_axes(recipe),
        "batch": 1,
        "context_tok": 64,
        "output_tok": 4,
        "seed": 0,
        "node": "here",
        "started_at": START + timedelta(seconds=repeat),
        "wall_s": 1.0,
        "outcome": "ok",
        "valid": True,
        "power_status": "unavailable",
        **changes,
    }
    cell = f"{row['model']}-{recipe}-{row['kind']}-{row['batch']}-{row['context_tok']}"
    row.setdefault("cell_id", cell)
    row.setdefault("trial_id", f"{row['cell_id']}-{repeat}-{row['role']}")
    return row


def keyed(trial: Mapping[str, Any], rows: Sequence[Row]) -> list[Row]:
    key = {name: trial[name] for name in ("run_id", "trial_id", "attempt")}
    return [{**key, **row} for row in rows]


def request_row(request: int, gaps_us: Sequence[int], *, ttft_us: int = 1000, **changes: Any) -> Row:
    """A measured request of four asked tokens that started at 0."""
    last = ttft_us + sum(gaps_us)
    return {
        "request": request,
        "phase": "measure",
        "outcome": "ok",
        "start_ns": 0,
        "first_token_ns": ttft_us * 1000,
        "last_token_ns": last * 1000,
        "end_ns": last * 1000,
        "asked_prompt_tok": 64,
        "asked_output_tok": 4,
        "prompt_tok": 64,
        "output_tok": 4,
        "chunks": len(gaps_us) + 1,
        "gaps_us": list(gaps_us),
        "stamp": "user",
        **changes,
    }


def records_of(rows: Sequence[Row]) -> Records:
    """The collector's columns of request rows."""
    records = Records()
    for row in rows:
        positions = {
            "number": row["request"],
            "phase": PHASES.index(row["phase"]),
            "outcome": OUTCOMES.index(row["outcome"]),
            "gaps_n": len(row["gaps_us"]),
            "chunk_tok_n": None if row.get("chunk_tok") is None else len(row["chunk_tok"]),
        }
        for name, column in records.numbers.items():
            value = positions.get(name, row.get(name))
            column.append(UNKNOWN if value is None else value)
        records.gaps_us.extend(row["gaps_us"])
        records.chunk_tok.extend(row.get("chunk_tok") or ())
    return records


def figures(requests: Sequence[Row], **changes: Any) -> Row:
    """The columns that a trial of these requests has by the collector, and others in their place."""
    return {**latency.summarise(records_of(requests), asked_requests=len(requests)), **changes}


def item_row(item: int, *, correct: bool | None, **changes: Any) -> Row:
    return {
        "item_id": f"item-{item}",
        "suite": "embedded/1",
        "category": "facts",
        "cluster": f"item-{item}",
        "context_tok": 20,
        "correct": correct,
        "expected": "x",
        "answer": "x" if correct else "y",
        **changes,
    }


def position_row(item: int, logprobs: Sequence[float], **changes: Any) -> Row:
    return {
        "item_id": f"item-{item}",
        "position": 0,
        "token": 0,
        "ids": list(range(len(logprobs))),
        "logprobs": list(logprobs),
        **changes,
    }


def launch_row(recipe: str, attempt: int = 0, **changes: Any) -> Row:
    """A start of an engine that went well."""
    return {
        "run_id": "run1",
        "launch_id": f"launch-{recipe}",
        "attempt": attempt,
        "role": "measure",
        **recipe_axes(recipe),
        "outcome": "ok",
        "node": "here",
        "lease": "x@1.1",
        "started_at": START + timedelta(minutes=attempt),
        "wall_s": 1.0,
        **changes,
    }


def refusal_row(recipe: str, **changes: Any) -> Row:
    """A speed cell that planning refused, for it does not fit."""
    return {
        "run_id": "run1",
        "cell_id": f"refused-{recipe}",
        **recipe_axes(recipe),
        "kind": "speed",
        "batch": 1,
        "context_tok": 64,
        "output_tok": 4,
        "verdict": "does_not_fit",
        "rule": "fit",
        "sentence": "too big",
        "source": "a test",
        **changes,
    }


def artifact_row(recipe: str, node: str = "here", **changes: Any) -> Row:
    """A checkpoint that was made on a node."""
    axes = recipe_axes(recipe)
    names = ("artifact_id", "model", "model_digest", "weights", "activations", "scheme", "method")
    return {
        "run_id": "run1",
        **{name: axes[name] for name in names},
        "checkpoint": "gguf",
        "protect": [],
        "bytes": 1000,
        "build_s": 1.0,
        "node": node,
        "made_at": START,
        **changes,
    }


def verdict_row(recipe: str, category: str = "all", verdict: str = "PASS", **changes: Any) -> Row:
    """A verdict of the parity gate over 100 items, none of them lost."""
    figures = {"margin": 0.02, "n": 100, "lost": 0.0, "gained": 0.0, "drop": 0.0, "low": -0.01, "high": 0.01}
    return {
        "run_id": "run1",
        "cell_id": f"quality-{recipe}",
        "category": category,
        **recipe_axes(recipe),
        "suite": "embedded/1",
        "verdict": verdict,
        **({} if category == "all" else figures),
        "judged_at": START,
        "fleetbench_version": "0.1.0",
        **changes,
    }


@dataclass(slots=True)
class Lab:
    """A warehouse and the short way to put a run into it."""

    warehouse: Warehouse
    runs: int = field(default=0)

    def run(self, **changes: Any) -> None:
        self.runs += 1
        row = run_row(**changes)
        self.warehouse.commit("runs", [row], run_id=row["run_id"], name=f"submission-{self.runs}")

    def trial(self, trial: Row, **measured: Sequence[Row]) -> Row:
        """Commit a trial; `requests=[...]` and the like get its key."""
        tables = {table: keyed(trial, rows) for table, rows in measured.items()}
        assert self.warehouse.commit_trial(trial, tables)
        return trial

    def rows(self, table: str, rows: Sequence[Row]) -> None:
        """Commit rows of a table in one file a run, named by the first one's key: quicker than one by one."""
        for run_id in dict.fromkeys(row["run_id"] for row in rows):
            self.warehouse.commit(table, [row for row in rows if row["run_id"] == run_id], run_id=run_id, name=table)

    def speed(self, recipe: str, tok_s: float, repeat: int = 0, **changes: Any) -> Row:
        """A good speed trial with two requests, and the figures of both but the rate that is given."""
        requests = [request_row(n, [1000, 2000, 3000]) for n in range(2)]
        return self.trial(
            trial_row(recipe, repeat, **figures(requests, output_tok_s=tok_s, **changes)), requests=requests
        )
