"""What makes checkpoints for an engine."""

from __future__ import annotations

from fleetbench.artifact import source, toolenv
from fleetbench.artifact.kinds import GGUF_ENGINES


def toolchain(engine: str) -> str:
    """What makes checkpoints for an engine, with versions: part of their identity."""
    return source.toolchain() if engine in GGUF_ENGINES else toolenv.toolchain()
