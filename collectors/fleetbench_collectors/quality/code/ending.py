"""How a run in the sandbox ended."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """`replies` as they came, not yet read; then how the process ended, or which bound it met first."""

    replies: bytes
    exit_code: int | None = None
    signal: int | None = None
    too_long: bool = False
    too_much: bool = False
