"""What an artifact is, what asks for one, and how making one fails."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleetbench.errors import FleetbenchError


class ArtifactError(FleetbenchError):
    """A checkpoint could not be made or kept: the sentence says of what, why, and what to do."""


class PassingError(ArtifactError):
    """The same may go well in a while: what was asked for did not come, and nobody refused it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactOrder:
    """A checkpoint that a launch needs; `artifact_id` is its identity and its folder in the cache.

    model_path: None for an embedded model; model_digest: the one that `source.inspect` gave.
    calibration: a text, or an importance matrix that somebody made; calibration_sha256: hex, of that file when it
    was planned; calibration_samples, calibration_sequence_tok: sequences of the text that are looked at, and
    tokens of each; None for the tool's own.
    protect: layers that stay in 16 bits: `embeddings`, `lm_head`, `first N`, `last N`.
    """

    artifact_id: str
    model: str
    model_path: Path | None
    model_digest: str
    weights: str
    method: str = "rtn"
    calibration: Path | None = None
    calibration_sha256: str | None = None
    calibration_samples: int | None = None
    calibration_sequence_tok: int | None = None
    protect: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A checkpoint on this machine's disk, and what making it cost.

    bytes: size of the file at `path`; sha256: hex, of that file; tool: what made it, with versions.
    build_s: seconds that making it took in this call (the base form it was made from included), None where it
    was already there.
    peak_rss_bytes: the most resident memory of a process that made it, whenever that was (see `maker`); None
    where the system did not say, or where nothing but a link had to be made.
    """

    artifact_id: str
    path: Path
    bytes: int
    sha256: str
    build_s: float | None
    peak_rss_bytes: int | None = None
    tool: str | None = None
