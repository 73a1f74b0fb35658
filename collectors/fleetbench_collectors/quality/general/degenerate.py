"""Answers that are no answers: empty, garbage, one token without end, loops, log-probabilities that are no numbers."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from fleetbench_collectors.quality.general.item import Reply

_MIN_CHARS = 40
_FLOOD_SHARE = 0.9
_GARBAGE_SHARE = 0.05
_LOOP = re.compile(r"(.{4,200}?)\1{4,}\s*\Z", re.DOTALL)
"""A tail of five repeats at least, so that a list of like lines is none; the period is limited for time."""
_TAIL_CHARS = 1200
_LOOP_CHARS = 60


def why(reply: Reply, logprobs: Sequence[float | None] = ()) -> str | None:
    """nan, empty, garbage, flood or loop; None for an answer that is none of these, right or wrong."""
    if any(value is not None and not math.isfinite(value) for value in logprobs):
        return "nan"
    text = reply.text.strip()
    if not text:
        return None if reply.calls else "empty"
    odd = sum(char == "\N{REPLACEMENT CHARACTER}" or (ord(char) < ord(" ") and char not in "\n\t\r") for char in text)
    if odd > _GARBAGE_SHARE * len(text):
        return "garbage"
    if len(text) < _MIN_CHARS:
        return None
    if max(_share(list(text)), _share(text.split())) >= _FLOOD_SHARE:
        return "flood"
    found = _LOOP.search(text[-_TAIL_CHARS:])
    return "loop" if found and len(found[0]) >= _LOOP_CHARS else None


def _share(parts: Sequence[str]) -> float:
    """Of the most frequent of several parts."""
    return Counter(parts).most_common(1)[0][1] / len(parts) if len(parts) > 1 else 0.0
