"""Small warehouses of which every number is known, and the short way to ask them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleetbench.store.commit import Warehouse
from fleetbench.store.connection import connect
from tests.samples import Lab, Row, trial_row

Ask = Callable[[str], list[Row]]


def cell(recipe: str = "fp8", *speeds: float, **axes: Any) -> list[Row]:
    """The trials of a cell, one a speed: on one H100 by vLLM, counted by the server, one token an arrival."""
    on_gpu = {"hardware": "h100", "gpus": 1, "engine": "vllm", "engine_version": "0.20", "random_weights": False}
    counted = {"tokens_from": "usage", "itl_n": 300, "gap_n": 300, "itl_mean_ms": 10.0, "ttft_mean_ms": 50.0}
    axes = {**on_gpu, "weights": "fp8", **counted, **axes}
    names = ("hardware", "engine", "engine_version", "batch", "context_tok", "rate_per_s", "tp", "seed")
    cell_id = "-".join([recipe, *(str(axes.get(name)) for name in names)])
    return [
        trial_row(recipe, repeat, **{"cell_id": cell_id, "output_tok_s": speed, **axes})
        for repeat, speed in enumerate(speeds)
    ]


def built(folder: Path, runs: list[Row], trials: list[Row], **others: list[Row]) -> Path:
    """A warehouse of these rows; others by table."""
    lab = Lab(Warehouse(folder))
    lab.warehouse.create()
    for table, rows in {"runs": runs, "trials": trials, **others}.items():
        lab.rows(table, rows)
    return folder


def asking(root: Path, *, unproven: bool = True) -> Ask:
    """Ask a warehouse, unproven: also of recipes whose quality nobody judged."""
    connection = connect(root)
    connection.execute(f"SET VARIABLE unproven = {unproven}")
    return lambda sql: list(connection.sql(sql).to_arrow_table().to_pylist())
