"""Times `fleetbench plan` on matrices of growing size, and its peak memory: `make bench-plan`.

A plan of 100,000 cells is to take less than 5 s and 500 MB, and time and memory are to grow with the cells.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

SIZES = (1_000, 10_000, 100_000)
HARDWARE = ("a100-80g", "h100", "h200", "b200", "mi300x")
RECIPES = ("bf16", "fp8", "int8", "int4", "awq", "gptq", "nvfp4", "mxfp4", "fp8-kv8", "awq-kv8")
MODELS = ("llama-3.1-8b", "llama-3.1-70b", "qwen3-30b-a3b", "qwen3-235b-a22b")
OUTPUTS = 5
PER_CONTEXT = len(HARDWARE) * len(RECIPES) * len(MODELS) * OUTPUTS
"""Cells that one batch of one context adds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One `fleetbench plan`: its cells (refused ones included), wall seconds, and peak resident bytes."""

    cells: int
    seconds: float
    peak_bytes: int


def matrix(cells: int) -> str:
    """A matrix of that many cells: the axes of the fleet stay, the load grows."""
    loads = max(1, cells // PER_CONTEXT)
    batches = list(range(1, min(loads, 10) + 1))
    contexts = [256 * (number + 1) for number in range(-(-loads // len(batches)))]
    return (
        f"name: bench-{cells}\nanalysis: How long does planning take?\n"
        f"models: [{', '.join(MODELS)}]\nengines: vllm\nhardware: [{', '.join(HARDWARE)}]\n"
        f"reference: bf16\nrecipes: [{', '.join(RECIPES)}]\nallow: [emulated, experimental]\n"
        f"load: {{batch: {batches}, context: {contexts}, output: {list(range(1, OUTPUTS + 1))}}}\n"
    )


def measure(cells: int, folder: Path, form: str) -> Run:
    """Plan once in a process of its own."""
    file, out = folder / f"{cells}.yaml", folder / f"{cells}.out"
    file.write_text(matrix(cells), encoding="utf-8")
    argv = [
        sys.executable,
        "-m",
        "fleetbench",
        "plan",
        str(file),
        "--format",
        form,
        "--warehouse",
        str(folder / "none"),
    ]
    began = time.monotonic()
    with out.open("wb") as target:
        pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, target.fileno(), 1)])
        _, status, usage = os.wait4(pid, 0)
    seconds = time.monotonic() - began
    if os.waitstatus_to_exitcode(status) not in {0, 1}:
        raise SystemExit(f"plan of {cells} cells exited with {os.waitstatus_to_exitcode(status)}")
    text = out.read_text(encoding="utf-8")
    found = json.loads(text) if form == "json" else {"cells": [None] * cells, "refusals": []}
    return Run(cells=len(found["cells"]) + len(found["refusals"]), seconds=seconds, peak_bytes=usage.ru_maxrss * 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="of each size; the median is shown")
    parser.add_argument("--form", default="json", choices=("json", "table"))
    given = parser.parse_args()
    print("   cells   seconds  us a cell   peak MB")  # noqa: T201 - a program's output
    with tempfile.TemporaryDirectory(prefix="fleetbench-bench-") as folder:
        for size in SIZES:
            runs = [measure(size, Path(folder), given.form) for _ in range(given.runs)]
            seconds = statistics.median(run.seconds for run in runs)
            peak = max(run.peak_bytes for run in runs)
            cells = runs[0].cells
            print(f"{cells:8,}  {seconds:8.2f}  {seconds / cells * 1e6:9.1f}  {peak / 1e6:8.0f}")  # noqa: T201


if __name__ == "__main__":
    main()
