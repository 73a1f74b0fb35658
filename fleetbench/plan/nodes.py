"""Nodes of a fleet as a run sees them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Use = Literal["shared", "whole"]
"""Whether launches may measure side by side on a node, or each keeps its neighbours away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node that may be measured on.

    node_id: Ray's; name: the host's; hardware: its tag; gpus: how many it has (0: its CPU is measured);
    use: shared or whole; engines: their versions by name, None where nobody looked.
    """

    node_id: str
    name: str
    hardware: str
    gpus: int
    use: Use = "whole"
    pool: str = "default"
    engines: Mapping[str, str] | None = field(default=None, hash=False)
