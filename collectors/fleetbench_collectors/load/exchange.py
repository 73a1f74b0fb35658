"""A request before it is sent, and how its response ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Ending(StrEnum):
    """How the bytes of a response came to an end."""

    COMPLETE = "complete"
    CLOSED = "closed"
    TIMEOUT = "timeout"
    TRANSPORT = "transport"
    FRAMING = "framing"
    TOO_LARGE = "too_large"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request, serialised.

    number: in the trial's order, unique over all processes; payload: head and body as they go over the wire;
    prompt_tok, output_tok: lengths asked for; at_ns: when it is to start, ns since the start of its phase, or
    None in a closed loop: as soon as a place is free.
    """

    number: int
    payload: bytes
    prompt_tok: int
    output_tok: int
    at_ns: int | None = None
