"""Where a node keeps what launches need again."""

from __future__ import annotations

from pathlib import Path

from fleetbench.artifact import cache as shelf
from fleetbench.engine import settings
from fleetbench.engine.settings import NodeSettings


def cache_folder(node: NodeSettings | None = None) -> Path:
    """Where this node keeps the checkpoints that it made.

    Raises:
        UnusableEnvironmentError: nobody said where, and the user has no home.
    """
    node = settings.read_settings() if node is None else node
    return node.cache or shelf.default_cache()
