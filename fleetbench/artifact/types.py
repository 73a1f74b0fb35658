"""What an artifact is, what asks for one, and how making one fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleetbench.errors import FleetbenchError


class ArtifactError(FleetbenchError):
    """A checkpoint could not be made or kept: the sentence says of what, why, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactOrder:
    """A checkpoint that a launch needs; `artifact_id` is its identity and its folder in the cache.

    model_path is None for an embedded model; model_digest is the one that `source.inspect` gave.
    """

    artifact_id: str
    model: str
    model_path: Path | None
    model_digest: str
    weights: str
    method: str = "rtn"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A checkpoint on this machine's disk.

    bytes: size of the file at `path`; sha256: hex, of that file; build_s: seconds that making it took
    in this call (the base form it was made from included), None where it was already there.
    """

    artifact_id: str
    path: Path
    bytes: int
    sha256: str
    build_s: float | None
