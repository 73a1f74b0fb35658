"""What each training step sees: a function of its number alone, never of the clock."""

from __future__ import annotations

import math
from dataclasses import dataclass

_WARM_UP_STEPS = 100
_CONSTANT_SHARE = 0.5
_LEAST = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """A stretch of the training, up to the share `until` of all steps."""

    until: float
    context_tok: int
    step_tok: int
    needle_share: float

    @property
    def sequences(self) -> int:
        return self.step_tok // self.context_tok


PHASES = (
    Phase(until=0.60, context_tok=128, step_tok=1536, needle_share=0.30),
    Phase(until=0.78, context_tok=256, step_tok=2048, needle_share=0.35),
    Phase(until=0.90, context_tok=512, step_tok=3072, needle_share=0.50),
    Phase(until=1.00, context_tok=1024, step_tok=4096, needle_share=0.60),
)
"""Short contexts first: they are cheap, and teach what the long ones need."""


def phase(step: int, steps: int) -> Phase:
    return next((p for p in PHASES if step < p.until * steps), PHASES[-1])


def rate(step: int, steps: int) -> float:
    """Learning rate relative to its peak: a linear rise, a plateau, then half a cosine down."""
    rise = min(1.0, (step + 1) / _WARM_UP_STEPS)
    done = step / steps
    if done < _CONSTANT_SHARE:
        return rise
    fall = 0.5 * (1 + math.cos(math.pi * (done - _CONSTANT_SHARE) / (1 - _CONSTANT_SHARE)))
    return rise * max(_LEAST, fall)
