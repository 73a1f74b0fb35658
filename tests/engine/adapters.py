"""Launch specifications for the tests of adapters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fleetbench.engine.protocol import Command, EngineAdapter, LaunchSpec
from fleetbench.matrix.types import KvFormat, Recipe

KV16 = KvFormat(k="bf16", v="bf16")
BF16 = Recipe(name="bf16", weights="bf16", activations="bf16", kv=KV16)
FP8 = Recipe(name="fp8", weights="fp8", activations="fp8", scales="dynamic", kv=KV16)
FOLDER = Path("/launch")
SPEC = LaunchSpec(
    model_path=Path("/models/tiny"),
    model_name="tiny",
    checkpoint="source",
    recipe=BF16,
    hardware="h100",
    slots=4,
    context_tok=512,
    threads=3,
    seed=7,
    log=Path("/logs/engine.log"),
    timeout_s=60,
)


def spec(**changes: Any) -> LaunchSpec:
    return replace(SPEC, **changes)


def command(adapter: EngineAdapter, version: str, **changes: Any) -> Command:
    return adapter.command(spec(**changes), version, FOLDER, 8123)


def value(argv: tuple[str, ...], flag: str) -> str | None:
    """What follows a flag; None where it is not given."""
    return (*argv, "")[argv.index(flag) + 1] if flag in argv else None
