"""vLLM through `fleetbench submit`, as a user runs it: node settings that name a venv, a matrix, and its rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.engines, pytest.mark.ray]

MATRIX = """
name: vllm-on-a-cpu
analysis: Is what a matrix asks of vLLM what runs?
models: [{{name: tiny-bf16, path: {folder}, measure: [speed]}}]
engines: vllm
hardware: local
reference: bf16
recipes: [bf16, {{name: kv8, weights: bf16, kv: fp8}}]
load: {{batch: [1, 2], context: 16, output: 8, requests: 2, warmup: 1}}
repeats: 1
limits: {{launch: 300s, trial: 120s}}
"""
NODE = """
engines:
  vllm:
    venv: {venv}
    env: {{VLLM_CPU_KVCACHE_SPACE: "1"}}
    args: {args}
"""


class Shell:
    """Runs `fleetbench` with a warehouse, a cache and node settings of its own."""

    def __init__(self, folder: Path, venv: Path, model: Path, args: list[str]) -> None:
        self.folder = folder
        self.matrix = folder / "matrix.yaml"
        self.matrix.write_text(MATRIX.format(folder=model))
        node = folder / "node.yaml"
        node.write_text(NODE.format(venv=venv, args=json.dumps(args)))
        self.environment = {
            **os.environ,
            "FLEETBENCH_NODE": str(node),
            "FLEETBENCH_CACHE": str(folder / "cache"),
            "FLEETBENCH_WAREHOUSE": str(folder / "warehouse"),
        }

    def run(self, *arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "fleetbench", *arguments],
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    def rows(self, sql: str) -> list[dict[str, Any]]:
        code, out, err = self.run("sql", sql, "--format", "json")
        assert code == 0, err
        rows: list[dict[str, Any]] = json.loads(out)
        return rows


def told(value: Any) -> dict[str, Any]:
    """A JSON column, as text or already read."""
    found: dict[str, Any] = json.loads(value) if isinstance(value, str) else value
    return found


def test_what_a_matrix_asks_of_vllm_is_what_runs(tmp_path: Path, vllm_venv: Path, tiny_folder: Path) -> None:
    shell = Shell(tmp_path, vllm_venv, tiny_folder, ["--enforce-eager"])
    code, _, err = shell.run("submit", str(shell.matrix))
    assert code == 0, err
    outcomes = shell.rows("SELECT outcome, reason FROM trials")
    assert outcomes
    assert {row["outcome"] for row in outcomes} == {"ok"}
    launches = shell.rows("SELECT * FROM launches")
    assert {told(row["effective"])["kv_k"] for row in launches} == {"bf16", "fp8"}
    for row in launches:
        assert row["differences"] == []
        asked, runs = told(row["requested"]), told(row["effective"])
        assert {name: runs[name] for name in asked if name not in ("slots", "context_tok")} == {
            name: value for name, value in asked.items() if name not in ("slots", "context_tok")
        }
        assert runs["slots"] >= asked["slots"]
        assert runs["prefix_caching"] is False
        assert runs["version"].startswith("0.")
        assert row["cold_compile_s"] > 0
        assert row["cold_first_s"] > 0


def test_a_quantization_that_touches_no_layer_makes_trials_not_applied(
    tmp_path: Path, vllm_venv: Path, tiny_folder: Path
) -> None:
    silent = ["--enforce-eager", "--quantization", "int8_per_channel_weight_only"]
    shell = Shell(tmp_path, vllm_venv, tiny_folder, silent)
    shell.run("submit", str(shell.matrix))
    outcomes = shell.rows("SELECT outcome, reason FROM trials")
    assert outcomes
    assert {row["outcome"] for row in outcomes} == {"not_applied"}
    assert all("quantized: asked for True, the engine runs False" in row["reason"] for row in outcomes)
