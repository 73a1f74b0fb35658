"""Which of a matrix's engine arguments a node refuses: by its settings, whatever the engine makes of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

Allowed = Literal["any"] | tuple[str, ...]
NEVER = ("--host", "--port", "--master-addr", "--dist-init-addr", "--data-parallel-address")
"""An engine listens on loopback, and where fleetbench asks it; `any` means all flags but these."""
SHORTEST = len("--h")
"""Parsers complete a long flag; what is no longer than this is taken for what it is."""
NUMBER = re.compile(r"-\d+(\.\d+)?")


def refused_args(args: Sequence[str], allowed: Allowed) -> tuple[str, ...]:
    """The arguments that are not allowed, in order, flags without their values.

    A flag counts only as it is spelled in `allowed`: parsers complete a beginning of it, and take `-xVALUE` for `-x
    VALUE`, but no list can say that. Words behind an allowed flag are its values; a word in front of every flag, or
    behind a refused one, belongs to nothing that was allowed.

    Args:
        args: as the matrix has them, for one engine.
        allowed: flags, or `any`.
    """
    refused: list[str] = []
    valued = allowed == "any"
    for word in args:
        if word.startswith("-") and not NUMBER.fullmatch(word):
            flag = word.partition("=")[0]
            valued = _is_allowed(flag, allowed)
            if not valued:
                refused.append(flag)
        elif not valued and not refused:
            refused.append(word)
    return tuple(dict.fromkeys(refused))


def refusal(engine: str, args: Sequence[str], allowed: Allowed) -> str | None:
    """Why an engine is not started with a matrix's arguments on this node; None where all are allowed."""
    refused = refused_args(args, allowed)
    if not refused:
        return None
    listening = [flag for flag in refused if _is_listening(flag)]
    if listening:
        return f"{engine}: no matrix may set {listening[0]}: engines listen on loopback (remove it from the matrix)"
    several = "s" if len(refused) > 1 else ""
    return (
        f"{engine}: this node does not let a matrix set the argument{several} {', '.join(refused)}: "
        f"write {'them' if several else 'it'} under engines: {engine}: matrix_args: in the node's settings"
    )


def _is_allowed(flag: str, allowed: Allowed) -> bool:
    if _is_listening(flag) or flag == "--":
        return False
    return allowed == "any" or flag in allowed


def _is_listening(flag: str) -> bool:
    spelled = flag.replace("_", "-")
    return any(spelled == never or (len(spelled) > SHORTEST and never.startswith(spelled)) for never in NEVER)
