"""What a node tells of itself when it is looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleetbench.plan.nodes import Use


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A GPU as NVML or AMD SMI prints it; kind: its tag in the catalog, None where the catalog has no such device.

    used_bytes: of its memory, by whatever runs on it now; None where the driver does not say.
    """

    index: int
    name: str
    kind: str | None
    uuid: str | None
    memory_bytes: int | None
    used_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """A node as it is, in contrast to how it is tagged.

    version: of fleetbench there; engines: versions of those that can be started; unusable: why the others of its
    settings cannot; wall_s: its clock when it was asked, in seconds since 1970 (UTC); problem: why its devices or its
    settings could not be read.
    """

    host: str
    version: str
    python: str
    devices: tuple[Device, ...]
    driver: str | None
    engines: Mapping[str, str]
    unusable: Mapping[str, str]
    use: Use
    pool: str
    cache: str
    cache_free_bytes: int | None
    wall_s: float
    problem: str | None = None
