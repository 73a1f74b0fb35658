"""How a node is tagged: Ray labels of our own, derived from what the node has. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fleetbench.fleet.nodes.facts import NodeFacts
from fleetbench.plan.nodes import Node

PREFIX = "fleetbench.io/"
GPU = f"{PREFIX}gpu"
"""The hardware kind of the catalog: what a launch is placed by."""
GPUS = f"{PREFIX}gpus"
MEMORY_GIB = f"{PREFIX}memory-gib"
DRIVER = f"{PREFIX}driver"
POOL = f"{PREFIX}pool"
USE = f"{PREFIX}use"
HOST = f"{PREFIX}host"
"""The node's name: its host's, with a number where a host has several."""
VERSION = f"{PREFIX}version"
"""Of fleetbench on the node."""

NODE = "fb_node"
"""The custom resource of every node: 1, so that a launch may ask for a share or for the whole of it."""
MAX_CHARACTERS = 63
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")
_ENDS = re.compile(r"^[^A-Za-z0-9]+|[^A-Za-z0-9]+$")


def label_value(text: str) -> str:
    """What Ray takes as a label's value: letters, digits and `-_.`, the ends a letter or digit; `-` for what is not."""
    cut = _ENDS.sub("", _UNFIT.sub("-", text))[:MAX_CHARACTERS]
    return _ENDS.sub("", cut)


def labels_of(facts: NodeFacts, *, tag: str | None, gpus: int, name: str) -> dict[str, str]:
    """The labels of a node.

    Args:
        facts: what it has.
        tag: its hardware kind, or None: a head that is not measured on.
        gpus: how many Ray may give away there.
        name: of the node, unlike that of any other.
    """
    labels = {HOST: name, VERSION: facts.version}
    if tag is not None:
        sizes = [device.memory_bytes for device in facts.devices if device.memory_bytes is not None]
        labels |= {GPU: tag, GPUS: str(gpus), POOL: facts.pool, USE: facts.use, DRIVER: facts.driver or ""}
        labels[MEMORY_GIB] = str(min(sizes) // 2**30) if sizes else ""
    return {key: value for key, text in labels.items() if (value := label_value(text))}


def node_of(ray_node: Mapping[str, Any]) -> Node | None:
    """The node in one entry of `ray.nodes()`; None where it is not tagged by us."""
    labels: Mapping[str, str] = ray_node.get("Labels") or {}
    if not (hardware := labels.get(GPU)):
        return None
    counted = labels.get(GPUS, "")
    gpus = int(counted) if counted.isdecimal() else int((ray_node.get("Resources") or {}).get("GPU", 0))
    return Node(
        node_id=ray_node["NodeID"],
        name=labels.get(HOST) or ray_node.get("NodeManagerHostname") or ray_node["NodeID"][:8],
        hardware=hardware,
        gpus=gpus,
        use="shared" if labels.get(USE) == "shared" else "whole",
        pool=labels.get(POOL) or "default",
    )
